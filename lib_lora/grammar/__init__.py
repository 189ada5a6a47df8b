"""What a person types, and what the text means."""
