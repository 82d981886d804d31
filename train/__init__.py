"""Train and measure hierseg's checkpoints: `python -m train fit | evaluate`."""
