"""Tests of hierseg/network."""
