"""What a stranger may send: a typed error with path and rule, in bounded memory, and no secret in it."""

from __future__ import annotations

import contextlib
import json
import os
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.transfer_objects import DecodeError
from bollard.transfer_objects.cloudstack import MAX_BYTES, Message, Payload
from wire_values import ANYTHING, CLASSES, keyed

LONG = os.environ.get("BOLLARD_LONG") == "1"
EXAMPLES = 10_000 if LONG else 300 if os.environ.get("CI") else 100
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

VOLUME = "org.apache.cloudstack.storage.to.VolumeObjectTO"
COPY = "org.apache.cloudstack.storage.command.CopyCommand"


def _volume(**fields: object) -> str:
    return json.dumps({VOLUME: fields})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be JSON, which breaks at line 1 column 1"),
        ("[1", "must be JSON"),
        ("5", "must be a list of commands or an object"),
        ("[" * 200_000, "must not be nested deeper"),
        ('{"a.b":' * 101 + "1" + "}" * 101, "must not be nested deeper than 100 levels"),
        (" " * (MAX_BYTES + 1), "must not be longer than 4194304 bytes"),
        (b'{"a.b": {"x": "\xff"}}', "must be UTF-8, which breaks at byte 15"),
        ('{"a.b": {"x": 1, "y": 2, "x": 3}}', "['a.b'].x: appears twice"),
        ('{"a.b": {"x": NaN}}', "['a.b'].x: must be JSON, which knows no NaN"),
        ('{"a.b": {"x": -Infinity}}', "knows no -Infinity"),
        ('{"a.b": {"x": 1e999}}', "['a.b'].x: must be a number that a double holds exactly"),
        ('{"a.b": {"x": 0.1000000000000000000001}}', "must be a number that a double holds exactly"),
        ('{"a.b": {"x": ' + "9" * 100_000 + "}}", "must be a number of at most 64 digits"),
        (r'{"a.b": {"x": ["\ud800"]}}', "['a.b'].x[0]: must be valid Unicode"),
        (r'{"a.b": {"\udfff": 1}}', "['a.b']: must be valid Unicode"),
        ('[{"NoPackage": {}}]', "[0].NoPackage: must be the whole name of a class"),
        ('[{"a.b": {}, "c.d": {}}]', "[0]: must be an object with one key, its class, not one with 2 keys"),
        ("[{}]", "[0]: must be an object with one key"),
        ('[{"a.b": 5}]', "[0]['a.b']: must be an object, not a number"),
        (_volume(size="8 GB"), f"['{VOLUME}'].size: must be an integer"),
        (_volume(size=True), "size: must be an integer, not true or false"),
        (_volume(size=1.5), "size: must be an integer, not a fraction"),
        (_volume(size=2**63), "size: must be an integer of 64 bits"),
        (_volume(size={}), "size: must be an integer, not an object"),
        (_volume(deployAsIs=0), "deployAsIs: must be true or false, not a number"),
        (_volume(name=["x"]), "name: must be a string, not a list"),
        (_volume(format=7), "format: must be a string"),
        (_volume(passphrase="s3cr3t"), "passphrase: must be a list of bytes"),
        (_volume(passphrase=[300]), "passphrase: must be a list of bytes"),
        (_volume(checkpointPaths="x"), "checkpointPaths: must be a list, not a string"),
        (_volume(checkpointPaths=["x", 1]), "checkpointPaths[1]: must be a string"),
        (_volume(migrationOptions=[]), "migrationOptions: must be an object, not a list"),
        (_volume(dataStore={"uuid": "x"}), "dataStore.uuid: must be the whole name of a class"),
        (_volume(dataStore={VOLUME: {}}), f"dataStore['{VOLUME}']: must be NfsTO or SwiftTO"),
        (json.dumps({COPY: {"options": "x"}}), "options: must be an object, not a string"),
        (
            '{"wait": 5}',
            "may be IntroduceObjectCmd or IntroduceObjectAnswer or ForgetObjectCmd or CopyCommand or one",
        ),
        (
            '{"uuid": "v", "path": "p", "size": 1}',
            "may be VolumeObjectTO or TemplateObjectTO; name the class",
        ),
        ('{"nobody": 5}', "has no key that tells its class; name the class, e.g. --as VolumeObjectTO"),
    ],
)
def test_refusal_names_field_and_rule(text, said):
    """Each kind of bad text is refused with the path of the field and the rule."""
    with pytest.raises(DecodeError) as refused:
        Payload.from_wire(text)
    assert said in str(refused.value)
    assert "s3cr3t" not in repr(refused.value)


def test_a_class_that_nobody_knows_is_refused_by_name():
    """`as_class` must name one of ours; a misspelt one is answered with the closest."""
    with pytest.raises(DecodeError, match="did you mean 'VolumeObjectTO'"):
        Payload.from_wire("{}", "VolumObjectTO")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "VolumeObjectTO", "sise": 5}', "sise: unknown key; did you mean 'size'?"),
        (
            '{"type": "VolumeObjectT0"}',
            "type: is no class that may stand here; did you mean 'VolumeObjectTO'?",
        ),
        ('{"type": "VolumeObjectTO", "size": "5"}', "size: must be an integer, not str"),
        ('{"type": "VolumeObjectTO", "format": "QCOW3"}', "did you mean 'QCOW2'?"),
        ('{"type": "VolumeObjectTO", "data_store": {"type": "DiskTO"}}', "data_store.type: is no class"),
        ('{"type": "VolumeObjectTO", "$wire.a": {"$b": 1}}', '$wire.a\': may hold "$" keys only as'),
        ('{"type": "VolumeObjectTO", "$wire.a": {"$json": "["}}', "must be JSON"),
        ('{"type": "VolumeObjectTO", "passphrase": "x"}', 'passphrase: must be {"$revealed": "…"}'),
        ('{"type": "WireObject", "class": "x"}', "class: must be the whole name of a class"),
        ('[{"type": "Answer", "context": {"a": 1}}]', "[0].context.a: must be a string"),
        ('{"type": "Frame", "messages": []}', "flags: must be a list"),
        (
            '{"type": "Frame", "flags": ["REQEST"], "messages": []}',
            "flags[0]: is no flag; did you mean 'REQUEST'",
        ),
        ('{"type": "Frame", "flags": [], "version": "V2", "messages": []}', "version: is no version"),
        ('{"type": "Frame", "flags": [], "sequence": "1", "messages": []}', "sequence: must be an integer"),
    ],
)
def test_refusal_of_our_own_json(text, said):
    """What is typed wrong in Bollard's JSON is refused with its path and what was perhaps meant."""
    with pytest.raises(DecodeError) as refused:
        Message.from_native(text.encode())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"uuid": "v", "path": "a/../b"}, "path: must not contain a '..' component"),
        ({"uuid": "v", "format": "QCOW3"}, "format: holds what Bollard does not know"),
        ({"uuid": "v", "size": -1}, "size: must not be negative"),
        (
            {"uuid": "v", "dataStore": {"x.Y": {}}},
            "data_store: is of a class that Bollard does not know: 'x.Y'",
        ),
        ({"size": 1}, "VolumeObjectTO needs uuid or path"),
    ],
)
def test_nobody_acts_on_what_breaks_a_rule(fields, said):
    """What can be kept but not acted upon is refused when an object is asked for."""
    payload = Payload.from_wire(_volume(**fields))
    assert payload.wire_tree() == {VOLUME: fields}
    with pytest.raises(DecodeError) as refused:
        payload.objects()
    assert said.replace("'x.Y'", "") in str(refused.value).replace("'x.Y'", "")


def test_memory_is_bounded():
    """The costliest kind of text takes less than a hundred times its size."""
    text = '{"a.b":{"x":[' + ",".join(["{}"] * 20_000) + "]}}"
    tracemalloc.start()
    try:
        Payload.from_wire(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(text)


@pytest.mark.timeout(1800 if LONG else 300)
@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_refused_or_read(data):
    """Whatever the bytes, they are a message or a DecodeError."""
    for read in (Message.from_wire, Message.from_native):
        with contextlib.suppress(DecodeError):
            read(data)


def _unless_refused(read, text):
    try:
        return read(text)
    except DecodeError as error:
        raise AssertionError(f"what was read cannot be written: {error}") from error


@pytest.mark.timeout(1800 if LONG else 300)
@FUZZ
@given(st.data())
def test_any_damage_is_refused_or_read(data):
    """A payload with any value in the place of another is read and written back, or refused."""
    tree = data.draw(st.sampled_from(CLASSES).flatmap(keyed))
    node = tree
    while isinstance(node, dict) and node:
        key = data.draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(ANYTHING)
            break
        node = node[key]
    with contextlib.suppress(DecodeError):
        payload = Payload.from_wire(json.dumps([tree]))
        native = payload.native(reveal_secrets=True)
        again = _unless_refused(Payload.from_native, native)
        assert again.wire_tree() == payload.wire_tree()
        payload.objects()
