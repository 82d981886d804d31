"""The project that this one grew from, to be compared with: `python -m studies.predecessor convert | evaluate`."""
