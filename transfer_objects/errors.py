"""The one error of this package: what was refused, where, by which rule, and what was perhaps meant.

    ValueError
     `- DecodeError     raised by native.decode *and* by the constructors, which obey the same rules

The offending value is never part of the message, save for enum values: a password typed into the wrong
field would otherwise end in a log.
"""

from __future__ import annotations

from collections.abc import Iterable

# Enough to recognise a mistyped word; short enough that a hostile document cannot flood a log.
MAX_SHOWN = 64


class DecodeError(ValueError):
    """A transfer object breaks a rule.

    Attributes:
        rule: what is demanded, e.g. "must not be negative".
        path: the field, from the object that was decoded or built, e.g. `volume.data_store.url` or
            `parents[2]`; empty for that object itself.
        hint: "did you mean …" or the valid values; may be empty.
    """

    def __init__(self, rule: str, path: str = "", hint: str = "") -> None:
        super().__init__(rule, path, hint)
        self.rule = rule
        self.path = path
        self.hint = hint

    def within(self, parent: str) -> None:
        """Put `parent` before the path: each level adds its own name while the error passes it."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{parent}{dot}{self.path}"
        self.args = (self.rule, self.path, self.hint)

    def __str__(self) -> str:
        text = f"{self.path}: {self.rule}" if self.path else self.rule
        return f"{text}; {self.hint}" if self.hint else text


def shown(key: str) -> str:
    """Return a document's key so that it can stand in a path: quoted and cut unless it is a plain word."""
    return key if key.isidentifier() and len(key) <= MAX_SHOWN else ascii(key[:MAX_SHOWN])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint for `word`: the closest known word whatever its case, else all of them."""
    import difflib  # 2 ms that only an error needs

    words = {k.casefold(): k for k in known}
    close = difflib.get_close_matches(word[:MAX_SHOWN].casefold(), words, n=1)
    return f"did you mean {words[close[0]]!r}?" if close else f"valid are: {', '.join(words.values())}"
