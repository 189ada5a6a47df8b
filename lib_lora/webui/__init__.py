"""The only rooms that know the AUTOMATIC1111 WebUI. `register.register()` is the way in; importing does nothing."""
