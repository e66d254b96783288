"""Images in an archive that were begun, and are to leave no trace: half of one, or one nobody wants.

    v1/<volume>/<snapshot>/<attempt>/begin.json     ours? the writer's name says so ──> removed
                                    /<part>.zip     nobody needs it any more        ──> collected
                           manifest.json            only if it is our cut           ──> removed first

Without that a cancelled copy would keep its parts until its lease is over.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..archive import Archive, Manifest
from ..archive.intent import read_intent
from ..archive.names import begin_key, parse, volume_prefix
from ..archive.store import keys_under
from ..spi import Call, DataLoss, NotFound
from ..steps import step
from ..store import Store
from .snapshots_context import writer_of


def manifest_of(archive: Archive, volume: str, image: str, call: Call) -> Manifest | None:
    """Return the manifest of an image, or None."""
    try:
        return archive.show(step(call), volume=volume, snapshot=image)
    except NotFound:
        return None


def remove_image(
    archive: Archive,
    store: Store,
    volume: str,
    image: str,
    call: Call,
    *,
    cut: str,
    known: Iterable[str],
    writer: str = "",
) -> None:
    """Remove an image, whole or half, with what it alone used; somebody else's of the same id stays.

    Args:
        cut: when ours was cut, as a manifest says it; "" if any that is there is ours.
        known: ids of the other images of the volume that are recorded on this store.
        writer: of the image, if it is not called after it: a template's.
    """
    withdraw(store, volume, image, call, writer_of(writer or image))
    if _is_ours(archive, volume, image, cut, call):
        archive.delete(step(call), volume=volume, snapshot=image, known=[*known])
    else:
        archive.collect(step(call), volume=volume, known=[*known, image])


def _is_ours(archive: Archive, volume: str, image: str, cut: str, call: Call) -> bool:
    try:
        manifest = manifest_of(archive, volume, image, call)
    except DataLoss:  # a damaged one is never somebody else's good one
        return True
    return manifest is not None and cut in ("", manifest.created)


def withdraw(store: Store, volume: str, image: str, call: Call, writer: str) -> None:
    """Remove the intents of our runs of an image; whoever calls has the claim, so none is alive."""
    prefix = f"{volume_prefix(volume)}{image}/"
    keys = (parse(item.key) for item in keys_under(store, prefix, step(call)))
    for layer in sorted({key.layer for key in keys if key and key.attempt and not key.part}):
        intent = read_intent(store, volume, layer, step(call))
        if intent is not None and intent.writer == writer:
            store.delete(begin_key(volume, layer), step(call))
    store.abort_uploads(prefix, step(call), older_than=0)
