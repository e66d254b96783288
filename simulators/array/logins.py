"""REST sessions: a password becomes a token that expires; only so many at a time; calls only so fast."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading

from . import rules
from .core import Core, Json, stamp
from .defects import Defect
from .errors import ArrayError


class Logins:
    """The REST sessions. They end with the process, as they do when a controller restarts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._expiry: dict[bytes, float] = {}  # by hash: a dump of this process shows no usable token

    def login(self, body: Json) -> Json:
        """A new token. Raises bad_credentials or session_limit."""
        rules.check_keys(body, ("username", "password"))
        if not self.is_admin(rules.text(body, "username"), rules.text(body, "password")):
            echo = Defect.PASSWORD_ECHOED_IN_ERROR in self._core.defects
            shown = f" {body['password']!r}" if echo else ""
            raise ArrayError("bad_credentials", f"wrong user name or password{shown}")
        token, settings, now = secrets.token_urlsafe(32), self._core.settings, self._core.clock()
        with self._lock:
            self._expiry = {key: expiry for key, expiry in self._expiry.items() if expiry > now}
            if len(self._expiry) >= settings.session_limit:
                wait = math.ceil(min(self._expiry.values()) - now)
                raise ArrayError("session_limit", "too many sessions", retry_after=max(1, wait))
            self._expiry[_hash(token)] = now + settings.session_seconds
        expires = stamp(now + settings.session_seconds)
        return {"token": token, "expires_in": settings.session_seconds, "expires_at": expires}

    def is_admin(self, username: str, password: str) -> bool:
        """Whether these are the administrator's, in constant time."""
        settings = self._core.settings
        same_name = hmac.compare_digest(username.encode(), settings.username.encode())
        return hmac.compare_digest(password.encode(), settings.password.encode()) and same_name

    def check(self, token: str) -> None:
        """Raise token_expired unless the token is good."""
        with self._lock:
            expiry = self._expiry.get(_hash(token), 0.0)
        if expiry <= self._core.clock():
            raise ArrayError("token_expired", "the session is over")

    def logout(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._expiry.pop(_hash(token), None)


class Throttle:
    """So many REST calls per second, with a second's worth of burst."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._tokens = core.settings.rate_limit
        self._seen = core.clock()

    def admit(self) -> None:
        """Count a call. Raises rate_limited with the seconds to wait."""
        rate = self._core.settings.rate_limit
        if not rate:
            return
        with self._lock:
            now = self._core.clock()
            self._tokens = min(max(rate, 1.0), self._tokens + (now - self._seen) * rate)
            self._seen = now
            if self._tokens < 1:
                wait = math.ceil((1 - self._tokens) / rate)
                raise ArrayError("rate_limited", "too many requests", retry_after=wait)
            self._tokens -= 1


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
