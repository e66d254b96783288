"""The OpenAPI document is what the server does, and what is kept in docs/."""

from __future__ import annotations

import json
from pathlib import Path

from bollard.api.app import described_app
from bollard.api.document import document_text
from bollard.core.jobs.command_classes import command_classes

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_kept_document_is_up_to_date():
    """After a change: bollard api openapi > docs/openapi.json."""
    assert KEPT.read_text() == document_text(described_app())


def test_the_server_serves_the_kept_document(client):
    """What a client reads from the server is the document of the repository."""
    assert client.get("/openapi.json").json() == json.loads(KEPT.read_text())


def test_every_command_is_in_the_document():
    """Version 3.1, each command with its schema, no reference that leads nowhere, problems everywhere."""
    text = KEPT.read_text()
    document = json.loads(text)
    schemas = document["components"]["schemas"]
    operations = [op for path in document["paths"].values() for op in path.values()]

    assert document["openapi"].startswith("3.1")
    assert set(command_classes()) <= set(schemas)
    assert {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]} <= set(schemas)
    assert all("application/problem+json" in op["responses"]["default"]["content"] for op in operations)
