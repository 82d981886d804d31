"""Make data folders from published data sets: `python -m train prepare SOURCE`. Nothing is downloaded."""
