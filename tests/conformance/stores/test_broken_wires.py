"""Checks of what opening a remote store says fail drivers that say it wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bollard.conformance.checks import store_security
from bollard.conformance.lab import ContractBroken
from bollard.core.plugins import registered
from bollard.core.spi import Call, Internal, StorageError, Unauthenticated, option
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.drivers.secondary.swift import SwiftDriver


class EverythingInternal(SwiftDriver):
    """One class of error for all."""

    def open(self, call: Call) -> None:
        """Something went wrong."""
        try:
            super().open(call)
        except StorageError as error:
            raise Internal("the store could not be opened") from error


class ShowsKey(SwiftDriver):
    """Who one is, in each error."""

    def open(self, call: Call) -> None:
        """With the key."""
        try:
            super().open(call)
        except StorageError as error:
            raise Unauthenticated(f"{error} for {self.options.key.reveal()}") from error


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (store_security.check_store_wrong_credentials, EverythingInternal),
        (store_security.check_open_unreachable, EverythingInternal),
        (store_security.check_store_secrets_not_shown, ShowsKey),
    ],
)
def test_broken_opening_is_found(
    check: Callable[[Any], None], broken: type[SwiftDriver], swift_rig: Any, lab_on_store: Any
) -> None:
    """A store whose errors are of the wrong class, or show its key, fails."""
    with (
        registered("broken", broken),
        lab_on_store("broken", swift_rig.options) as lab,
        pytest.raises(ContractBroken),
    ):
        check(lab)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """A directory behind TLS, so to speak."""

    path: Path = option(help="The directory", example="/mnt/x")
    url: str = option(help="Unused", default="")
    must_be_mounted: bool = option(help="Unused", default=False)
    ca_file: Path | None = option(help="Authorities to trust", default=None)


class IgnoresAuthority(NfsDriver):
    """Trusts everybody."""

    Options: ClassVar[Any] = TlsOptions


class ChecksAuthority(IgnoresAuthority):
    """Trusts only what is in the file that the tests made."""

    def open(self, call: Call) -> None:
        """Look at the authority."""
        if self.options.ca_file.read_text() != "ours":  # type: ignore[attr-defined] # its own options
            raise Unauthenticated("the certificate is not trusted")
        super().open(call)


@pytest.mark.parametrize("driver", [IgnoresAuthority, ChecksAuthority])
def test_authority_is_checked(driver: type[NfsDriver], tmp_path: Path, lab_on_store: Any) -> None:
    """A store that opens whatever authority it is given fails, one that looks passes."""
    (tmp_path / "ca.pem").write_text("ours")
    options = {"path": str(tmp_path), "ca_file": str(tmp_path / "ca.pem")}
    with registered("tls", driver), lab_on_store("tls", options) as lab:
        if driver is ChecksAuthority:
            store_security.check_store_tls_verified(lab)
            return
        with pytest.raises(ContractBroken, match="has not signed"):
            store_security.check_store_tls_verified(lab)
