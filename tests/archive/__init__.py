"""Tests of hierseg.archive."""
