"""tempauth: ``GET /auth/v1.0`` gives a token for a user of an account, until it expires."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from flask import Request, Response, abort

from .store import Store

USERS_ENVIRONMENT = "BOLLARD_SWIFT_USERS"
"""JSON object of "account:user" to key."""


class TempAuth:
    """Users with keys, and the tokens they were given.

    Args:
        store: keeps the tokens (their digests), so that a restart does not log anybody out.
        users: "account:user" to key.
        token_life_s: seconds that a token is valid.
    """

    def __init__(self, store: Store, users: Mapping[str, str], token_life_s: float) -> None:
        self._store = store
        self._users = dict(users)
        self._life_s = token_life_s

    def sign_in(self, request: Request) -> Response:
        """Checks user and key; answers with a token and the account's URL, or 401."""
        user = request.headers.get("X-Auth-User") or request.headers.get("X-Storage-User", "")
        key = request.headers.get("X-Auth-Key") or request.headers.get("X-Storage-Pass", "")
        if not hmac.compare_digest(self._users.get(user, "").encode(), key.encode()) or not key:
            abort(_unauthorized())
        token = "AUTH_tk" + secrets.token_hex(16)
        self._store.index.put_token(_digest(token), user, self._store.clock() + self._life_s)
        headers = {
            "X-Auth-Token": token,
            "X-Storage-Token": token,
            "X-Auth-Token-Expires": str(int(self._life_s)),
            "X-Storage-Url": f"{request.host_url}v1/{_account(user)}",
        }
        return Response("", 200, headers)

    def check(self, request: Request, account: str) -> None:
        """Aborts with 401 without a valid token and with 403 for somebody else's account."""
        token = request.headers.get("X-Auth-Token") or request.headers.get("X-Storage-Token", "")
        user = self._store.index.token_user(_digest(token), self._store.clock())
        if user is None:
            abort(_unauthorized())
        if _account(user) != account:
            abort(403, "Access was denied to this resource.")


def _account(user: str) -> str:
    return "AUTH_" + user.partition(":")[0]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _unauthorized() -> Response:
    return Response("Unauthorized", 401, {"WWW-Authenticate": 'Swift realm="bollard"'})


def load_users(state: Path) -> dict[str, str]:
    """Users from the environment, else from ``users.json`` in the state directory.

    That file is made on first use (mode 0600) with the user ``test:tester`` and a random key.

    Raises:
        ValueError: when the environment variable is not a JSON object of strings.
    """
    given = os.environ.get(USERS_ENVIRONMENT)
    path = state / "users.json"
    if given is None and not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump({"test:tester": secrets.token_urlsafe(18)}, file)
    users = json.loads(path.read_text() if given is None else given)
    if not isinstance(users, dict) or not all(isinstance(key, str) for key in users.values()):
        raise ValueError(f"{USERS_ENVIRONMENT} must be a JSON object of account:user to key")
    return users
