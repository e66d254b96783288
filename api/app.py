"""The application: routes, errors, and what stands around them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from . import jobs, ordering, problems, records, state
from .document import build
from .outside import Outside
from .services import Services

_DESCRIPTION = """The storage data plane of a VM cloud: commands are ordered, become jobs, and are followed.

Every operation can be repeated. Errors are problems (RFC 9457) with a code and with what is known about the
effect. A token with the scope `read` looks, `operate` orders and cancels, `admin` sweeps."""


def create_app(services: Services, *, new_id: Callable[[], str] = lambda: uuid.uuid4().hex) -> FastAPI:
    """Return the application. Its routes work with `services`, which the caller closes."""
    app = described_app()
    app.state.services = services
    problems.install(app)
    app.add_middleware(Outside, max_body=services.max_body, new_id=new_id, seen=services.figures.seen)
    return app


def described_app() -> FastAPI:
    """Return the application with its routes and its document; they cannot be called."""
    app = FastAPI(
        title="Bollard",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,  # both load their scripts from another machine
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    for module in (state, ordering, jobs, records):
        app.include_router(module.router)
    _document_once(app)
    return app


def _document_once(app: FastAPI) -> None:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to change the document
