"""`core/service/fleet.py`: [catalog] of the configuration, and what a machine of a fleet does with it."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import make_url

from bollard.core.catalog import Catalog
from bollard.core.config import load_config
from bollard.core.service.catalog_place import catalog_url, open_catalog
from bollard.core.service.fleet import open_mover
from bollard.core.service.intents import CatalogJournal
from bollard.core.site import Site
from bollard.core.spi import InvalidArgument

pytest_plugins = ["catalog_fixture"]

PASSWORD = "corr3ct/horse+battery"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A function that reads a configuration with this text."""
    monkeypatch.setenv("BOLLARD_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CATALOG_PASSWORD", PASSWORD)

    def read(text: str, mode: int = 0o600):
        path = tmp_path / "bollard.toml"
        path.write_text(text)
        path.chmod(mode)
        return load_config(path)

    return read


def test_a_machine_alone_keeps_its_records_in_its_state(config, tmp_path):
    """Without [catalog] there is a file of SQLite, and a journal of files."""
    read = config("")
    assert catalog_url(read).reveal() == f"sqlite:///{tmp_path}/state/catalog.db"
    mover, end = open_mover(read)
    mover.journal.begin("grant", pool="p").done()
    assert (tmp_path / "state" / "journal").is_dir()
    end()


def test_a_password_may_stand_apart_from_the_url(config):
    """It is put where the database wants it, whatever characters it has."""
    read = config('[catalog]\nurl = "postgresql://me@db-1/b"\npassword = { env = "CATALOG_PASSWORD" }')
    found = catalog_url(read)
    parsed = make_url(found.reveal())
    assert (parsed.username, parsed.password, parsed.host) == ("me", PASSWORD, "db-1")
    assert PASSWORD not in repr(found) + repr(read)


@pytest.mark.parametrize(
    "text",
    [
        '[catalog]\nurl = "postgresql://me:corr3ct@db-1/b"',
        '[catalog]\nurl = "postgresql://me@db-1/b"\npassword = "corr3ct"',
    ],
)
def test_a_plain_password_in_a_file_for_everybody_is_refused(config, text):
    """As for pools and stores; the message has not got it."""
    config(text)
    with pytest.raises(InvalidArgument, match="plain password") as raised:
        config(text, 0o644)
    assert "corr3ct" not in str(raised.value)


@pytest.mark.parametrize("url", ["corr3ct horse", "", "://corr3ct"])
def test_a_url_that_is_none_is_told_without_it(config, url):
    """It may hold a password."""
    with pytest.raises(InvalidArgument) as raised:
        catalog_url(config(f'[catalog]\nurl = "{url}"'))
    assert "corr3ct" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_an_unknown_key_is_refused(config):
    """A typo must not leave a fleet without its catalog."""
    with pytest.raises(InvalidArgument, match=r"'catalog\.ulr' is unknown"):
        config('[catalog]\nulr = "sqlite:///x"')


def test_a_machine_of_a_fleet_keeps_its_intents_in_the_catalog(config, catalog_url):
    """What one process has begun, another one finds once the first has ended."""
    read = config(f'[catalog]\nurl = "{catalog_url}"')
    mover, end = open_mover(read)
    assert isinstance(mover.journal, CatalogJournal)
    mover.journal.begin("grant", pool="p")
    end()
    with Site(read) as site:
        [entry] = site.mover().journal.abandoned()
        assert entry.fields == {"pool": "p"}
        entry.done()
        assert isinstance(site.catalog(), Catalog)
    with closing(open_catalog(read)):
        pass
