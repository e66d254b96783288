"""What a request says and what it is answered: JSON objects, checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Response, request

from .errors import Refused
from .records import Body

View = Callable[..., Response]


def body_of() -> Body:
    """The request's JSON object; an empty body is an empty object."""
    try:
        body = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise Refused(400, "bad_request", "the body is not JSON") from error
    if not isinstance(body, dict):
        raise Refused(400, "bad_request", "the body is not a JSON object")
    return body


def text_in(name: str) -> str:
    """A text that is required."""
    value = body_of().get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, "bad_request", f"{name} (text) is required")
    return value


def paths_in(name: str) -> dict[str, str]:
    """Disk id to absolute path."""
    value = body_of().get(name)
    if not isinstance(value, dict) or not all(str(path).startswith("/") for path in value.values()):
        raise Refused(400, "bad_request", f"{name} is an object of disk id to absolute path")
    return value


def objects_in(name: str) -> list[Body]:
    """A list of objects."""
    value = body_of().get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Refused(400, "bad_request", f"{name} is a list of objects")
    return value


def number_in(name: str, default: float) -> float:
    """A number that is not negative."""
    value = body_of().get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise Refused(400, "bad_request", f"{name} is a number that is not negative")
    return float(value)


def ok(body: Any) -> Response:
    """200 with JSON."""
    return Response(json.dumps(body), content_type="application/json")


def gone() -> Response:
    """204: it is not there, any more or from the beginning."""
    return Response("", 204)
