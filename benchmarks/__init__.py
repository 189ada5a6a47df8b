"""Speed and memory, ours and the others' side by side in one run: `python -m benchmarks.patching`, `.webui`, ..."""
