"""How the tables came to be what they are; see `core.catalog.schema`."""
