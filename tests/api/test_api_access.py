"""Who may do what, how large a request may be, and what the server says of itself."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from bollard.api.server import listen
from bollard.api.tokens import Scope, Tokens
from bollard.core.spi import Conflict, InvalidArgument, NotFound, PermissionDenied, Unauthenticated

CREATE = {"type": "CreateObjectCommand"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Basic Ym9sbGFyZDp4",
        f"Bearer bollard_{'0' * 16}_{'A' * 43}",
        "Bearer bollard_é",
    ],
)
def test_without_a_token_nothing_is_told(running, header):
    """A missing, malformed or unknown token is 401 as a problem, with the challenge that HTTP demands."""
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        answer = client.get("/v1/jobs", headers={"Authorization": header.encode()} if header else {})

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("scope", "look", "order", "sweep"),
    [(Scope.READ, 200, 403, 403), (Scope.OPERATE, 200, 202, 403), (Scope.ADMIN, 200, 202, 202)],
)
def test_scopes(running, scope, look, order, sweep):
    """Each scope allows what it says and no more."""
    with running.client(scope) as client:
        assert client.get("/v1/jobs").status_code == look
        assert client.post("/v1/commands", json=CREATE).status_code == order
        assert client.post("/v1/sweep").status_code == sweep


def test_state_needs_no_token_but_figures_do(running):
    """Health and readiness are for everybody who reaches the port."""
    with running.client(None) as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.get("/ready").json()["status"] == "ready"
        assert client.get("/metrics").status_code == 401


def test_figures_count_requests_and_jobs(running, client):
    """Routes are counted by their pattern, never by a path with an id in it."""
    client.get("/v1/jobs/abc")
    text = client.get("/metrics").text

    assert 'bollard_api_requests_total{method="GET",route="/v1/jobs/{job}",status="404"}' in text
    assert 'bollard_jobs{state="Queued"}' in text
    assert "abc" not in text


def test_a_large_request_is_refused(client):
    """More than 4 MiB is refused, whether the length is announced or not."""
    large = b" " * (4 * 2**20 + 1)

    def chunks():
        yield from (large[: 2**20] for _ in range(5))

    for body in (large, chunks()):
        answer = client.post("/v1/commands", content=body)
        assert (answer.status_code, answer.json()["code"]) == (413, "limit_exceeded")


def test_unknown_paths_and_methods_are_problems(client):
    """HTTP's own refusals have the same form."""
    assert client.get("/v2").json()["code"] == "not_found"
    answer = client.put("/v1/jobs")
    assert (answer.status_code, answer.headers["Content-Type"]) == (405, "application/problem+json")
    assert client.put("/v1/jobs/x").headers["Allow"] == "DELETE, GET"
    assert client.get("/v1/jobs/nobodys").json()["code"] == "not_found"
    assert client.get("/v1/jobs", params={"limit": 0}).json()["code"] == "invalid_argument"


def test_pages_of_jobs(client):
    """Pages show every job once, oldest first."""
    for _ in range(5):
        client.post("/v1/commands", json=CREATE)
    page = client.get("/v1/jobs", params={"limit": 2}).json()
    seen = [job["id"] for job in page["items"]]
    while page["next"]:
        page = client.get("/v1/jobs", params={"limit": 2, "after": page["next"]}).json()
        seen += [job["id"] for job in page["items"]]

    assert seen == [job["id"] for job in client.get("/v1/jobs", params={"limit": 1000}).json()["items"]]
    assert len(seen) >= 5


def test_plain_http_stays_on_this_machine():
    """Without a certificate no other address is listened on; a name is no address."""
    for address in ("0.0.0.0", "192.0.2.1", "localhost"):  # noqa: S104 - refused
        with pytest.raises(InvalidArgument):
            listen(address, 0, plain=True)
    with listen("127.0.0.1", 0, plain=True) as listener:
        assert listener.family == socket.AF_INET


def test_tokens_are_kept_as_hashes(tmp_path):
    """The file holds no secret and is its owner's alone; a token is known by another process's reader."""
    path = tmp_path / "state" / "tokens.json"
    token, text = Tokens(path).create("ci", Scope.OPERATE)

    assert text.reveal().split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert Tokens(path).check(text.reveal()) == token


def test_tokens_expire_and_are_removed_at_once(tmp_path):
    """A reader that has seen a token refuses it as soon as it has expired or was taken away."""
    now = [1000.0]
    reader = Tokens(tmp_path / "t.json", clock=lambda: now[0])
    _, short = reader.create("short", Scope.READ, seconds=10)
    _, long = reader.create("long", Scope.READ)
    reader.check(short.reveal())
    now[0] += 10
    with pytest.raises(Unauthenticated):
        reader.check(short.reveal())
    Tokens(tmp_path / "t.json").remove("long")
    with pytest.raises(Unauthenticated):
        reader.check(long.reveal())


def test_no_change_of_tokens_is_lost(tmp_path):
    """Tokens that are made and removed at the same moment by several programs: all are, and stay, so."""
    path = tmp_path / "tokens.json"
    for n in range(8):
        Tokens(path).create(f"old-{n}", Scope.READ)
    together = threading.Barrier(16)

    def change(n: int) -> None:
        together.wait(20)
        if n < 8:
            Tokens(path).remove(f"old-{n}")
        else:
            Tokens(path).create(f"new-{n}", Scope.READ)

    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(change, n) for n in range(16)]:
            done.result(20)
    assert {token.name for token in Tokens(path).all()} == {f"new-{n}" for n in range(8, 16)}


def test_bad_files_and_names_of_tokens(tmp_path):
    """A name is unique and plain; a file that others may write to, or that is none, is refused."""
    path = tmp_path / "t.json"
    tokens = Tokens(path)
    tokens.create("a", Scope.READ)
    with pytest.raises(Conflict):
        tokens.create("a", Scope.READ)
    with pytest.raises(InvalidArgument):
        tokens.create("a b", Scope.READ)
    with pytest.raises(NotFound):
        tokens.remove("b")
    path.chmod(0o666)
    with pytest.raises(InvalidArgument):
        Tokens(path).all()
    path.chmod(0o600)
    path.write_text(json.dumps({"tokens": [{"id": "x"}]}))
    with pytest.raises(InvalidArgument):
        Tokens(path).all()


def test_a_scope_includes_the_ones_before_it(tmp_path):
    """Operate may read and not sweep."""
    token, _ = Tokens(tmp_path / "t.json").create("a", Scope.OPERATE)
    token.require(Scope.READ)
    with pytest.raises(PermissionDenied):
        token.require(Scope.ADMIN)
