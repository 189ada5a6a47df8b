"""What the WebUI calls things: its options, and its names for adapters and base models."""
