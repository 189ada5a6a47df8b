"""Draws, trains and exports the demo's small picture model and its adapters; the product imports nothing of it."""
