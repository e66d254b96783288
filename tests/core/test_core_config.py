"""The configuration file: read strictly, with secrets kept from other users of the machine."""

from __future__ import annotations

import traceback

import pytest

from bollard.core.config import _names_a_secret, config_path, load_config
from bollard.core.plugins import PluginError, driver_names, load_driver
from bollard.core.spi import InvalidArgument, NotFound, options_schema

GOOD = """
[pools.ssd-1]
driver = "array"
options = { url = "https://array:8443", password = { env = "ARRAY_PASSWORD" } }

[pools.slow]
driver = "qcow2"

[stores.nightly]
driver = "s3"
options = { bucket = "archive" }

[stores.weekly]
driver = "nfs"

[default]
store = "nightly"
"""


@pytest.fixture
def write(tmp_path):
    """A function that writes the file for its owner only (or with another mode) and returns its path."""

    def write(text: str | bytes, mode: int = 0o600):
        path = tmp_path / "bollard.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    return write


def test_good_file(write):
    """Pools and stores are found with driver and options; options are optional."""
    config = load_config(write(GOOD))

    assert config.pool("ssd-1").driver == "array"
    assert config.pool("ssd-1").options["password"] == {"env": "ARRAY_PASSWORD"}
    assert config.store("weekly").options == {}
    assert config.path.name == "bollard.toml"


def test_default_selection(write):
    """Without a name: the default, else the only one, else a question; a name wins over the default."""
    config = load_config(write(GOOD))
    assert config.store().name == "nightly"
    assert config.store("weekly").name == "weekly"
    with pytest.raises(InvalidArgument, match=r"name a pool: .* has slow, ssd-1"):
        config.pool()

    assert load_config(write('[pools.only]\ndriver = "qcow2"')).pool().name == "only"
    with pytest.raises(InvalidArgument, match=r"name a store: .* has none"):
        load_config(write("")).store()


def test_unknown_names_are_not_found(write):
    """A mistyped name, also one in [default], is `NotFound` with what was perhaps meant."""
    with pytest.raises(NotFound, match="no pool 'sdd-1'; did you mean 'ssd-1'"):
        load_config(write(GOOD)).pool("sdd-1")
    with pytest.raises(NotFound, match="no store 'nightyl'; did you mean 'nightly'"):
        load_config(write(GOOD.replace('store = "nightly"', 'store = "nightyl"'))).store()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pools", "is not valid TOML"),
        (b"a = '\xff'", "is not UTF-8 text"),
        ("[pool.x]\ndriver = 'a'", "key 'pool' is unknown; did you mean 'pools'"),
        ("[pools.x]\ndrivr = 'a'", r"\[pools.x\] needs a driver"),
        ("[pools.x]\ndriver = 'a'\noption = {}", "key 'pools.x.option' is unknown; did you mean 'options'"),
        ("[pools]\nx = 5", r"\[pools.x\] needs a driver"),
        ("pools = 5", r"\[pools\] must be a table"),
        ("stores = []", r"\[stores\] must be a table"),
        ("default = 'x'", r"\[default\] must be a table"),
        ("[default]\nstroe = 'x'", "key 'default.stroe' is unknown; did you mean 'store'"),
        ("[default]\nstore = 5", "default.store must be text"),
        ("[pools.x]\ndriver = 5", "pools.x.driver must be text"),
        ("[pools.x]\ndriver = 'a'\noptions = 'b'", r"\[pools.x.options\] must be a table"),
    ],
)
def test_bad_files_name_the_place(write, text, message):
    """Each mistake is refused with the file and the place in it."""
    path = write(text)

    with pytest.raises(InvalidArgument, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_missing_file_says_what_to_do(tmp_path):
    """No file is `NotFound`; one that is a directory is told as that."""
    with pytest.raises(NotFound, match="write one, or name it with --config"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load_config(tmp_path)


def test_undecodable_file_does_not_show_its_bytes(write):
    """The exception for bad UTF-8 carries the whole file; it must not hang on ours."""
    path = write(b"password = 'hunter2\xff'")
    with pytest.raises(InvalidArgument) as caught:
        load_config(path)

    assert caught.value.__cause__ is None
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


PLAIN = """
[stores.nightly]
driver = "s3"
options = {{ bucket = "b", {} }}
"""


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("key", ["password", "secret_key", "auth_token", "access_key", "key", "passphrase"])
def test_plain_secret_that_others_may_read_is_refused(write, mode, key):
    """With a plain secret the file must be for its owner; the refusal names the place, not the value."""
    with pytest.raises(InvalidArgument, match=rf"nightly\.{key} is a plain secret.*chmod 600") as caught:
        load_config(write(PLAIN.format(f'{key} = "hunter2"'), mode))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_plain_secret_for_the_owner_is_fine(write, mode):
    """A file that nobody else may read can hold plain secrets."""
    config = load_config(write(PLAIN.format('secret_key = "hunter2"'), mode))

    assert config.store().options["secret_key"] == "hunter2"


@pytest.mark.parametrize("value", ['{ env = "X" }', '{ file = "/run/secrets/x" }'])
def test_references_may_be_read_by_all(write, value):
    """A file with references gives nothing away."""
    assert load_config(write(PLAIN.format(f"secret_key = {value}"), 0o644)).store().name == "nightly"


def test_every_secret_of_our_drivers_is_recognised_by_its_name():
    """The check knows names only, so each secret option that we ship must have a telling one."""
    unseen = set()
    for name in driver_names():
        try:
            properties = options_schema(load_driver(name).Options)["properties"]
        except PluginError:
            continue
        unseen |= {
            f"{name}.{o}" for o, p in properties.items() if p.get("writeOnly") and not _names_a_secret(o)
        }

    assert unseen == set()


def test_path_comes_from_the_environment(monkeypatch, write):
    """$BOLLARD_CONFIG wins; else the platform's place."""
    path = write(GOOD)
    monkeypatch.setenv("BOLLARD_CONFIG", str(path))
    assert config_path() == path
    assert load_config().path == path
    monkeypatch.delenv("BOLLARD_CONFIG")
    assert config_path().name == "bollard.toml"
