"""Tests of hierseg/losses."""
