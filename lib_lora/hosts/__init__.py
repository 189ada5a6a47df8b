"""Models of other libraries as hosts."""
