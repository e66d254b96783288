"""A fleet on paper: what `bollard archive plan` reads, checked field by field.

    {"seed": 1,
     "volumes": [{"pool": "ssd-1", "count": 5000, "size": {"median": "40GiB", "sigma": 0.8},
                  "data": 0.5, "changed": 0.02, "touched": 0.2, "full": false}],
     "pools":   {"ssd-1": {"bandwidth": "2GiB", "latency": 0.001, "tracks_changes": true}},
     "store":   {"bandwidth": "1GiB", "connection": "120MiB", "latency": 0.02},
     "workers": [{"count": 4, "pools": ["ssd-1"], "threads": 4, "cores": 8, "link": "1GiB", "hash": 4e8}],
     "coordinator": {"volumes": 8, "volume_seconds": 0.3}}

Bandwidths are bytes per second. A number may be a distribution: {"median", "sigma"} (log-normal),
{"min", "max"} (uniform). docs/fleet.md tells each field.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from ...transfer_objects.errors import did_you_mean
from ..spi import InvalidArgument, NotFound

T = TypeVar("T")

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]iB|B)?")
_UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number, or a distribution to draw it from."""

    low: float
    high: float
    sigma: float = 0.0

    def draw(self, chance: random.Random) -> float:
        """Return one."""
        if self.sigma:
            return self.low * math.exp(chance.gauss(0, self.sigma))
        return self.low if self.low == self.high else chance.uniform(self.low, self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """Alike volumes.

    Attributes:
        size: bytes.
        data: share of it that is allocated.
        changed: share of the data that changed since the last night.
        touched: share of the windows with data in which something changed.
        full: the night makes fulls.
    """

    pool: str
    size: Number
    count: int = 1
    data: Number = Number(low=1.0, high=1.0)
    changed: Number = Number(low=0.02, high=0.02)
    touched: Number = Number(low=0.2, high=0.2)
    full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """How fast a pool is read.

    Attributes:
        latency: seconds until the first byte comes.
        tracks_changes: an increment reads only what changed, and the snapshot stays; else all data is read
            and compared, and the archived copy is read back before the snapshot goes.
    """

    bandwidth: float = math.inf
    latency: float = 0.0
    tracks_changes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlan:
    """How fast the store takes (and gives) bytes: in all, on one connection, and until it answers."""

    bandwidth: float = math.inf
    connection: float = math.inf
    latency: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """Alike workers.

    Attributes:
        threads: tasks at once, on so many `cores`.
        link: bytes per second, each way.
        hash: bytes per second and core: reading into memory, zero detection, both digests.
        compress: likewise, infinite where nothing is compressed; `ratio`: bytes sent per byte of data.
    """

    pools: tuple[str, ...]
    count: int = 1
    threads: int = 1
    cores: int = 1
    link: float = math.inf
    hash: float = math.inf
    compress: float = math.inf
    ratio: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorPlan:
    """As the options of `bollard archive fleet`; 0 is no limit.

    Attributes:
        volume_seconds: what a volume costs besides its bytes: the cut, the lease, the manifest.
        task_seconds: what a task costs besides: opening the source.
    """

    volumes: int = 8
    per_pool: int = 0
    per_store: int = 0
    batch: int = 4
    lanes: int = 2
    window: int = 64 * 2**20
    volume_seconds: float = 0.0
    task_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole fleet."""

    volumes: tuple[Volumes, ...]
    pools: Mapping[str, PoolPlan]
    store: StorePlan
    workers: tuple[WorkerPlan, ...]
    coordinator: CoordinatorPlan = CoordinatorPlan()
    seed: int = 0


def read_scenario(path: Path) -> Scenario:
    """Read and check a file.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: naming the field and the rule.
    """
    try:
        return scenario_of(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise NotFound(f"no fleet at {path}") from error
    except ValueError as error:
        raise InvalidArgument(f"{path} is not JSON: {error}") from error


def scenario_of(raw: Any) -> Scenario:
    """Check what was read; errors as `read_scenario`."""
    keys = {field.name for field in fields(Scenario)}
    top = _known("fleet", raw, keys)
    scenario = Scenario(
        volumes=tuple(_made(Volumes, f"volumes[{i}]", v) for i, v in enumerate(_list("volumes", top))),
        pools={name: _made(PoolPlan, f"pools.{name}", v) for name, v in _table("pools", top).items()},
        store=_made(StorePlan, "store", _table("store", top)),
        workers=tuple(_made(WorkerPlan, f"workers[{i}]", v) for i, v in enumerate(_list("workers", top))),
        coordinator=_made(CoordinatorPlan, "coordinator", top.get("coordinator", {})),
        seed=_integer("seed", top.get("seed", 0), 0),
    )
    for i, volumes in enumerate(scenario.volumes):
        if volumes.pool not in scenario.pools:
            raise InvalidArgument(f"volumes[{i}].pool: there is no pool {volumes.pool!r} in pools")
        if not any(volumes.pool in worker.pools for worker in scenario.workers):
            raise InvalidArgument(f"volumes[{i}].pool: no worker reaches {volumes.pool!r}")
    return scenario


def _known(place: str, raw: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise InvalidArgument(f"{place} must be an object")
    for key in raw:
        if key not in keys:
            raise InvalidArgument(f"{place}: key {key!r} is unknown; {did_you_mean(key, sorted(keys))}")
    return raw


def _list(key: str, top: dict[str, Any]) -> list[Any]:
    if not isinstance(top.get(key), list) or not top[key]:
        raise InvalidArgument(f"{key} must be a list with something in it")
    found: list[Any] = top[key]
    return found


def _table(key: str, top: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(top.get(key), dict):
        raise InvalidArgument(f"{key} must be an object")
    found: dict[str, Any] = top[key]
    return found


def _made(cls: type[T], place: str, raw: Any) -> T:
    """Make one of the classes above, each field by the type that it says."""
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]  # all are dataclasses
    values = {}
    for key, value in _known(place, raw, set(known)).items():
        values[key] = _READERS[str(known[key].type)](f"{place}.{key}", value)
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            raise InvalidArgument(f"{place}.{name} is missing")
    return cls(**values)


def _amount(place: str, raw: Any) -> float:
    """Return a number; text with a unit is one, too."""
    if isinstance(raw, str) and (match := _SIZE.fullmatch(raw)):
        raw = float(match[1]) * _UNITS[match[2]]
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw < math.inf:
        raise InvalidArgument(f"{place} must be a number that is not negative, or a size such as 40GiB")
    return float(raw)


def _rate(place: str, raw: Any) -> float:
    rate = _amount(place, raw)
    if rate == 0 and not place.endswith(("latency", "seconds")):
        raise InvalidArgument(f"{place} must be above 0")
    return rate


def _number(place: str, raw: Any) -> Number:
    if not isinstance(raw, dict):
        amount = _amount(place, raw)
        return Number(low=amount, high=amount)
    found = {key: _amount(f"{place}.{key}", raw[key]) for key in _known(place, raw, _DISTRIBUTION)}
    if set(found) == {"median", "sigma"}:
        return Number(low=found["median"], high=found["median"], sigma=found["sigma"])
    if set(found) != {"min", "max"} or found["min"] > found["max"]:
        raise InvalidArgument(f"{place} must have median and sigma, or min and max")
    return Number(low=found["min"], high=found["max"])


_DISTRIBUTION = {"median", "sigma", "min", "max"}


def _integer(place: str, raw: Any, least: int | None = None) -> int:
    least = (0 if place.endswith(("per_pool", "per_store")) else 1) if least is None else least
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < least:
        raise InvalidArgument(f"{place} must be a whole number of at least {least}")
    return raw


def _text(place: str, raw: Any) -> str:
    if not isinstance(raw, str):
        raise InvalidArgument(f"{place} must be text")
    return raw


def _texts(place: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise InvalidArgument(f"{place} must be a list of names")
    return tuple(_text(place, one) for one in raw)


def _flag(place: str, raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise InvalidArgument(f"{place} must be true or false")
    return raw


_READERS: Mapping[str, Any] = {
    "str": _text,
    "tuple[str, ...]": _texts,
    "int": _integer,
    "bool": _flag,
    "float": _rate,
    "Number": _number,
}
