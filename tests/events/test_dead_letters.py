"""Dead letters: looked at, and delivered again."""

from __future__ import annotations

import pytest

from bollard.core.catalog import publish
from bollard.core.event_stream import DeadLetters, Deliverer, Webhook
from bollard.core.spi import Internal, InvalidArgument
from bollard.transfer_objects import Secret

pytest_plugins = ["catalog_fixture"]

HOOK = Webhook(url="https://receiver.example/", secret=Secret("correct-horse-battery"), attempts=1)


class Receiver:
    """Notes what arrives; refuses until it is told not to."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.refuses = True

    def __call__(self, event, _now: float) -> None:
        """Take a delivery."""
        if self.refuses:
            raise Internal("the receiver answered 500")
        self.got.append(event["data"]["n"])


@pytest.fixture
def receiver() -> Receiver:
    """Where events go."""
    return Receiver()


@pytest.fixture
def deliverer(catalog, receiver) -> Deliverer:
    """What delivers; it has given up three events."""
    made = Deliverer(catalog, "hook", HOOK, receiver, owner="d1")
    made.step()
    with catalog.transaction() as session:
        for n in range(3):
            publish(session, "thing", "a", "Happened", {"n": n})
    made.step()
    receiver.refuses = False
    return made


def test_dead_letters_are_told_in_pages(catalog, deliverer):
    """With webhook, event, attempts and the last refusal; oldest first."""
    letters = DeadLetters(catalog)
    [first, second] = letters.read(limit=2)
    assert (first.webhook, first.event.data, first.attempts) == ("hook", {"n": 0}, 1)
    assert first.error == "internal: the receiver answered 500"
    [last] = letters.read(after=second.event.position or 0)
    assert last.event.data == {"n": 2}
    assert not letters.read(webhook="other")
    with pytest.raises(InvalidArgument):
        letters.read(limit=0)


def test_dead_letters_are_delivered_again(catalog, deliverer, receiver):
    """One by its position, then all that are left, in order; then there is none."""
    letters = DeadLetters(catalog)
    position = letters.read()[1].event.position
    assert position is not None
    assert letters.retry("other") == 0
    assert letters.retry("hook", [position]) == 1
    while deliverer.step():
        pass
    assert receiver.got == [1]
    assert letters.retry("hook") == 2
    while deliverer.step():
        pass
    assert receiver.got == [1, 0, 2]
    assert letters.read() == []
    assert letters.retry("hook") == 0
