"""Wheels to package trees: inspected once, laid out without unpacking, fetched or found in the cache."""
