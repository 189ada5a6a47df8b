"""The only room that knows the AUTOMATIC1111 WebUI. `register.register()` is the way in; importing does nothing."""
