"""Tests of hierseg, one module a module."""
