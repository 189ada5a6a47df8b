"""What is added to one weight: one algorithm = one file + one line in a table of `read.py`."""
