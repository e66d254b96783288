"""`bollard api serve` is killed with jobs under way, on both databases; the next one ends them right."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from api_process import ApiProcess
from bollard.core.catalog import Catalog
from bollard.core.jobs import Job, JobState, Orders
from bollard.transfer_objects import encode_tree
from bollard.transfer_objects.commands import CopyCommand
from command_rig import ARRAY, FILES, noise, volume
from command_rig import Orders as Contents
from site_rig import SiteRig, site_rig

pytest_plugins = ["catalog_fixture"]
pytestmark = pytest.mark.slow

VOLUMES = 6
LEASE = "5"


@pytest.fixture
def rig(tmp_path) -> Iterator[SiteRig]:
    """An array and files, with servers of their own."""
    with site_rig(tmp_path) as made:
        yield made


@pytest.fixture
def serve(rig, catalog_url) -> Iterator[Callable[..., ApiProcess]]:
    """Start a server on the rig; all are ended afterwards."""
    started = []

    def start(*options: str) -> ApiProcess:
        started.append(ApiProcess(rig.home, catalog_url, "--lease", LEASE, *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def contents(rig, monkeypatch) -> Iterator[Contents]:
    """The bytes of the rig's volumes, seen from the same machine."""
    monkeypatch.setenv("BOLLARD_STATE", str(rig.home / "state"))
    with rig.site() as site:
        yield Contents(site)


def _copies() -> Iterator[tuple[str, CopyCommand]]:
    for number in range(VOLUMES):
        source, to = volume(f"from-{number}", ARRAY), volume(f"to-{number}", FILES)
        yield f"copy-{number}", CopyCommand(source=source, destination=to)


def test_jobs_of_a_killed_server_end_right(serve, contents, catalog_url):
    """After kill -9 in the midst of copies the next server ends each: right bytes, nothing left."""
    for number in range(VOLUMES):
        contents.make(volume(f"from-{number}", ARRAY))
    first = serve("--workers", "2")
    places = {key: first.order(encode_tree(command), key) for key, command in _copies()}
    for _ in itertools.count():
        states = [first.client.get(place).json()["state"] for place in places.values()]
        if "Running" in states or set(states) == {"Succeeded"}:
            break
    first.kill()
    cut_off = {job.id for job in _jobs(catalog_url) if job.state is JobState.RUNNING}

    second = serve("--workers", "2")
    again = {key: second.order(encode_tree(command), key) for key, command in _copies()}
    ended = [second.ended(place) for place in places.values()]

    assert again == places
    assert [(job["state"], job["error"]) for job in ended] == [("Succeeded", None)] * VOLUMES
    # One may have ended between our look and the kill; a clash of two copies costs an attempt, too.
    assert {job["id"] for job in ended if job["attempts"] > 1} >= cut_off
    for number in range(VOLUMES):
        assert contents.read(volume(f"to-{number}", FILES)) == noise(f"from-{number}")
    assert second.terminate() == 0
    assert contents.leftovers() == []
    _recorded_once(catalog_url)


def _jobs(catalog_url: str) -> Sequence[Job]:
    catalog = Catalog(catalog_url)
    jobs = Orders(catalog).page()
    catalog.close()
    return jobs


def _recorded_once(catalog_url: str) -> None:
    jobs = _jobs(catalog_url)
    assert len(jobs) == VOLUMES
    assert all(job.state is JobState.SUCCEEDED and job.epoch == job.attempts for job in jobs)


def test_sigterm_gives_jobs_back(serve, contents, catalog_url):
    """A server that is asked to stop does, with exit code 0; what it had begun waits for the next one."""
    contents.make(volume("from-0", ARRAY))
    [(key, command), *_] = _copies()
    first = serve("--workers", "1")
    first.order(encode_tree(command), key)
    assert first.terminate() == 0

    second = serve()
    job = second.ended(second.order(encode_tree(command), key))
    assert job["state"] == "Succeeded"
    assert contents.read(volume("to-0", FILES)) == noise("from-0")

    for path in ("/v1/sync", "/v1/sweep"):
        done = second.ended(second.client.post(path, params={"dry_run": True}).headers["Location"])
        assert (done["state"], done["result"]["errors"]) == ("Succeeded", [])
