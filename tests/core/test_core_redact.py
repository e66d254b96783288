"""No form of a secret survives redaction."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.redact import MIN_SECRET_LENGTH, Redactor, secrets_of
from bollard.transfer_objects.secret import Secret

SECRETS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=8, max_size=24).filter(
    lambda s: "*" not in s
)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": lambda s: repr(s)[1:-1],
    "json": lambda s: json.dumps(s)[1:-1],
    "json with ä": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "xml": html.escape,
    "quote": lambda s: urllib.parse.quote(s, safe=""),
    "quote, / kept": urllib.parse.quote,
    "quote, lower case": lambda s: urllib.parse.quote("\n" + s, safe="").lower() if s.islower() else s,
    "form": urllib.parse.quote_plus,
    "hex": lambda s: s.encode().hex(),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64, url": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "base64, unpadded": lambda s: base64.b64encode(s.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
def test_each_form_is_taken_out(form, secret):
    """Whatever encoding a backend echoes a secret in, the text that leaves does not hold it."""
    shown = FORMS[form](secret)

    assert shown not in Redactor([Secret(secret)])(f"failed <{shown}> here")


@given(secret=SECRETS, user=st.text("abcdef", min_size=0, max_size=7), tail=st.text("xyz", max_size=3))
def test_authorization_header_is_taken_out(secret, user, tail):
    """Inside of a longer base64 text, at whatever alignment, too little remains to rebuild the secret."""
    header = base64.b64encode(f"{user}:{secret}{tail}".encode()).decode()

    left = Redactor([Secret(secret)])(f"Basic {header}").removeprefix("Basic ")

    assert "***" in left
    # Two characters at either edge share bits with the neighbours; everything between must be gone.
    kept = sum(len(part) for part in left.split("***"))
    neighbours = len(base64.b64encode(f"{user}:".encode() + tail.encode()))
    assert kept <= neighbours + 8


def test_longer_form_wins():
    """A secret that is part of another one does not tear it apart and leave the rest."""
    redact = Redactor([Secret("abcd"), Secret("abcdefgh")])

    assert redact("x abcdefgh y abcd") == "x *** y ***"


def test_short_secrets_do_not_tear_holes():
    """A secret below four characters is not looked for: every message would be full of holes."""
    assert Redactor([Secret("a" * (MIN_SECRET_LENGTH - 1))])("a banana aaa") == "a banana aaa"
    assert Redactor([Secret("a" * MIN_SECRET_LENGTH)])("aaaa") == "***"


def test_nothing_else_changes():
    """Text without the secret stays as it is."""
    assert Redactor([Secret("hunter2")])("volume v-1 is busy") == "volume v-1 is busy"
    assert Redactor([])("anything") == "anything"


def test_secrets_are_found_by_type():
    """Every field of type Secret counts, whatever its name; nothing else does."""

    @dataclass
    class Options:
        url: str
        proof: Secret
        other: Secret | None = None

    assert secrets_of(Options(url="x", proof=Secret("a"))) == [Secret("a")]
    assert secrets_of({"proof": Secret("a")}) == []
    assert secrets_of(Options) == []
