"""Acme's storage driver for Bollard: the example that vendors start from. Read `driver.py`."""
