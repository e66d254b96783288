"""Tokens: who may do what.

    bollard_<id>_<secret>      what a client sends        Authorization: Bearer bollard_3f…_9c…
    tokens.json                 what the server keeps      id, name, scopes, SHA-256 of the secret, expiry

A plain hash is enough: the secret is 256 random bits, which nobody guesses at any speed. The file is read
again when it changes, so a token that was removed is refused at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from ..core.spi.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from ..transfer_objects.secret import Secret

_TOKEN = re.compile(r"bollard_([0-9a-f]{16})_([0-9A-Za-z_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NOBODY = hashlib.sha256(b"").hexdigest()


class Scope(StrEnum):
    """What a token allows; each includes the ones before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


_RANK = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the server knows it.

    Attributes:
        name: of whoever has it; jobs are theirs.
        hash: SHA-256 of the secret, in hex.
        expires: seconds since 1970; 0 never.
    """

    id: str
    name: str
    scope: Scope
    hash: str
    created: float
    expires: float = 0.0

    def require(self, scope: Scope) -> None:
        """Raise `PermissionDenied` unless the token allows that."""
        if _RANK[self.scope] < _RANK[scope]:
            raise PermissionDenied(f"this needs a token with the scope {scope}; {self.name} has {self.scope}")


class Tokens:
    """The file of tokens; safe for threads.

    Args:
        path: need not exist yet.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def check(self, text: str) -> Token:
        """Return the token that a client sent, or raise `Unauthenticated`: wrong, unknown, or expired."""
        parts = _TOKEN.fullmatch(text)
        token = self._load().get(parts[1]) if parts else None
        given = hashlib.sha256((parts[2] if parts else "").encode()).hexdigest()
        # Compared in any case, in constant time: how long a refusal takes tells nothing.
        same = hmac.compare_digest(given, token.hash if token else _NOBODY)
        if token is None or not same or (token.expires and token.expires <= self._clock()):
            raise Unauthenticated("the token is wrong, unknown or expired")
        return token

    def all(self) -> Collection[Token]:
        """Return all tokens, the oldest first."""
        return sorted(self._load().values(), key=lambda token: token.created)

    def create(self, name: str, scope: Scope, *, seconds: float = 0.0) -> tuple[Token, Secret]:
        """Add a token; its text is shown this once and kept nowhere.

        Args:
            seconds: for which it is valid; 0: for ever.

        Raises:
            InvalidArgument: the name is none.
            Conflict: somebody has a token of that name.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgument("a token's name has 1 to 63 letters, digits, dots, dashes and underscores")
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        token = Token(
            id=secrets.token_hex(8),
            name=name,
            scope=scope,
            hash=hashlib.sha256(secret.encode()).hexdigest(),
            created=now,
            expires=now + seconds if seconds else 0.0,
        )
        with self._changing() as tokens:
            if any(known.name == name for known in tokens):
                raise Conflict(f"there is a token {name!r}; remove it first")
            self._save([*tokens, token])
        return token, Secret(f"bollard_{token.id}_{secret}")

    def remove(self, name: str) -> None:
        """Take a token away; raises `NotFound`."""
        with self._changing() as tokens:
            kept = [token for token in tokens if token.name != name]
            if len(kept) == len(tokens):
                raise NotFound(f"there is no token {name!r}")
            self._save(kept)

    @contextmanager
    def _changing(self) -> Iterator[Collection[Token]]:
        """Keep others from changing the file: what one had read before brought a removed token back."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._path.with_name(f".{self._path.name}.lock")
        with os.fdopen(os.open(lock, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self.all()

    def _load(self) -> dict[str, Token]:
        with self._lock:
            try:
                now = self._path.stat()
            except FileNotFoundError:
                self._tokens, self._seen = {}, None
                return self._tokens
            seen = (now.st_mtime_ns, now.st_size, now.st_ino)
            if seen != self._seen:
                self._tokens, self._seen = self._read(now.st_mode), seen
            return self._tokens

    def _read(self, mode: int) -> dict[str, Token]:
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidArgument(f"others may write to {self._path}: chmod 600 {self._path}")
        try:
            rows = json.loads(self._path.read_bytes())["tokens"]
            found = [Token(**(row | {"scope": Scope(row["scope"])})) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(f"{self._path} is no file of tokens") from error
        return {token.id: token for token in found}

    def _save(self, tokens: Collection[Token]) -> None:
        """Replace the file in one step."""
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump({"tokens": [asdict(token) for token in tokens]}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)
