"""Collateral: a caching client of the vendors' services, and the same from files."""
