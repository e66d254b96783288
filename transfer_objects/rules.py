r"""What a value must look like: each rule is written once and used thrice.

                       .-> constructors   (shapes.check)
    rule  --  pattern -+-> native.decode  (the same check, with the path of the field)
                       `-> schema.json    (rule.schema())

The patterns are therefore in the common subset of Python's `re` and ECMA 262 with the `u` flag. "$" alone
is not the end of a text in Python (it also matches before a last newline); every rule that uses it
forbids newlines as well.

A schema cannot count bytes, so it lets through a few texts that the byte limit refuses. Never the
other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from .ids import ID_RULE

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

# NUL to US, DEL, the C1 block (NEL is a line end to many tools) and Unicode's two line separators.
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"

_SURROGATE = (r"[\ud800-\udfff]", "must be valid Unicode (it holds half a surrogate pair)")
_CONTROLS = (rf"[{_CONTROL}]", "must not contain NUL, newlines or other control characters")
_DASH = (r"^-", "must not start with '-' (a command line would take it for an option)")
_SLASH = (r"/", "must not contain '/'")
_DOTS = (r"\.\.", "must not contain '..'")
_DOT_SEGMENT = (r"(?:^|[/\\])\.\.(?:[/\\]|$)", "must not contain a '..' component")


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule for strings.

    Attributes:
        max_bytes: limit of the UTF-8 form, bytes.
        forbidden: (pattern, what to say) pairs; none may be found in the text.
        required: (pattern, what to say); must be found.
        min_length: characters; 0 permits the empty text.
    """

    max_bytes: int
    forbidden: tuple[tuple[str, str], ...]
    required: tuple[str, str] | None = None
    min_length: int = 1

    def problem(self, text: str) -> str | None:
        """Return the sentence that `text` breaks, or None."""
        if len(text) < self.min_length:
            return "must not be empty"
        for pattern, sentence in (_SURROGATE, *self.forbidden):
            if re.search(pattern, text):
                return sentence
        if len(text.encode()) > self.max_bytes:
            return f"must not be longer than {self.max_bytes} bytes"
        if self.required and not re.search(self.required[0], text):
            return self.required[1]
        return None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the rule."""
        forbidden = "|".join(pattern for pattern, _ in (_SURROGATE, *self.forbidden))
        schema: dict[str, Any] = {
            "type": "string",
            "minLength": self.min_length,
            "maxLength": self.max_bytes,
            "not": {"pattern": forbidden},
        }
        return schema | ({"pattern": self.required[0]} if self.required else {})


@dataclass(frozen=True, slots=True)
class IntRule:
    """A rule for integers, both ends inclusive."""

    minimum: int = INT64_MIN
    maximum: int = INT64_MAX

    def problem(self, number: int) -> str | None:
        """Return the sentence that `number` breaks, or None."""
        if number < self.minimum:
            return f"must be at least {self.minimum}" if self.minimum else "must not be negative"
        return f"must be at most {self.maximum}" if number > self.maximum else None

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the rule."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


def any_case(word: str) -> str:
    """Return a pattern for `word` in any case; ECMA 262 has no inline flag for it."""
    return "".join(f"[{c.upper()}{c.lower()}]" for c in word)


_SECRET_WORDS = "|".join(any_case(word) for word in ("secret", "password", "passphrase", "secretkey"))
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^/?#@:\[\]]"
_PORT = r"(?::(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))?"
_END = r"(?:[/?#]|$)"
# Each pattern starts at a character that its own classes exclude, so that a hostile text costs linear time.
_IN_URLS = (
    (rf"[{_CONTROL}\s]", "must not contain blanks, newlines or control characters"),
    (r"://[^/?#@:]*:[^/?#@]*@", "must not contain a password (URLs end up in logs)"),
    (rf"[?&][^=&#?]*(?:{_SECRET_WORDS})=", "must not contain a password (URLs end up in logs)"),
    (r"[/\\](?:\.|%2[eE]){2}(?:[/\\?#]|$)", "must not contain a '..' component"),
    (r"%0[0aAdD]", "must not contain an encoded NUL or newline"),
)

ID = TextRule(64, (_CONTROLS,), (r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$", f"must be {ID_RULE}"))
NAME = TextRule(255, (_CONTROLS, _SLASH, _DOTS, _DASH))
PATH = TextRule(4096, (_CONTROLS, _DOT_SEGMENT, _DASH))
LABEL = TextRule(255, (_CONTROLS, _DASH))
TEXT = TextRule(65535, ((r"\x00", "must not contain NUL"),), min_length=0)
URL = TextRule(
    4096,
    _IN_URLS,
    (rf"^{_SCHEME}(?:[^/?#@]*@)?(?:{_HOST}*){_PORT}{_END}", "must be a URL: scheme://host[:port]/path"),
)
ENDPOINT = TextRule(
    4096,
    (*_IN_URLS, _DASH),
    (rf"^(?:{_SCHEME})?(?:{_HOST}+){_PORT}{_END}", "must be host[:port] or a URL without a user"),
)
INT64 = IntRule()
COUNT = IntRule(minimum=0)
PORT = IntRule(minimum=0, maximum=65535)

RULES: Mapping[str, TextRule | IntRule] = {
    "Id": ID,
    "Name": NAME,
    "Path": PATH,
    "Label": LABEL,
    "Text": TEXT,
    "Url": URL,
    "Endpoint": ENDPOINT,
    "Int64": INT64,
    "Count": COUNT,
    "Port": PORT,
}

# Keys of `details` whose value must be a Secret: chapInitiatorSecret, chapTargetSecret and vendors' own.
SECRET_DETAIL_KEY = rf"(?:{_SECRET_WORDS})$"

Name: TypeAlias = Annotated[str, NAME]
Path: TypeAlias = Annotated[str, PATH]
Label: TypeAlias = Annotated[str, LABEL]
Text: TypeAlias = Annotated[str, TEXT]
Url: TypeAlias = Annotated[str, URL]
Endpoint: TypeAlias = Annotated[str, ENDPOINT]
Int64: TypeAlias = Annotated[int, INT64]
Count: TypeAlias = Annotated[int, COUNT]
Port: TypeAlias = Annotated[int, PORT]
