"""Bollard: the storage data plane of VM clouds."""
