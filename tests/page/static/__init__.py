"""Tests of hierseg.page.static."""
