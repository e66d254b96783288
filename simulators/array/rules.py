"""The array's limits and what it accepts in a request body."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from .errors import ArrayError, invalid

VOLUME_MIN = 512
VOLUME_MAX = 64 * 2**40
SIZE_MULTIPLE = 512
MAX_VOLUMES = 10_000
MAX_SNAPSHOTS = 256
MAX_GRANTS = 64
NAME_LENGTH = 64
METADATA_BYTES = 4096
MAX_PAGE = 1000
MAX_CHANGES = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9][a-z0-9.-]*(:[a-z0-9.:_-]+)?")
_SECRET = re.compile(r"[\x21-\x7e]{12,64}")
_QOS = ("min_iops", "max_iops", "min_bandwidth", "max_bandwidth")

Body = dict[str, Any]


def check_keys(body: object, required: Iterable[str] = (), optional: Iterable[str] = ()) -> Body:
    """A JSON object with exactly these keys."""
    if not isinstance(body, dict):
        raise ArrayError("invalid_argument", "the body must be a JSON object")
    for key in required:
        if key not in body:
            raise invalid(key, "is missing")
    for key in body:
        if key not in {*required, *optional}:
            raise invalid(str(key), "is not known here")
    return body


def text(body: Body, key: str) -> str:
    """A string."""
    value = body[key]
    if not isinstance(value, str):
        raise invalid(key, "must be a string")
    return value


def flag(body: Body, key: str) -> bool:
    """A boolean, false when it is missing."""
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise invalid(key, "must be true or false")
    return value


def texts(body: Body, key: str, most: int) -> list[str]:
    """A list of different strings."""
    value = body[key]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise invalid(key, "must be a list of strings")
    if len(value) > most or len(set(value)) != len(value):
        raise invalid(key, f"must hold at most {most} different strings")
    return value


def name(body: Body, key: str = "name") -> str:
    """An object's name."""
    value = text(body, key)
    if not _NAME.fullmatch(value):
        raise invalid(key, f"must be 1-{NAME_LENGTH} of A-Z a-z 0-9 . _ - and begin with a letter or digit")
    return value


def size(body: Body, at_least: int = VOLUME_MIN) -> int:
    """A volume's size in bytes."""
    value = body["size"]
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid("size", "must be a whole number of bytes")
    if value % SIZE_MULTIPLE or not VOLUME_MIN <= value <= VOLUME_MAX:
        raise invalid("size", f"must be a multiple of {SIZE_MULTIPLE} from {VOLUME_MIN} to {VOLUME_MAX}")
    if value < at_least:
        raise invalid("size", f"must be at least the source's {at_least}")
    return value


def metadata(body: Body) -> dict[str, str]:
    """The caller's own labels."""
    value = body.get("metadata", {})
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise invalid("metadata", "must map strings to strings")
    if len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > METADATA_BYTES:
        raise invalid("metadata", f"must be at most {METADATA_BYTES} bytes of JSON")
    return value


def qos(body: Body) -> dict[str, int | None]:
    """Limits; what is not named is unlimited."""
    value = body.get("qos") or {}
    if not isinstance(value, dict):
        raise invalid("qos", "must be an object")
    for key, number in value.items():
        if key not in _QOS:
            raise invalid(f"qos.{key}", "is not known here")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
            raise invalid(f"qos.{key}", "must be a whole number from 1, or null")
    for kind in ("iops", "bandwidth"):
        low, high = value.get(f"min_{kind}"), value.get(f"max_{kind}")
        if low is not None and high is not None and low > high:
            raise invalid(f"qos.min_{kind}", f"must not be more than max_{kind}")
    return {key: value.get(key) for key in _QOS}


def iqn(body: Body) -> str:
    """An initiator's name."""
    value = text(body, "iqn")
    if not _IQN.fullmatch(value) or len(value) > 223:
        raise invalid("iqn", "must look like iqn.2024-01.org.example:host-1")
    return value


def chap_secret(body: Body, *, echo: bool) -> str:
    """A CHAP secret; ``echo`` (a defect) repeats a bad one in the refusal."""
    value = text(body, "chap_secret")
    if not _SECRET.fullmatch(value):
        shown = f" (got {value})" if echo else ""
        raise invalid("chap_secret", "must be 12-64 printable ASCII characters without spaces" + shown)
    return value
