"""The desk itself, without a connection: what a large request costs the others."""

from __future__ import annotations

import asyncio
import json

from agent_rig import FREEZE, Doing, details, order
from bollard.core.agent.desk import LARGE, Desk


async def _large_and_a_thaw(desk: Desk) -> tuple[bytes, bytes]:
    """Ask both; the thaw comes second."""
    numbers = range(1000, 1000 + LARGE // 20)
    body = json.dumps([order(number) for number in numbers]).encode()
    assert len(body) > LARGE
    large = asyncio.create_task(desk.answer(body, stop_on_error=True))
    await asyncio.sleep(0)  # it has begun, and the loop is free again
    assert not large.done()
    thaw = json.dumps([{FREEZE: {"vmName": "vm-1", "option": "thawed"}}]).encode()
    thawed = await desk.answer(thaw, stop_on_error=False)
    return await large, thawed


def test_a_large_request_leaves_the_loop_to_others():
    """A request that takes long to be read is read in a thread; each of its commands is answered in order."""
    desk = Desk(Doing(), threads=2, waiting=2, waiting_bytes=2**20)
    large, thawed = asyncio.run(_large_and_a_thaw(desk))
    desk.close()
    assert details(json.loads(thawed)) == ["thawed"]
    told = details(json.loads(large))
    assert told == [f"did {1000 + n}" for n in range(len(told))]


def test_a_large_request_of_unknown_commands_does_not_hold_the_loop():
    """Reading alone, with nothing to execute, is done in the thread as well."""

    async def ask(desk: Desk) -> bytes:
        body = json.dumps([{"a.B": {}}] * (LARGE // 8)).encode()
        asked = asyncio.create_task(desk.answer(body, stop_on_error=False))
        await asyncio.sleep(0)
        assert not asked.done()
        return await asked

    desk = Desk(Doing(), threads=1, waiting=1, waiting_bytes=2**20)
    answers = json.loads(asyncio.run(ask(desk)))
    desk.close()
    assert {name.rpartition(".")[2] for one in answers for name in one} == {"UnsupportedAnswer"}
