"""Fencing by IPMI 2.0 (RMCP+), with pyghmi."""
