"""What browsers need of the library: entries as JSON, search, pictures, routes. Neither torch nor Gradio is imported."""
