"""Tests of hierseg/page."""
