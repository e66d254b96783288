"""The examples of docs/api.md, run as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest

from bollard.api.tokens import Scope

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
THERE = "http://127.0.0.1:8480"


def _block(language: str) -> str:
    """The first example in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def command() -> dict:
    """The command that the curl example orders."""
    words = shlex.split(_block("console").replace("$ ", "", 1).partition("\n$ curl -s ")[0])
    return json.loads(words[words.index("-d") + 1])


def test_the_httpx_example_follows_a_job_to_its_end(running, command, monkeypatch, capsys):
    """It orders, waits, and ends when the job has; the same key again is the same job."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    source = _block("python").replace(THERE, running.url)
    assert THERE in _block("python")
    for _ in range(2):
        known = {"token": running.secrets[Scope.OPERATE], "command": command}
        exec(compile(source, str(PAGE), "exec"), known)  # noqa: S102 - our own page
        assert (known["job"]["state"], known["job"]["over"]) == ("Succeeded", True)
    assert [call.data.uuid for call, _ in running.executor.calls] == ["vol-1"]
    assert "Traceback" not in capsys.readouterr().out


def test_the_curl_example_is_an_order(running, command):
    """Its method, headers and body are taken, and lead to a job."""
    text = _block("console")
    assert "-H 'Idempotency-Key: order-1'" in text
    with running.client(Scope.OPERATE) as client:
        answer = client.post(
            httpx.URL("/v1/commands"), content=json.dumps(command), headers={"Idempotency-Key": "curl-1"}
        )
    assert answer.status_code == 202
    assert answer.headers["location"].startswith("/v1/jobs/")
