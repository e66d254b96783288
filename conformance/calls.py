"""What the driver was asked and what it answered: the evidence behind a finding.

One log per run; each check begins it anew. Secrets are taken out when it is read: a CHAP secret is known
only once a host was granted.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.redact import Redactor, secrets_of
from ..core.spi import Body, Call, Host, StorageError
from ..transfer_objects.secret import Secret
from .model import CallRecord

# A model-based check makes thousands of calls; the last ones before a failure are what is read.
KEPT = 200
_LONGEST = 300


class CallLog:
    """The calls of one check, newest last; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[CallRecord] = []
        self._secrets: dict[int, Secret] = {}
        self._errors: list[tuple[str, BaseException]] = []
        self._began = time.monotonic()

    def begin(self) -> None:
        """Forget the check before."""
        with self._lock:
            self._records.clear()
            self._errors.clear()
            self._began = time.monotonic()

    def know(self, secrets: Iterable[Secret]) -> None:
        """Remember what may not be shown."""
        with self._lock:
            self._secrets.update((id(secret), secret) for secret in secrets)

    def secrets(self) -> list[Secret]:
        """Return all secrets that went through the driver's door."""
        with self._lock:
            return list(self._secrets.values())

    def redactor(self) -> Redactor:
        """Return what takes those secrets out of a text."""
        return Redactor(self.secrets())

    def add(self, method: str, given: Mapping[str, Any], started: float, answer: object) -> None:
        """Note a call that ended; `answer` is what it returned or raised."""
        ended = time.monotonic()
        failed = isinstance(answer, BaseException)
        record = CallRecord(
            at=started - self._began,
            call=f"{method}({_arguments(given)})"[:_LONGEST],
            seconds=ended - started,
            answer=(_error(answer) if isinstance(answer, BaseException) else _short(answer))[:_LONGEST],
            failed=failed,
        )
        with self._lock:
            self._records.append(record)
            del self._records[:-KEPT]
            if isinstance(answer, BaseException):
                self._errors.append((method, answer))
                del self._errors[:-KEPT]

    def errors(self) -> list[tuple[str, BaseException]]:
        """Return method and error of the check's failed calls."""
        with self._lock:
            return list(self._errors)

    def taken(self) -> tuple[CallRecord, ...]:
        """Return the check's calls without secrets."""
        redact = self.redactor()
        with self._lock:
            records = list(self._records)
        return tuple(
            dataclasses.replace(
                r,
                call=redact(r.call),
                answer=redact(r.answer),
                at=round(r.at, 4),
                seconds=round(r.seconds, 4),
            )
            for r in records
        )


def secrets_in(given: Mapping[str, Any]) -> list[Secret]:
    """Return the secrets among a call's arguments."""
    found: list[Secret] = []
    for value in given.values():
        found += [value] if isinstance(value, Secret) else secrets_of(value)
    return found


def _arguments(given: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in given.items() if k != "self" and not isinstance(v, Call)}
    return ", ".join(f"{name}={_short(value)}" for name, value in shown.items())


def _short(value: object) -> str:
    """Return a value as a reader wants it: what is unset or says nothing is left out."""
    if isinstance(value, Body):
        return f"<{value.size} bytes>"
    if isinstance(value, Host):
        return f"Host({value.id})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{f.name}={_short(field)}"
            for f in dataclasses.fields(value)
            if (field := getattr(value, f.name)) not in (None, "", {}, ())
        ]
        return f"{type(value).__name__}({', '.join(parts)})"
    return str(value) if isinstance(value, str | int | float) else repr(value)


def _error(error: BaseException) -> str:
    outcome = f" [{error.outcome}]" if isinstance(error, StorageError) else ""
    return f"{type(error).__name__}{outcome}: {error}"
