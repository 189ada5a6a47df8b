"""What an adapter changes, and which of several get into each other's way: exact figures, layer by layer."""
