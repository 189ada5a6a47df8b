"""Pipelines of diffusers: loaded offline from whatever lies on the disk, and drawn with."""
