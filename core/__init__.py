"""What happens, in which order, and how it survives a crash. Drivers see `spi` and `dataplane` only."""
