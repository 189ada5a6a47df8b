"""What browsers need of the library: entries as JSON, search, pictures, routes. No torch, no Gradio."""
