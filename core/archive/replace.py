"""A new image in the place of one that is in the archive: the old one stays whole until the new one is.

    old    begin.json ── parts ── manifest.json
    new    begin.json ── parts ── all there? ── lease? ─┐
                                                        v
                                          manifest.json put over the old one        <- commit
                                          old begin.json deleted ── collect: the old parts

A put is all or nothing, so who reads the manifest reads the old one or the new one, each with parts that
are there. Killed before the commit, the next run takes finished parts over; killed after it, the old parts
are garbage like those of any deleted snapshot, and the next collect frees them.

The new run takes nothing over from the old one, though much may be equal: its intent could be listed by
a collector that reads it only after it was deleted here, and what it protected would be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..dataplane.api import BlockSource
from ..spi.call import Call
from ..spi.errors import DataLoss, NotFound, Outcome, StorageError
from ..spi.image_store import Body
from .begin import Beginning
from .create import CreateOptions, Creation
from .manifest import Manifest
from .names import begin_key, manifest_key
from .parallel import Workers
from .rescue import publish_rescue
from .store import Store, load_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One image on its way to a place that may be taken.

    Attributes:
        beginning: the run, as that of a `create`.
        collect: frees what nobody needs of the volume.
    """

    store: Store
    beginning: Beginning
    options: CreateOptions
    workers: Workers
    collect: Callable[[], object]

    def run(self, source: BlockSource, call: Call) -> Manifest:
        """Copy all of `source`, and put it in the place; raises as `Archive.replace`."""
        with _nothing_replaced():
            beginning = replace(self.beginning, replaced=self._committed(call))
            begun = beginning.begin(None, call)
            publish_rescue(self.store, call)
            creation = Creation(self.store, begun, self.options, self.workers)
            manifest = creation.copied(source, None, call, Creation.copy)
            body, last_moment = creation.sealed(manifest, call)
            # Once more: somebody else may have replaced the first one meanwhile, and ended.
            old = {beginning.replaced, self._committed(last_moment)} - {""}
        self._put(body, last_moment)
        self._free(old, call)
        return manifest

    def _committed(self, call: Call) -> str:
        """Return the attempt whose image is there, or ""."""
        try:
            return load_manifest(self.store, self.beginning.volume, self.beginning.snapshot, call).attempt
        except NotFound:
            return ""
        except DataLoss as error:  # a damaged image is replaced like a good one; its intent ends by itself
            call.log.warning("a damaged image is replaced: %s", error)
            return ""

    def _put(self, body: Body, call: Call) -> None:
        self.store.put(manifest_key(self.beginning.volume, self.beginning.snapshot), body, call)

    def _free(self, attempts: set[str], call: Call) -> None:
        """Free the old one. The new one is committed: what fails here is logged, and left to a sweep.

        Without the intent's deletion the old parts would be kept until its lease is over.
        """
        volume, snapshot = self.beginning.volume, self.beginning.snapshot
        try:
            for attempt in sorted(attempts):
                self.store.delete(begin_key(volume, f"{snapshot}/{attempt}"), call)
            if attempts:
                self.collect()
        except StorageError as error:
            call.log.warning("%s/%s was replaced, the old one is not freed yet: %s", volume, snapshot, error)


@contextmanager
def _nothing_replaced() -> Iterator[None]:
    """Say of any failure that the image in the place is the one from before: no step here touches it."""
    try:
        yield
    except StorageError as error:
        if error.outcome is Outcome.NOT_APPLIED:
            raise
        outcome = Outcome.NOT_APPLIED
        told = type(error)(error.message, outcome=outcome, detail=error.detail, retry_after=error.retry_after)
        raise told from error
