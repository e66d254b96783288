"""The OpenAPI document: FastAPI's, with the commands' own schemas and the problems that may be answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ..core.jobs.command_classes import command_classes
from ..transfer_objects.schema import definitions
from .models import Problem
from .problems import MEDIA_TYPE

CLOUDSTACK = "application/vnd.cloudstack+json"
_SCHEMAS = "#/components/schemas/"
_METHODS = ("get", "post", "put", "delete", "patch")


def command_body() -> dict[str, Any]:
    """Return the request body of an order: one command in either JSON."""
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"{_SCHEMAS}AnyCommand"}},
            CLOUDSTACK: {
                "schema": {
                    "description": "CloudStack's JSON: one command under the name of its class.",
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                }
            },
        },
    }


def build(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _own_schemas()
    schemas["Problem"] = Problem.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form, which is not used
        schemas.pop(name, None)
    for operation in _operations(found):
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = {
            "description": "It was not done; the problem says why.",
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}},
        }
    return found


def document_text(app: FastAPI) -> str:
    """Return the document as it is kept in docs/openapi.json."""
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _own_schemas() -> dict[str, Any]:
    commands = command_classes()
    text = json.dumps(definitions(*commands.values())).replace("#/$defs/", _SCHEMAS)
    schemas: dict[str, Any] = json.loads(text)
    schemas["AnyCommand"] = {
        "oneOf": [{"$ref": f"{_SCHEMAS}{name}"} for name in commands],
        "discriminator": {"propertyName": "type", "mapping": {n: f"{_SCHEMAS}{n}" for n in commands}},
    }
    return schemas


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from (path[method] for method in _METHODS if method in path)
