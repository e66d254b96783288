"""The drivers that ship with Bollard. Each is loaded by its entry-point name."""
