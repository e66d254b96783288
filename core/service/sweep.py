"""The sweep: finds what nobody owns on all pools and stores, and removes it.

    open all ──> share the journal's dead entries out ──> each place in a thread of its own ──> report
       │ one that cannot be opened                        │ one find, or one place, that fails
       └── is told, and keeps nobody waiting              └── is told; the others go on

Nothing goes that does not carry our mark, and whose owner is not provably dead (the kernel gave its lock
back), or that has not been idle for longer than the limit. Two sweeps at once share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ..access import KINDS, Mover
from ..intents import Entry
from ..plugins import PluginError
from ..pool import Pool
from ..spi import Internal, Outcome, StorageError
from ..store import Store
from .leftovers import End, Failure, Leftover, Place, Report, Run, Swept
from .seen import Seen
from .snapshots_claims import CLAIM
from .sweep_hosts import HostPlace
from .sweep_pools import PoolPlace
from .sweep_stores import StorePlace

_AT_ONCE = 8

DAY = 86_400.0


class _Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What is swept.

    Attributes:
        pools: by name, what opens each; as `stores`.
        mover: this machine, and its journal.
        seen: see `Seen`.
        hosts: by name, what opens the hosts of each hypervisor.
        places: what is open already, such as this machine's state.
    """

    pools: Mapping[str, Callable[[], Pool]]
    stores: Mapping[str, Callable[[], Store]]
    mover: Mover
    seen: Seen
    hosts: Mapping[str, Callable[[], HostPlace]] = field(default_factory=dict)
    places: Sequence[Place] = ()

    def run(self, run: Run) -> Report:
        """Look everywhere, and remove what is found unless it is a dry run."""
        report = Report()
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE) as threads:
            pools = _open_all("pool", self.pools, threads, stack, report)
            stores = _open_all("store", self.stores, threads, stack, report)
            hosts = _open_all("hypervisor", self.hosts, threads, stack, report)
            places: list[Place] = [
                *self._pool_places(pools, report, run),
                *(StorePlace(store=store) for store in stores),
                *hosts,
                *self.places,
            ]
            for swept, failure in threads.map(lambda place: _look(place, run), places):
                report.swept += swept
                report.failures += failure
        return report

    def _pool_places(self, pools: Sequence[Pool], report: Report, run: Run) -> Iterator[PoolPlace]:
        """Share the entries out first: of two threads that claim one, each would find the other at it."""
        of_pool: dict[str, list[Entry]] = {pool.info.identity: [] for pool in pools}
        for entry in self.mover.journal.abandoned():
            if entry.kind == CLAIM:  # it keeps others out while its owner lives, and names nothing
                entry.release() if run.dry_run else entry.done()
                continue
            entry.release()
            mine = of_pool.get(entry.fields.get("pool", "")) if entry.kind in KINDS else None
            if mine is not None:
                mine.append(entry)
            else:
                report.swept.append(_not_ours(entry))
        for pool in pools:
            entries = of_pool.pop(pool.info.identity, [])  # one pool may be configured under two names
            yield PoolPlace(pool=pool, mover=self.mover, entries=entries, seen=self.seen)


def _not_ours(entry: Entry) -> Swept:
    reason = "no pool that could be opened has this identity"
    if entry.kind not in KINDS:
        reason = "it is not about a pool: what began it ends it when it syncs"
    leftover = Leftover(
        place=f"journal, for pool {entry.fields.get('pool', 'unknown')}",
        kind=entry.kind,
        name=entry.fields.get("volume", ""),
        why="the journal names it",
        owner=entry.owner,
    )
    return Swept(leftover=leftover, end=End.KEPT, reason=reason)


def _open_all(
    kind: str,
    openers: Mapping[str, Callable[[], T]],
    threads: ThreadPoolExecutor,
    stack: ExitStack,
    report: Report,
) -> list[T]:
    """Open what can be opened; all at once, since one that does not answer takes minutes to say so."""
    opened = []
    begun = {name: threads.submit(_typed, open_one) for name, open_one in openers.items()}
    for name, future in begun.items():
        result = future.result()
        if isinstance(result, StorageError):
            report.failures.append(Failure(place=f"{kind} {name}", error=result))
        else:
            opened.append(stack.enter_context(closing(result)))
    return opened


def _typed(open_one: Callable[[], T]) -> T | StorageError:
    try:
        return open_one()
    except StorageError as error:
        return error
    except PluginError as error:
        return Internal(str(error), outcome=Outcome.NOT_APPLIED)


def _look(place: Place, run: Run) -> tuple[list[Swept], list[Failure]]:
    swept: list[Swept] = []
    try:
        swept.extend(place.sweep(run))
    except StorageError as error:
        return swept, [Failure(place=place.name, error=error)]
    return swept, []
