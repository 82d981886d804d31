"""Trains and measures hierseg's checkpoints: `python -m train fit | evaluate`."""
