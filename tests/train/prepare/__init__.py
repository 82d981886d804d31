"""Tests of train/prepare."""
