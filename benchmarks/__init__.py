"""Speed and memory, ours and the peers' side by side in one run: `python -m benchmarks.patching`, `benchmarks.webui`, ..."""
