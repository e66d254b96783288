"""Commands over HTTP: ordered, followed, cancelled, repeated; in both kinds of JSON."""

from __future__ import annotations

import json

import pytest

from bollard.api.tokens import Scope
from bollard.transfer_objects import Secret, VolumeObjectTO, encode, encode_tree
from bollard.transfer_objects.cloudstack import Payload
from bollard.transfer_objects.commands import (
    AttachCommand,
    CopyCommand,
    CreateObjectAnswer,
    CreateObjectCommand,
    DeleteCommand,
    FreezeOption,
    FreezeThawVMCommand,
)
from bollard.transfer_objects.enums import StoragePoolType
from bollard.transfer_objects.stores import S3TO, PrimaryDataStoreTO

CLOUDSTACK = "application/vnd.cloudstack+json"
POOL = PrimaryDataStoreTO(uuid="pool-1", pool_type=StoragePoolType.ISCSI)
VOLUME = VolumeObjectTO(uuid="vol-1", size=1 << 30, data_store=POOL)
CREATE = CreateObjectCommand(data=VOLUME)
FREEZE = FreezeThawVMCommand(vm_name="i-2-12-VM", option=FreezeOption.FREEZE)


def _order(client, command, **options):
    return client.post("/v1/commands", content=encode(command, reveal_secrets=True), **options)


def _end(client, answer) -> dict:
    assert answer.status_code == 202, answer.text
    return client.get(answer.headers["Location"], params={"wait": 20}).json()


def test_a_command_becomes_a_job_and_its_answer_its_result(client):
    """202 with the job's place; the job ends with the command's answer in Bollard's JSON."""
    ordered = _order(client, CREATE, params={"host": "host-1", "priority": 7})
    ended = _end(client, ordered)

    assert ordered.json()["id"] in ordered.headers["Location"]
    assert (ended["state"], ended["over"], ended["error"]) == ("Succeeded", True, None)
    assert (ended["host"], ended["pool"], ended["priority"], ended["tenant"]) == (
        "host-1",
        "pool-1",
        7,
        "admin",
    )
    assert ended["progress"] == {"done": 1, "total": 2, "text": ""}
    assert ended["result"] == {"answer": encode_tree(CreateObjectAnswer(data=VOLUME))}


def test_cloudstacks_json_in_and_out(client, running):
    """The same command in CloudStack's JSON does the same, and its answer can be had in that form."""
    body = Payload.of(CREATE).wire()
    ended = _end(client, client.post("/v1/commands", content=body, headers={"Content-Type": CLOUDSTACK}))
    command, _ = running.executor.calls[-1]
    answer = client.get(f"/v1/jobs/{ended['id']}/answer", headers={"Accept": CLOUDSTACK})

    assert command == CREATE
    assert answer.headers["Content-Type"] == CLOUDSTACK
    assert Payload.from_wire(answer.content).objects() == (CreateObjectAnswer(data=VOLUME),)
    assert client.get(f"/v1/jobs/{ended['id']}/answer").json()[0]["type"] == "CreateObjectAnswer"


def test_a_failed_command_says_code_and_outcome(client):
    """The job fails with the error of the taxonomy, and has no answer."""
    ended = _end(client, _order(client, DeleteCommand(data=VOLUME)))

    assert ended["state"] == "Failed"
    assert ended["error"] == {
        "code": "not_found",
        "message": "there is no such volume",
        "outcome": "not_applied",
        "retryable": False,
    }
    answer = client.get(f"/v1/jobs/{ended['id']}/answer")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def test_the_request_id_reaches_the_driver(client, running):
    """The id that a client gives stands in the answer, in the job and in the driver's call."""
    ordered = _order(client, CREATE, headers={"X-Request-Id": "trace-7"})
    ended = _end(client, ordered)
    _, call = running.executor.calls[-1]

    assert ordered.headers["X-Request-Id"] == ended["request_id"] == call.request_id == "trace-7"
    assert client.get("/health", headers={"X-Request-Id": "no good"}).headers["X-Request-Id"] != "no good"


def test_delete_cancels_a_running_command(client):
    """DELETE reaches the driver, and the job ends as cancelled."""
    ordered = _order(client, FREEZE)
    place = ordered.headers["Location"]
    with client.stream("GET", f"{place}/progress") as events:
        lines = events.iter_lines()
        while '"Running"' not in next(lines):
            pass
        assert client.delete(place).status_code == 202
        seen = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]

    assert seen[-1]["state"] == "Cancelled"
    assert _end(client, ordered)["state"] == "Cancelled"
    assert client.delete(place).json()["state"] == "Cancelled"


def test_progress_is_followed_to_the_end(client):
    """The stream's last event is the job as it ended."""
    ordered = _order(client, CREATE)
    body = client.get(f"{ordered.headers['Location']}/progress")
    events = [json.loads(line[6:]) for line in body.text.splitlines() if line.startswith("data: ")]

    assert body.headers["Content-Type"].startswith("text/event-stream")
    assert events[-1]["state"] == "Succeeded"


def test_waiting_ends_with_its_time(client):
    """A job that does not end is answered as it is."""
    ordered = _order(client, FREEZE)
    seen = client.get(ordered.headers["Location"], params={"wait": 0.05}).json()
    client.delete(ordered.headers["Location"])

    assert not seen["over"]
    assert _end(client, ordered)["over"]


def test_the_same_key_is_the_same_job(client, running):
    """A repeated POST with its key orders nothing twice; another order under the key is a conflict."""
    headers = {"Idempotency-Key": "order-1"}
    first = _order(client, CREATE, headers=headers)

    assert _order(client, CREATE, headers=headers).json()["id"] == first.json()["id"]
    assert _order(client, DeleteCommand(data=VOLUME), headers=headers).status_code == 409
    with running.client(Scope.OPERATE) as other:
        assert _order(other, CREATE, headers=headers).json()["id"] != first.json()["id"]


def test_credentials_of_stores_are_not_kept(client, running):
    """A store's keys are left out, since its uuid is enough, and are in neither job nor database."""
    store = S3TO(
        uuid="s3-1", access_key=Secret("AKIA1"), secret_key=Secret("hunter2hunter2"), bucket_name="b"
    )
    ended = _end(
        client,
        _order(client, CopyCommand(source=VOLUME, destination=VolumeObjectTO(uuid="c", data_store=store))),
    )
    command, _ = running.executor.calls[-1]

    assert command.destination.data_store.uuid == "s3-1"
    assert command.destination.data_store.secret_key is None
    assert "hunter2" not in str(running.orders.get(ended["id"]).arguments) + str(ended)


@pytest.mark.parametrize(
    "command",
    [
        CopyCommand(source=VOLUME, source_options={"chapInitiatorSecret": Secret("hunter2hunter2")}),
        AttachCommand(vm_name="vm", controller_info={"password": Secret("hunter2hunter2")}),
    ],
    ids=["copy", "attach"],
)
def test_other_secrets_are_refused(client, command):
    """A command whose secret nobody else has cannot be a job; the refusal names the place, not the secret."""
    answer = _order(client, command)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")
    assert type(command).__name__ in answer.json()["detail"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"type": "CopyCommand", "type": "CopyCommand"}', "application/json"),
        (b'{"type": "FormatDisk"}', "application/json"),
        (b'{"type": ["CopyCommand"]}', "application/json"),
        (b'{"type": "CopyCommand", "wait": ' + b"9" * 5000 + b"}", "application/json"),
        (b'{"type": "Answer"}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"{}", CLOUDSTACK),
        (b"[]", CLOUDSTACK),
        (b'[{"com.cloud.agent.api.Answer": {}}]', CLOUDSTACK),
    ],
)
def test_bad_bodies_are_problems(client, body, kind):
    """What is no command is refused as a problem, and nothing is ordered."""
    before = len(client.get("/v1/jobs", params={"limit": 1000}).json()["items"])
    answer = client.post("/v1/commands", content=body, headers={"Content-Type": kind})

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["outcome"] == "not_applied"
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert len(client.get("/v1/jobs", params={"limit": 1000}).json()["items"]) == before
