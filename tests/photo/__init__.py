"""Tests of hierseg/photo."""
