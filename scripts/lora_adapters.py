"""Run by the WebUI each time it loads scripts: a door, the room is lib_lora.webui."""

from lib_lora.webui.register import register

register()
