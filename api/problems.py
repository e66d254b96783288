"""Errors as problem+json (RFC 9457), with the taxonomy's code and outcome."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..core.spi.errors import Internal, StorageError
from ..transfer_objects.errors import DecodeError

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = 2

STATUS: Mapping[str, int] = {
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "conflict": 409,
    "in_use": 409,
    "has_dependents": 409,
    "limit_exceeded": 422,
    "internal": 500,
    "data_loss": 500,
    "unsupported": 501,
    "busy": 503,
    "unavailable": 503,
    "deadline_exceeded": 504,
    "out_of_capacity": 507,
}

# What HTTP itself refuses, in the taxonomy's words.
_CODES: Mapping[int, str] = {
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    413: "limit_exceeded",
    431: "limit_exceeded",
    503: "unavailable",
}


def problem(
    status: int, code: str, detail: str, *, outcome: str, retryable: bool, request_id: str
) -> JSONResponse:
    """Return an answer that says what went wrong."""
    body = {
        "type": f"urn:bollard:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "outcome": outcome,
        "retryable": retryable,
        "request_id": request_id,
    }
    headers = {"Retry-After": str(_RETRY_SECONDS)} if retryable else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="bollard"'
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""

    @app.exception_handler(StorageError)
    def _storage_error(request: Request, error: StorageError) -> JSONResponse:
        return of_error(error, request_id(request))

    @app.exception_handler(DecodeError)
    def _decode_error(request: Request, error: DecodeError) -> JSONResponse:
        return _refused(400, "invalid_argument", str(error), request)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Where and which rule; never the value, which may be a token in the wrong place.
        said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        return _refused(400, "invalid_argument", "; ".join(said), request)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "invalid_argument")
        answer = _refused(error.status_code, code, str(error.detail), request)
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _allowed(app, request)):
            answer.headers["Allow"] = allowed
        return answer

    @app.exception_handler(Exception)
    def _bug(request: Request, error: Exception) -> JSONResponse:
        # uvicorn logs it with its trace; the text may hold anything.
        return of_error(Internal(f"a bug: {type(error).__name__}"), request_id(request))


def _allowed(app: FastAPI, request: Request) -> str:
    """Return what all routes of a path allow; Starlette tells those of the first one alone."""
    for pattern, operations in app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", pattern), request.url.path):
            return ", ".join(sorted(method.upper() for method in operations))
    return ""


def of_error(error: StorageError, request: str) -> JSONResponse:
    """Return an error of the taxonomy as a problem."""
    return problem(
        STATUS.get(error.code, 500),
        error.code,
        error.message,
        outcome=error.outcome.value,
        retryable=error.retryable,
        request_id=request,
    )


def request_id(request: Request) -> str:
    """Return the id that the outermost middleware gave the request."""
    return str(request.scope.get("bollard.request_id", ""))


def _refused(status: int, code: str, detail: str, request: Request) -> JSONResponse:
    return problem(
        status, code, detail, outcome="not_applied", retryable=False, request_id=request_id(request)
    )
