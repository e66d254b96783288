"""One at a time on a snapshot, among all processes that share a journal; a dead one's claim is void at once.

The journal's entry is the claim: locked as long as its owner lives. What is under way stands in the catalog,
so an entry that its owner left says nothing that anybody needs, and goes with the next sync.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ..intents import Entry, Intents
from ..spi import Busy, StorageError

_log = logging.getLogger("bollard.service")
CLAIM = "service.claim"


@contextmanager
def claimed(journal: Intents, what: str, subject: str) -> Iterator[Entry]:
    """Hold an object, such as a "snapshot" or "volume", or refuse; yields the claim, for `is_lost`.

    Raises:
        Busy: somebody living works on it; nothing was begun.
    """
    entry = journal.begin(CLAIM, what=what, subject=subject)
    try:
        with journal.deciding(entry.fields):
            if journal.others_hold(entry, {CLAIM}):
                raise Busy(f"somebody works on {what} {subject} now")
        yield entry
    finally:
        _let_go(entry)


def is_lost(journal: Intents, claim: Entry) -> bool:
    """Tell whether others have taken the object over, since this process stood still: it is theirs to end.

    Ask before something is undone. What cannot be asked now is left to them, or to a sync.
    """
    try:
        return journal.others_hold(claim, {CLAIM})
    except StorageError:
        return True


def _let_go(entry: Entry) -> None:
    """End a claim; what was done under it is done, whether or not that can be noted now."""
    try:
        entry.done()
    except StorageError as error:
        _log.warning("a claim stays until a sync: %s", error)
        entry.release()


def drop_void_claims(journal: Intents, subjects: Collection[tuple[str, str]] | None = None) -> None:
    """Remove the claims of the dead; of these kinds and ids, such as ("volume", "v-1"), or all."""
    for entry in journal.abandoned():
        subject = (entry.fields.get("what", ""), entry.fields.get("subject", ""))
        if entry.kind == CLAIM and (subjects is None or subject in subjects):
            entry.done()
        else:
            entry.release()
