"""Tests of hierseg/tree."""
