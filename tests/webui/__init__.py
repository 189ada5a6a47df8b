"""Tests against a real AUTOMATIC1111 WebUI: see docs/webui.md. Collected only where WEBUI_ROOT is set."""
