"""Scoped settings: which value holds where, and what is refused."""

from __future__ import annotations

import pytest

from bollard.core.settings import (
    BACKUP_TO_SECONDARY,
    DELTA_MAX,
    INCREMENTAL_SNAPSHOT,
    SETTINGS,
    VM_SNAPSHOT_MAX,
    Scope,
    Settings,
    Where,
)
from bollard.core.spi import InvalidArgument

HERE = Where(zone="z1", cluster="c1", pool="p1")


@pytest.fixture
def settings() -> Settings:
    """Nothing was set yet."""
    return Settings()


def test_defaults_are_cloudstacks(settings):
    """Untouched settings have the values that CloudStack ships."""
    assert settings.get(INCREMENTAL_SNAPSHOT, HERE) is False
    assert settings.get(DELTA_MAX, HERE) == 16
    assert settings.get(BACKUP_TO_SECONDARY, HERE) is True
    assert settings.get(VM_SNAPSHOT_MAX, HERE) == 10


def test_nearest_scope_wins(settings):
    """A cluster's value beats its zone's, and that the global one; elsewhere the wider ones hold."""
    settings.set("kvm.incremental.snapshot", True)
    settings.set("kvm.incremental.snapshot", False, Scope.ZONE, "z1")
    settings.set("kvm.incremental.snapshot", True, Scope.CLUSTER, "c1")

    assert settings.get(INCREMENTAL_SNAPSHOT, HERE) is True
    assert settings.get(INCREMENTAL_SNAPSHOT, Where(zone="z1", cluster="c2")) is False
    assert settings.get(INCREMENTAL_SNAPSHOT, Where(zone="z2")) is True


def test_unset_lets_the_wider_scope_decide(settings):
    """A value that was taken back no longer holds, however often it is taken back."""
    settings.set("snapshot.backup.to.secondary", False, Scope.ZONE, "z1")
    settings.unset("snapshot.backup.to.secondary", Scope.ZONE, "z1")
    settings.unset("snapshot.backup.to.secondary", Scope.ZONE, "z1")

    assert settings.get(BACKUP_TO_SECONDARY, HERE) is True


@pytest.mark.parametrize(("text", "value"), [("true", True), (" False ", False)])
def test_text_is_read_as_the_settings_type(settings, text, value):
    """What comes from a command line is typed."""
    settings.set("kvm.incremental.snapshot", text)

    assert settings.get(INCREMENTAL_SNAPSHOT, HERE) is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kvm.incremental.snapshot", "yes"),
        ("kvm.incremental.snapshot", 1),
        ("snapshot.delta.max", True),
        ("snapshot.delta.max", "many"),
        ("snapshot.delta.max", 0),
        ("snapshot.delta.max", "201"),
        ("vmsnapshot.max", None),
    ],
)
def test_bad_values_are_refused(settings, name, value):
    """A value of another type or out of bounds changes nothing, and the error names the setting."""
    with pytest.raises(InvalidArgument, match=name):
        settings.set(name, value)

    assert settings.get(SETTINGS[name], HERE) == SETTINGS[name].default


def test_unknown_name_tells_the_closest(settings):
    """A typo is an error that says what was perhaps meant."""
    with pytest.raises(InvalidArgument, match=r"did you mean 'kvm\.incremental\.snapshot'"):
        settings.set("kvm.incremental.snapshots", True)


def test_scope_must_be_the_settings_own(settings):
    """The length of chains is one for all: no cluster has its own."""
    with pytest.raises(InvalidArgument, match="its scopes are: global"):
        settings.set("snapshot.delta.max", 3, Scope.CLUSTER, "c1")


@pytest.mark.parametrize(("scope", "owner"), [(Scope.GLOBAL, "z1"), (Scope.ZONE, "")])
def test_scope_and_owner_belong_together(settings, scope, owner):
    """A zone's value needs the zone; a global one has no owner."""
    with pytest.raises(InvalidArgument, match="owner"):
        settings.set("kvm.incremental.snapshot", True, scope, owner)
