"""The last gate before paper: secrets are taken out, and then looked for once more.

    driver's words ── redact ──> texts ── none may hold a secret ──> files ── none may hold a secret ──> disk

A test array's password may be "password", and the suite's own words say that, too; "2026" is in every date.
Neither is a leak, so such a secret is looked for in the driver's words and in the logs only.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from ...core.redact import MIN_SECRET_LENGTH, encoded_forms
from ...core.spi import Internal
from ...core.spi import Outcome as Applied
from ...transfer_objects.secret import Secret
from ..model import CallRecord, Measure, Outcome, Verdict

Redact = Callable[[str], str]

# Numbers, dates and hashes hold any short row of digits sooner or later.
_BY_CHANCE = re.compile(r"[0-9a-f.:-]{1,11}")


def redacted(verdict: Verdict, redact: Redact) -> Verdict:
    """Return the verdict with every text that a driver had a hand in passed through `redact`."""
    return dataclasses.replace(verdict, outcomes=tuple(_outcome(o, redact) for o in verdict.outcomes))


def demand_clean(
    verdict: Verdict, files: Mapping[str, bytes], own_words: str, secrets: Iterable[Secret]
) -> None:
    """Refuse to go on when a secret is in a text or a file, in any encoding.

    Args:
        files: by name; below "logs/" a driver wrote every word.
        own_words: the suite's texts: what is in there is no leak.

    Raises:
        Internal: naming the place, and not the secret.
    """
    forms = {f for s in secrets if len(s.reveal()) >= MIN_SECRET_LENGTH for f in encoded_forms(s)}
    for place, text in drivers_texts(verdict):
        if any(form in text for form in forms):
            raise _leak(place)
    common = {form for form in forms if form in own_words or _BY_CHANCE.fullmatch(form)}
    for name, data in files.items():
        text = data.decode("utf-8", "surrogateescape")
        text += html.unescape(text) if name.endswith((".html", ".xml", ".svg")) else ""
        looked_for = forms if name.startswith("logs/") else forms - common
        if any(form in text for form in looked_for):
            raise _leak(name)


def drivers_texts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Yield each text that a driver had a hand in, and where it stands."""
    for outcome in verdict.outcomes:
        texts = [outcome.message, outcome.reproducer, outcome.ticket]
        texts += [text for m in outcome.measures for text in (m.name, m.unit)]
        texts += [text for call in outcome.evidence for text in (call.call, call.answer)]
        yield from ((outcome.check.id, text) for text in texts)


def _leak(place: str) -> Internal:
    return Internal(
        f"a secret of the configuration is in {place}; no report was written. If it is an ordinary word, "
        "give the test backend another password; else the suite has a defect: please report it",
        outcome=Applied.NOT_APPLIED,
    )


def _outcome(outcome: Outcome, redact: Redact) -> Outcome:
    return dataclasses.replace(
        outcome,
        message=redact(outcome.message),
        reproducer=redact(outcome.reproducer),
        ticket=redact(outcome.ticket),
        measures=tuple(_measure(m, redact) for m in outcome.measures),
        evidence=tuple(_call(c, redact) for c in outcome.evidence),
    )


def _measure(measure: Measure, redact: Redact) -> Measure:
    return dataclasses.replace(measure, name=redact(measure.name), unit=redact(measure.unit))


def _call(call: CallRecord, redact: Redact) -> CallRecord:
    return dataclasses.replace(call, call=redact(call.call), answer=redact(call.answer))
