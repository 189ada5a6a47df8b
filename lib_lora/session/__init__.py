"""One model over one picture: what it carries now, and the report."""
