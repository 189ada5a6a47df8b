"""Runners that draw elsewhere: in processes of their own, in running WebUIs, on a cluster of Ray."""
