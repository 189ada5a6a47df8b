"""A file, read: what it adds to every module, knowing no model."""
