"""The project that this one grew from, for comparison: `python -m studies.predecessor convert | evaluate`."""
