"""The event stream: every transition of every object, in order, for programs here and elsewhere.

EventStream    read, follow          in this process, or another one on the same catalog
Deliverer      webhooks              signed, at least once, in order per object
DeadLetters    what was given up     looked at, and tried again
"""

from __future__ import annotations

from .dead import DeadLetter, DeadLetters
from .delivery import Deliverer
from .options import Webhook, webhooks_of
from .service import WebhookService
from .stream import EventStream, cloud_event, position_of

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "Deliverer",
    "EventStream",
    "Webhook",
    "WebhookService",
    "cloud_event",
    "position_of",
    "webhooks_of",
]
