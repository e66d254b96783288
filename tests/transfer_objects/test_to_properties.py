"""Properties over all transfer objects; the strategies are made from the dataclasses themselves."""

import contextlib
import functools
import json
import pickle
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bollard.transfer_objects import (
    DecodeError,
    Details,
    PrimaryDataStoreTO,
    Secret,
    StoreId,
    decode,
    encode,
    encode_tree,
)
from bollard.transfer_objects.base import TransferObject
from bollard.transfer_objects.native import decode_tree
from bollard.transfer_objects.reader import TRANSFER_OBJECTS
from bollard.transfer_objects.rules import COUNT, ENDPOINT, ID, LABEL, TEXT, URL, IntRule, TextRule
from bollard.transfer_objects.schema import json_schema
from bollard.transfer_objects.shapes import (
    Choice,
    DetailMap,
    FieldShape,
    Flag,
    Hidden,
    Keyed,
    Many,
    Nested,
    Number,
    Shape,
    Text,
    fields_of,
    is_secret_detail,
)

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
HOSTS = st.from_regex(r"[A-Za-z0-9.]{1,12}(:[0-9]{1,4})?", fullmatch=True)
TAILS = st.from_regex(r"(/[A-Za-z0-9_~]{0,6}){0,3}(\?[a-z]{1,3}=[0-9]{0,3})?", fullmatch=True)
SPECIAL: dict[int, st.SearchStrategy[str]] = {
    id(ID): st.from_regex(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?", fullmatch=True),
    id(URL): st.builds("{}://{}{}".format, st.sampled_from(["nfs", "NFS", "https"]), HOSTS, TAILS),
    id(ENDPOINT): st.builds("{}{}{}".format, st.sampled_from(["", "http://", "HTTPS://"]), HOSTS, TAILS),
}


def texts(rule: TextRule) -> st.SearchStrategy[str]:
    """Return strings that obey `rule`."""
    plain = st.text(min_size=rule.min_length, max_size=20)
    return SPECIAL.get(id(rule), plain).filter(lambda t: rule.problem(t) is None)


def numbers(rule: IntRule) -> st.SearchStrategy[int]:
    """Return integers that obey `rule`, its ends included."""
    return st.integers(rule.minimum, rule.maximum)


SECRETS = texts(TEXT).map(Secret)


def details() -> st.SearchStrategy[Details]:
    """Return detail maps with plain and secret entries."""
    plain = st.dictionaries(texts(LABEL).filter(lambda k: not is_secret_detail(k)), texts(TEXT), max_size=2)
    chap = st.sampled_from(["chapInitiatorSecret", "chapTargetSecret", "vendorPassword", "odd"])
    secret = st.dictionaries(chap, SECRETS, max_size=2)
    return st.builds(lambda a, b: Details({**a, **b}), plain, secret)


def _later(cls: type[TransferObject]) -> st.SearchStrategy[Any]:
    """Return the strategy of a class that may hold itself (a VM snapshot its parent)."""
    return st.deferred(lambda: objects(cls))


@functools.cache
def values(shape: Shape) -> st.SearchStrategy[Any]:
    """Return what a field of this shape may hold."""
    match shape:
        case Text(rule):
            return texts(rule)
        case Number(rule):
            return numbers(rule)
        case Flag():
            return st.booleans()
        case Choice(enum):
            return st.sampled_from(enum)
        case Hidden():
            return SECRETS
        case Nested(classes):
            return st.one_of([_later(c) for c in classes])
        case Many(item, container):
            return st.lists(values(item), max_size=2).map(container)
        case Keyed(item):
            return st.dictionaries(texts(LABEL), values(item), max_size=2).map(Details)
        case DetailMap():
            return details()


def field_values(field: FieldShape) -> st.SearchStrategy[Any]:
    """Return values of a field, its None included."""
    found = values(field.shape)
    return st.none() | found if field.nullable else found


@functools.cache
def objects(cls: type[TransferObject]) -> st.SearchStrategy[Any]:
    """Return instances of `cls` with a few of the optional fields set."""
    fields = fields_of(cls)
    required = {f.name: values(f.shape) for f in fields if f.required}
    named = {f.name: values(f.shape) for f in fields if f.name in cls.identified_by[:1]}
    optional = {f.name: field_values(f) for f in fields if f.name not in required | named}
    some = st.sets(st.sampled_from(sorted(optional)), max_size=6)
    chosen = some.flatmap(lambda names: st.fixed_dictionaries({n: optional[n] for n in names}))
    always = st.fixed_dictionaries(required | named)
    return st.builds(lambda a, b: cls(**a, **b), always, chosen)


ANY_OBJECT = st.one_of([objects(cls) for cls in TRANSFER_OBJECTS])
RELAXED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RELAXED
@given(ANY_OBJECT)
def test_round_trip(obj):
    """What was encoded with its secrets decodes to an equal object of the same class."""
    back = decode(encode(obj, reveal_secrets=True))
    assert back == obj
    assert type(back) is type(obj)
    assert hash(back) == hash(obj)


@pytest.mark.parametrize("cls", TRANSFER_OBJECTS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_class_and_field_round_trips(cls, data):
    """Every single field of every class survives the round trip on its own."""
    for field in fields_of(cls):
        base = {f.name: data.draw(values(f.shape)) for f in fields_of(cls) if f.required}
        base |= {
            f.name: data.draw(values(f.shape)) for f in fields_of(cls) if f.name in cls.identified_by[:1]
        }
        obj = cls(**base | {field.name: data.draw(values(field.shape))})
        assert decode(encode(obj, reveal_secrets=True), cls) == obj


@RELAXED
@given(ANY_OBJECT)
def test_schema_accepts_what_encode_writes(obj):
    """Documents with and without secrets satisfy the schema."""
    VALIDATOR.validate(encode_tree(obj))
    VALIDATOR.validate(encode_tree(obj, reveal_secrets=True))


@RELAXED
@given(ANY_OBJECT)
def test_redacted_form_is_stable(obj):
    """The redacted form can be read, and writing what was read changes nothing but the dropped secrets."""
    once = decode(encode(obj))
    assert decode(encode(once)) == once


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["$secret", "$revealed", "type", "x"]), st.text(max_size=4), max_size=2),
    st.sampled_from(["..", "-x", "a/b", "a\nb", "NfsTO", "Image", "nfs://u:p@h/", {"$secret": "redacted"}]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(obj=ANY_OBJECT, junk=JUNK, data=st.data())
def test_schema_accepts_whatever_decode_accepts(obj, junk, data):
    """A document damaged at random is refused with DecodeError, or else the schema accepts it as well."""
    tree = encode_tree(obj, reveal_secrets=True)
    names = [field.name for field in fields_of(type(obj))]
    key = data.draw(st.sampled_from(["type", "stranger", *names]))
    if data.draw(st.booleans()):
        tree.pop(key, None)
    else:
        tree[key] = junk
    with contextlib.suppress(DecodeError):
        decode_tree(tree)
        VALIDATOR.validate(tree)


@settings(max_examples=150, deadline=None)
@given(st.text() | st.binary() | st.recursive(JUNK, st.lists).map(json.dumps))
def test_garbage_is_refused_with_one_error(text):
    """Nothing but DecodeError comes out, whatever goes in."""
    with pytest.raises(DecodeError):
        decode(text)


@given(numbers(COUNT), details())
def test_objects_can_be_pickled_unless_they_hold_secrets(size, found):
    """An object goes to a worker process, but never with a secret in it."""
    secret = any(isinstance(value, Secret) for value in found.values())
    pool = PrimaryDataStoreTO(uuid=StoreId("p1"), id=size, details=found)
    if secret:
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(pool)
    else:
        assert pickle.loads(pickle.dumps(pool)) == pool  # noqa: S301 - our own bytes
