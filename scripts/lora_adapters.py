"""Run by the WebUI each time it loads scripts: a doorbell, the door is lib_lora.webui.entrance."""

from lib_lora.webui.entrance import enter

enter()
