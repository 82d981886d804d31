"""Speed and memory as ratios, each table measured in one run: `python -m benchmarks`."""
