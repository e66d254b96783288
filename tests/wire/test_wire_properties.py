"""Properties of CloudStack's JSON over every class of the table."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.transfer_objects import decode, encode
from bollard.transfer_objects.cloudstack import Payload, native_id, wire_id
from bollard.transfer_objects.ids import is_valid_id
from wire_values import CLASSES, bodies, keyed

LONG = os.environ.get("BOLLARD_LONG") == "1"
QUICK = settings(max_examples=200 if LONG else 5, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data())
def test_what_is_read_is_written_back(cls, data):
    """Any body of a class, its unknown fields included, comes back as the same JSON value."""
    body = data.draw(bodies(cls))
    payload = Payload.from_wire(json.dumps(body), cls.__name__)
    assert payload.wire_tree() == body
    assert json.loads(payload.wire()) == body
    assert Payload.from_native(payload.native(reveal_secrets=True), bare=True).wire_tree() == body


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@QUICK
@given(data=st.data())
def test_objects_travel_and_come_back(cls, data):
    """An object of ours is equal after a way over CloudStack's wire, and over our own JSON."""
    tree = data.draw(keyed(cls, polite=True))
    [obj] = Payload.from_wire(json.dumps(tree)).objects()
    assert type(obj) is cls
    assert Payload.from_wire(Payload.of(obj).wire()).objects() == (obj,)
    assert decode(encode(obj, reveal_secrets=True), cls) == obj


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1) | st.from_regex(r"(cs--|ch--|--)?[-a-zA-Z0-9_.]{1,60}", fullmatch=True))
def test_ids_are_escaped_without_loss(text):
    """Any text becomes a valid id of ours, and that id the same text, or says that it cannot."""
    native = native_id(text)
    assert is_valid_id(native)
    assert wire_id(native) == text or (wire_id(native) is None and native.startswith("ch--"))
