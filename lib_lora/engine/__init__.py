"""What every weight shall be, and the only code that makes it so."""
