"""Data folders from what the data sets' authors publish: `python -m train prepare SOURCE`. Nothing is downloaded."""
