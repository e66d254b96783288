"""The configuration file: pools, stores, hypervisors and fences, under names that commands use.

    [pools.ssd-1]
    driver = "array"
    options = { url = "https://array:8443", username = "bollard", password = { env = "ARRAY_PASSWORD" } }

    [stores.nightly]
    driver = "s3"
    options = { bucket = "archive", access_key = "…", secret_key = { file = "/run/secrets/s3" } }

    [fences.host-7]
    driver = "ipmi"
    options = { host = "bmc-7", username = "fence", password = { env = "BMC_PASSWORD" } }

    [hypervisors.kvm-7]
    driver = "kvm"
    options = { hosts = "host-7=qemu:///system" }
    host = "host-7"
    uuid = "9f0c1b62-5a53-4d4e-8d5f-0d2e7a3b1c44"

    [stores.nightly.limits]
    bandwidth = "100MiB"
    concurrency = 8

    [stores.nightly.keep]
    daily = 7
    weekly = 5
    zone = "Europe/Berlin"

    [increments.files]
    hypervisor = "kvm-7"
    directory = "/mnt/pool/increments"

    [default]
    store = "nightly"

    [catalog]
    url = "postgresql://bollard@db-1/bollard"
    password = { env = "CATALOG_PASSWORD" }

A `uuid` (a text, or several in a list) is what an orchestrator calls the pool, store or hypervisor; its
commands may name it by that alone. Found at --config, else $BOLLARD_CONFIG, else the platform's
configuration directory. Secrets belong into references ({env = …}, {file = …}); a file with a plain one
that others may read is refused.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs

from ..transfer_objects.cloudstack.ids import native_id
from ..transfer_objects.errors import did_you_mean
from .archive.retention import Policy
from .increments import Directory, Increments, Named, parse_directories, parse_increments
from .limits import Limits
from .spi import InvalidArgument, NotFound

_ENTRY_KEYS = {
    "pools": {"driver", "options", "limits", "uuid"},
    "stores": {"driver", "options", "limits", "keep", "uuid"},
    "hypervisors": {"driver", "options", "host", "uuid"},
    "fences": {"driver", "options"},
}
_TOP_KEYS = {*_ENTRY_KEYS, "default", "catalog", "webhooks", "increments", "directories"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One pool, store, hypervisor or fence of the file.

    Attributes:
        keep: a store's retention, if it has any.
        uuids: what orchestrators call it, as ids of Bollard (`native_id`).
        host: of a hypervisor that reaches several hosts: the one that commands are about.
    """

    name: str
    driver: str
    options: Mapping[str, Any]
    limits: Limits = Limits()
    keep: Policy | None = None
    uuids: tuple[str, ...] = ()
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The parsed file.

    Attributes:
        path: where it came from, for messages.
        catalog: where the fleet's records are, as `CatalogPlace` has it; None: this machine is alone.
        webhooks: where events are delivered, as `event_stream.Webhook` has it.
        increments: by pool, where the incremental snapshots of its volumes go.
        directories: secondary storage for them that is mounted on this machine.
    """

    path: Path
    pools: Mapping[str, Backend]
    stores: Mapping[str, Backend]
    fences: Mapping[str, Backend]
    hypervisors: Mapping[str, Backend] = field(default_factory=dict)
    default_store: str = ""
    default_pool: str = ""
    catalog: Mapping[str, Any] | None = None
    webhooks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    increments: Mapping[str, Increments] = field(default_factory=dict)
    directories: Mapping[str, Directory] = field(default_factory=dict)

    def pool(self, name: str = "") -> Backend:
        """Return a pool by name or uuid, or the default (or only) one."""
        return self._choose("pool", self.pools, name or self.default_pool)

    def store(self, name: str = "") -> Backend:
        """Return a store by name or uuid, or the default (or only) one."""
        return self._choose("store", self.stores, name or self.default_store)

    def hypervisor(self, name: str = "") -> Backend:
        """Return a hypervisor by name or uuid, or the only one."""
        return self._choose("hypervisor", self.hypervisors, name)

    def fence(self, host: str) -> Backend:
        """Return the fence of a host; there is no default: the wrong host would be switched off."""
        if not host:
            raise InvalidArgument("name the host to be fenced")
        return self._choose("fence", self.fences, host)

    def increments_of(self, pool: str = "") -> tuple[str, Increments]:
        """Return a pool that has incremental snapshots, by name or uuid, or the default or only one."""
        default = self.default_pool if self.default_pool in self.increments else ""
        having = {name: one for name, one in self.pools.items() if name in self.increments}
        chosen = self._choose("pool with [increments]", having, pool or default).name
        return chosen, self.increments[chosen]

    def _choose(self, what: str, among: Mapping[str, Backend], name: str) -> Backend:
        if not name and len(among) == 1:
            return next(iter(among.values()))
        if not name:
            raise InvalidArgument(f"name a {what}: {self.path} has {', '.join(sorted(among)) or 'none'}")
        if name in among:
            return among[name]
        called = [backend for backend in among.values() if name in backend.uuids]
        if not called:
            raise NotFound(f"{self.path} has no {what} {name!r}; {did_you_mean(name, among)}")
        return called[0]


def config_path() -> Path:
    """Return where the configuration is looked for when no path is given."""
    chosen = os.environ.get("BOLLARD_CONFIG")
    return Path(chosen) if chosen else platformdirs.user_config_path("bollard") / "bollard.toml"


def load_config(path: Path | None = None) -> Config:
    """Read and check the configuration.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: naming the place in the file and the rule.
    """
    path = path or config_path()
    raw = _read(path)
    _check_keys(path, "", raw, _TOP_KEYS)
    default = _table(path, "default", raw)
    _check_keys(path, "default", default, {"pool", "store"})
    catalog = _table(path, "catalog", raw)
    _check_keys(path, "catalog", catalog, {"url", "password"})
    pools, stores, hypervisors = (_backends(path, one, raw) for one in ("pools", "stores", "hypervisors"))
    directories, increments = _increments(
        path, raw, Named(pools=pools, stores=stores, hypervisors=hypervisors)
    )
    config = Config(
        path=path,
        pools=pools,
        stores=stores,
        fences=_backends(path, "fences", raw),
        hypervisors=hypervisors,
        directories=directories,
        increments=increments,
        default_store=_text(path, "default.store", default.get("store", "")),
        default_pool=_text(path, "default.pool", default.get("pool", "")),
        catalog=catalog if "catalog" in raw else None,
        webhooks={
            name: _table(path, f"webhooks.{name}", _table(path, "webhooks", raw))
            for name in _table(path, "webhooks", raw)
        },
    )
    _check_mode(config)
    return config


def _increments(
    path: Path, raw: Mapping[str, Any], named: Named
) -> tuple[dict[str, Directory], dict[str, Increments]]:
    try:
        directories = parse_directories(_table(path, "directories", raw))
        return directories, parse_increments(_table(path, "increments", raw), directories, named)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message.removeprefix(f'{path}: ')}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        raise NotFound(f"no configuration at {path}: write one, or name it with --config") from error
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Not chained: the exception carries the file's bytes, secrets included.
        raise InvalidArgument(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not valid TOML: {error}") from error


def _table(path: Path, place: str, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    value = raw.get(place.rpartition(".")[2], {})
    if not isinstance(value, dict):
        raise InvalidArgument(f"{path}: [{place}] must be a table")
    return value


def _text(path: Path, place: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{path}: {place} must be text")
    return value


def _backends(path: Path, section: str, raw: Mapping[str, Any]) -> dict[str, Backend]:
    found = {}
    for name, entry in _table(path, section, raw).items():
        place = f"{section}.{name}"
        if not isinstance(entry, dict) or "driver" not in entry:
            raise InvalidArgument(f'{path}: [{place}] needs a driver = "…"')
        _check_keys(path, place, entry, _ENTRY_KEYS[section])
        keep = _table(path, f"{place}.keep", entry)
        found[name] = Backend(
            name=name,
            driver=_text(path, f"{place}.driver", entry["driver"]),
            options=_table(path, f"{place}.options", entry),
            limits=Limits.parse(_table(path, f"{place}.limits", entry), f"{path}: [{place}.limits]"),
            keep=Policy.parse(keep, f"{path}: [{place}.keep]") if "keep" in entry else None,
            uuids=_uuids(path, f"{place}.uuid", entry.get("uuid", [])),
            host=_text(path, f"{place}.host", entry.get("host", "")),
        )
    _check_uuids(path, section, found)
    return found


def _uuids(path: Path, place: str, value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    named = [native_id(text) for text in texts if isinstance(text, str) and text]
    if len(named) != len(texts):
        raise InvalidArgument(f"{path}: {place} must be a text, or a list of texts")
    return tuple(named)


def _check_uuids(path: Path, section: str, backends: Mapping[str, Backend]) -> None:
    """Refuse a uuid of two: which of them is written to must not hang on their order in the file."""
    seen: dict[str, str] = {}
    for backend in backends.values():
        for uuid in backend.uuids:
            other = backends[uuid].name if uuid in backends else seen.setdefault(uuid, backend.name)
            if other != backend.name:
                raise InvalidArgument(f"{path}: {section} {other} and {backend.name} have the uuid {uuid}")


def _check_keys(path: Path, place: str, raw: Mapping[str, Any], known: set[str]) -> None:
    for key in raw:
        if key not in known:
            place = ".".join(filter(None, (place, key)))
            raise InvalidArgument(f"{path}: key {place!r} is unknown; {did_you_mean(key, sorted(known))}")


def _check_mode(config: Config) -> None:
    """Refuse plain secrets in a file that everybody on the machine may read."""
    if not config.path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return
    sections = (config.pools, config.stores, config.hypervisors, config.fences)
    for backend in (backend for section in sections for backend in section.values()):
        for key, value in backend.options.items():
            if isinstance(value, str) and _names_a_secret(key):
                raise InvalidArgument(
                    f"{config.path}: {backend.name}.{key} is a plain secret in a file that others may read:"
                    f" use {{ env = … }} or {{ file = … }}, or chmod 600 {config.path}"
                )
    for name, webhook in config.webhooks.items():
        if isinstance(webhook.get("secret"), str):
            raise InvalidArgument(
                f"{config.path}: webhooks.{name}.secret is a plain secret in a file that others may read:"
                f" use {{ env = … }} or {{ file = … }}, or chmod 600 {config.path}"
            )
    url, password = (config.catalog or {}).get("url"), (config.catalog or {}).get("password")
    if isinstance(password, str) or (isinstance(url, str) and urlsplit(url).password):
        raise InvalidArgument(
            f"{config.path}: [catalog] has a plain password in a file that others may read:"
            f" use password = {{ env = … }} or {{ file = … }}, or chmod 600 {config.path}"
        )


def _names_a_secret(key: str) -> bool:
    """Guess it from the name: the drivers that know are not imported to read the configuration."""
    return key.endswith("key") or any(word in key for word in ("passw", "passphrase", "secret", "token"))
