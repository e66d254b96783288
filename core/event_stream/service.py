"""Threads that deliver, one per webhook: a receiver that is slow holds up nobody else's events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from ..catalog import Catalog
from ..jobs.worker import worker_name
from ..spi.errors import StorageError
from .delivery import Deliverer
from .options import Webhook
from .sending import Sender

_log = logging.getLogger("bollard.events")


class WebhookService:
    """Delivers to all webhooks of a configuration; use it in a `with` block.

    Args:
        poll: seconds between two looks at the stream when nothing happens.
    """

    def __init__(self, catalog: Catalog, webhooks: Mapping[str, Webhook], *, poll: float = 1.0) -> None:
        self._catalog = catalog
        self._poll = poll
        self._stop = threading.Event()
        self._senders = {name: Sender(webhook) for name, webhook in webhooks.items()}
        self._threads = [
            threading.Thread(target=self._serve, args=(name, webhook), name=f"webhook-{name}", daemon=True)
            for name, webhook in webhooks.items()
        ]

    def __enter__(self) -> WebhookService:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for sender in self._senders.values():  # a receiver that is slow to answer must not hold us up
            sender.cut()
        for thread in self._threads:
            thread.join()

    def _serve(self, name: str, webhook: Webhook) -> None:
        sender = self._senders[name]
        deliverer = Deliverer(self._catalog, name, webhook, sender, owner=worker_name(), stop=self._stop)
        try:
            while not self._stop.is_set():
                if not self._step(name, deliverer):
                    self._stop.wait(self._poll)
        finally:
            sender.close()

    def _step(self, name: str, deliverer: Deliverer) -> bool:
        try:
            return deliverer.step()
        except StorageError as error:
            _log.warning("webhook %s: %s", name, error)
        except Exception:  # noqa: BLE001 - the edge: a bug with one event must not end all deliveries unnoticed
            _log.exception("webhook %s", name)
        return False
