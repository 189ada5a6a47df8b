"""Run by the WebUI each time it loads scripts: a doorbell, the door is lib_lora.webui.door."""

from lib_lora.webui.door import enter

enter()
