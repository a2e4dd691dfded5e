"""Measurements of the hot loops; never run by the tests."""
