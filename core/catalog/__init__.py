"""Durable records: what exists, in which state, and who belongs to whom (SQLAlchemy; SQLite by default)."""

from .catalog import Base, Catalog

__all__ = ["Base", "Catalog"]
