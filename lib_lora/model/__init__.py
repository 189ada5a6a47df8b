"""One model: its modules and parameters, as adapters name them."""
