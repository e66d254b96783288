"""Durable records: what exists, in which state, and who belongs to whom (SQLite or PostgreSQL)."""

from .base import Base
from .catalog import Catalog
from .failures import Contended
from .machine import IllegalTransition, StateMachine
from .outbox import publish
from .transitions import Transition, requested_by, transit

__all__ = [
    "Base",
    "Catalog",
    "Contended",
    "IllegalTransition",
    "StateMachine",
    "Transition",
    "publish",
    "requested_by",
    "transit",
]
