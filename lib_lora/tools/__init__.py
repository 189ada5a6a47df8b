"""Files made of files."""
