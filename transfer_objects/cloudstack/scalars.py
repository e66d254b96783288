"""Single values: as the wire has them, and as CloudStack's log shows them.

The log's writer quotes numbers and booleans and shows sizes for people, in the server's language:

    "wait": "0"     "result": "false"     "size": "(8.00 GB) 8589934592"     "size": "(8,00 GB) 8589934592"
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from ..errors import DecodeError
from ..rules import INT64_MAX, INT64_MIN

_LOGGED = re.compile(r"(?:\(-?[0-9.,\s'\u2019]{1,32} ?[A-Za-z]{1,8}\) )?(-?[0-9]{1,20})")
_DATE_FORMS = (
    "%b %d, %Y %I:%M:%S %p",  # Java 8
    "%b %d, %Y, %I:%M:%S %p",  # Java 9 and later; from 20 on a narrow no-break space before AM
    "%Y-%m-%dT%H:%M:%S%z",
)


def integer(value: Any) -> int:
    """Return a Java long.

    Raises:
        DecodeError: if it is none.
    """
    if isinstance(value, str):
        match = _LOGGED.fullmatch(value)
        if match is None:
            raise DecodeError('must be an integer, or one from a log, as in "(8.00 GB) 8589934592"')
        value = int(match[1])
    if type(value) is not int:
        raise DecodeError(f"must be an integer, not {json_type(value)}")
    if not INT64_MIN <= value <= INT64_MAX:
        raise DecodeError("must be an integer of 64 bits")
    return value


def boolean(value: Any) -> bool:
    """Return a Java boolean.

    Raises:
        DecodeError: if it is none.
    """
    if value in ("true", "false"):
        return bool(value == "true")
    if type(value) is not bool:
        raise DecodeError(f"must be true or false, not {json_type(value)}")
    return value


def string(value: Any) -> str:
    """Return a Java String.

    Raises:
        DecodeError: if it is none.
    """
    if type(value) is not str:
        raise DecodeError(f"must be a string, not {json_type(value)}")
    return value


def text_of_bytes(value: Any) -> str | None:
    """Return a Java byte[] (numbers from -128 to 127) as text; None if it is no UTF-8.

    Raises:
        DecodeError: if it is no byte[].
    """
    if type(value) is not list or not all(type(item) is int and -128 <= item <= 127 for item in value):
        raise DecodeError("must be a list of bytes, from -128 to 127")
    try:
        return bytes(item % 256 for item in value).decode()
    except UnicodeDecodeError:
        return None


def bytes_of_text(text: str) -> list[int]:
    """Return text as a Java byte[]."""
    return [byte - 256 if byte > 127 else byte for byte in text.encode()]


def s3_date(text: str) -> datetime | None:
    """Return the time that an S3 store's `created` means, or None if its form is unknown.

    It is written in the format of the peer's Java and language, without a zone: nothing may depend on it.
    """
    plain = re.sub(r"[\s\u202f\u00a0]+", " ", text.strip())
    for form in _DATE_FORMS:
        try:
            return datetime.strptime(plain, form)  # noqa: DTZ007 - the wire has no zone
        except ValueError:
            continue
    return None


def json_type(value: Any) -> str:
    """Return what JSON calls the type of a value."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", float: "a fraction"}
    return "null" if value is None else names.get(type(value), "a number")
