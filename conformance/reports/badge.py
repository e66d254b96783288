"""The badge for a README: badge.svg as it is, badge.json for shields.io's endpoint."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape, quoteattr

from ..model import Verdict

_LABEL = "Bollard"
# White on each of these has a contrast of more than 4.5.
_COLOURS = {"conformant": "#1a7f37", "not conformant": "#c4231c", "incomplete": "#57606a"}
_PER_LETTER, _PADDING = 6.6, 10


def badge_json(verdict: Verdict) -> bytes:
    """Return the badge in shields.io's endpoint schema."""
    word = _word(verdict)
    badge = {"schemaVersion": 1, "label": _LABEL, "message": word, "color": _COLOURS[word]}
    return (json.dumps(badge, indent=2) + "\n").encode()


def badge_svg(verdict: Verdict) -> bytes:
    """Return the badge as an image whose words a screen reader reads."""
    word = _word(verdict)
    left, right = _width(_LABEL), _width(word)
    title = f"{_LABEL}: {word}"
    size = f'width="{left + right}" height="20"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>
  <title>{escape(title)}</title>
  <clipPath id="r"><rect {size} rx="3"/></clipPath>
  <g clip-path="url(#r)">
    <rect width="{left}" height="20" fill="#333"/>
    <rect x="{left}" width="{right}" height="20" fill="{_COLOURS[word]}"/>
  </g>
  <g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
    {_text(_LABEL, left / 2, left)}
    {_text(word, left + right / 2, right)}
  </g>
</svg>
""".encode()


def _word(verdict: Verdict) -> str:
    if verdict.conformant:
        return "conformant"
    return "incomplete" if verdict.clean else "not conformant"


def _width(text: str) -> int:
    return round(len(text) * _PER_LETTER) + 2 * _PADDING


def _text(text: str, middle: float, width: int) -> str:
    # The length is given, so that a font of other widths does not run out of its box.
    return f'<text x="{middle:g}" y="14" textLength="{width - 2 * _PADDING}">{escape(text)}</text>'
