"""Text of strangers, made harmless: what a driver wrote must not steer a parser or a reader's eye."""

from __future__ import annotations

import re

# Controls (tab and line ends stay), lone surrogates, non-characters.
_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
# Marks that reorder what stands beside them ("Trojan Source", CVE-2021-42574), and invisible ones.
_BIDI = r"\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_HIDDEN = re.compile(f"[{_CONTROLS}{_BIDI}]")
_ILLEGAL_IN_XML = re.compile(f"[{_CONTROLS}]")


def visible(text: str) -> str:
    """Return the text with hidden characters by their names: `[U+202E]`, and nothing runs backwards."""
    return _HIDDEN.sub(_name, text.replace("\r\n", "\n").replace("\r", "\n"))


def xml_text(text: str) -> str:
    """Return the text without what XML 1.0 forbids; each such character is told by its name."""
    return _ILLEGAL_IN_XML.sub(_name, text)


def clipped(text: str, most: int, where: str) -> str:
    """Return at most so many characters, and `where` the rest is."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n… {len(text) - most:,} more characters in {where}"


def _name(match: re.Match[str]) -> str:
    return f"[U+{ord(match[0]):04X}]"
