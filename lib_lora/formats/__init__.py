"""Bytes: files opened, told apart, read without running them, and written whole or not at all."""
