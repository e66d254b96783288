"""Bollard's driver for Zenith. Read `driver.py`."""
