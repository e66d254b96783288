"""The Swift simulator as an object: start it in threads of this process, or as the process itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..serving import HttpSimulator
from .app import SwiftApp
from .auth import TempAuth, load_users
from .defects import SwiftDefects
from .store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DEFAULT_TOKEN_LIFE_S = 86_400.0


class SwiftSimulator(HttpSimulator):
    """A subset of OpenStack Swift with tempauth, SLO and switchable defects; durable in a directory.

        with SwiftSimulator(state, users={"test:tester": key}) as swift:
            connection = swiftclient.Connection(authurl=swift.auth_url, user="test:tester", key=key)

    Args:
        state: directory of the durable state.
        users: "account:user" to key; without it from the environment or a generated file (``load_users``).
        port: TCP port; 0 takes a free one.
        token_life_s: seconds that a token is valid.
        clock: seconds since the epoch, for expiry and time stamps.
    """

    def __init__(
        self,
        state: str | os.PathLike[str],
        *,
        users: Mapping[str, str] | None = None,
        port: int = 0,
        token_life_s: float = DEFAULT_TOKEN_LIFE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(state, port)
        self.defects = SwiftDefects()
        self._users = users
        self._token_life_s = token_life_s
        self._clock = clock
        self._store: Store | None = None
        self._stopping = threading.Event()

    @property
    def auth_url(self) -> str:
        """The tempauth URL that clients sign in at."""
        return f"{self.url}/auth/v1.0"

    def application(self) -> WSGIApplication:
        """Opens the store and builds the application."""
        self._stopping.clear()
        self._store = Store(self.state, self._clock)
        users = load_users(self.state) if self._users is None else self._users
        auth = TempAuth(self._store, users, self._token_life_s)
        return SwiftApp(self._store, auth, self.defects, self._stopping.wait).flask()

    def stop(self) -> None:
        """Ends waiting requests too."""
        self._stopping.set()
        super().stop()

    def close_state(self) -> None:
        """Closes the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def ready(self) -> dict[str, object]:
        """Where to sign in and, when the keys were generated, where to read them."""
        users_file = self.state / "users.json"
        found = {"users_file": str(users_file)} if users_file.exists() else {}
        return {"auth_url": self.auth_url, **found}
