"""Does the tree loss help? Trains and compares losses: `python -m studies.losses sweep | report`."""
