"""Options: one dataclass gives validation, schema and template, and the three agree."""

from __future__ import annotations

import dataclasses
import math
import re
import string
import tomllib
import traceback
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.spi import InvalidArgument, option, options_schema, options_toml, parse_options
from bollard.transfer_objects.secret import Secret

SECRET = "hunter2-hunter2"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One option of each kind."""

    url: str = option(help="Where it listens", example="https://array:8443")
    password: Secret = option(help="Its password", secret=True)
    lun: int = option(help="First LUN", minimum=1, maximum=255)
    mode: str = option(help="How\nto behave", choices=("fast", "safe"))
    timeout: float = option(help="Seconds", default=30.0, minimum=0.1)
    verify: bool = option(help="Check certificates", default=True)
    path: Path = option(help="A directory", default=Path("/srv/it's"))
    limit: int | None = option(help="At most", default=None, minimum=4)
    level: str | None = option(help="How much", default=None, choices=("low", "high"))
    token: Secret | None = option(help="Instead of the password", secret=True, default=None)
    label: str = option(help="A name", default='it\'s "quoted" \\ here')


GOOD: dict[str, Any] = {"url": "https://a", "password": SECRET, "lun": 7, "mode": "fast"}


def refusal(**raw: Any) -> str:
    """Parse, and return the message of the refusal."""
    with pytest.raises(InvalidArgument) as caught:
        parse_options(Options, GOOD | raw)
    return str(caught.value)


def test_good_values_and_defaults():
    """Given values are taken as they are, the others have their defaults."""
    options = parse_options(Options, GOOD | {"timeout": 3, "path": "/tmp/x"})  # noqa: S108 - only a name

    assert options == Options(
        url="https://a",
        password=Secret(SECRET),
        lun=7,
        mode="fast",
        timeout=3.0,
        path=Path("/tmp/x"),  # noqa: S108  # wrong on purpose
    )
    assert type(options.timeout) is float


def test_options_objects_are_accepted_as_they_are():
    """Python callers may hand over a Secret and a Path instead of text."""
    options = parse_options(Options, GOOD | {"password": Secret(SECRET), "path": Path("/x")})

    assert (options.password.reveal(), options.path) == (SECRET, Path("/x"))


def test_optional_ones_take_none():
    """None is a value where the annotation says so, and only there."""
    assert parse_options(Options, GOOD | {"limit": None, "level": None, "token": None}).limit is None
    assert "'lun' must be of type integer" in refusal(lun=None)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"lun": "7"}, "option 'lun' must be of type integer, got '7'"),
        ({"lun": True}, "option 'lun' must be of type integer, got True"),
        ({"lun": 0}, "option 'lun' must be at least 1, got 0"),
        ({"lun": 256}, "option 'lun' must be at most 255, got 256"),
        ({"lun": 1.5}, "option 'lun' must be of type integer, got 1.5"),
        ({"timeout": "3"}, "option 'timeout' must be of type number, got '3'"),
        ({"timeout": 0.05}, "option 'timeout' must be at least 0.1, got 0.05"),
        ({"timeout": math.nan}, "option 'timeout' must be a finite number"),
        ({"timeout": math.inf}, "option 'timeout' must be a finite number"),
        ({"timeout": 10**400}, "option 'timeout' must be a finite number"),
        ({"verify": 1}, "option 'verify' must be of type boolean, got 1"),
        ({"verify": "yes"}, "option 'verify' must be of type boolean, got 'yes'"),
        ({"mode": "fats"}, "option 'mode' is 'fats'; did you mean 'fast'?"),
        ({"url": "a\nb"}, "option 'url' must not contain control characters"),
        ({"path": "a\0b"}, "option 'path' must not contain control characters"),
        ({"path": 3}, "option 'path' must be of type string, got 3"),
        ({"limit": 3}, "option 'limit' must be at least 4, got 3"),
        ({"urll": "x"}, "option 'urll' is unknown; did you mean 'url'?"),
        ({"xyzzy": "x"}, "option 'xyzzy' is unknown; valid are: url, password, lun"),
    ],
)
def test_bad_values_name_option_and_rule(raw, message):
    """Each refusal says which option broke which rule, and what was perhaps meant."""
    assert refusal(**raw).startswith(message)


@pytest.mark.parametrize("name", ["url", "password", "lun", "mode"])
def test_required_options_are_asked_for(name):
    """Leaving a required option out names it."""
    with pytest.raises(InvalidArgument, match=f"option '{name}' is required"):
        parse_options(Options, {k: v for k, v in GOOD.items() if k != name})


def test_secret_by_environment(monkeypatch):
    """A secret is read out of the variable that is named; a missing one is told by name."""
    monkeypatch.setenv("ARRAY_PASSWORD", SECRET)

    assert parse_options(Options, GOOD | {"password": {"env": "ARRAY_PASSWORD"}}).password.reveal() == SECRET
    assert "environment variable 'NO_SUCH' is not set" in refusal(password={"env": "NO_SUCH"})


def test_secret_by_file(tmp_path):
    """A secret is read out of a file, without the newline that editors put there."""
    (tmp_path / "s").write_text(SECRET + "\n")

    assert (
        parse_options(Options, GOOD | {"password": {"file": str(tmp_path / "s")}}).password.reveal() == SECRET
    )
    assert "cannot read the file" in refusal(password={"file": str(tmp_path / "none")})
    assert "cannot read the file" in refusal(password={"file": "a\0b"})


def test_declaration_mistakes_are_told():
    """A type that no option may have, or a secret in a plain string, is refused for the vendor to see."""
    for hint, secret in ((list[str], False), (str | int, False), (bytes, False), (str, True)):
        cls = dataclasses.make_dataclass("O", [("x", hint, option(help="h", secret=secret))], kw_only=True)
        with pytest.raises(TypeError, match=r"type"):
            options_schema(cls)


@pytest.mark.parametrize(
    "value",
    [
        5,
        [SECRET],
        {"env": 5},
        {"value": SECRET},
        {"env": "A", "file": "B"},
        SECRET.encode(),
        {"file": [SECRET]},
    ],
)
def test_secrets_are_never_echoed(value):
    """Whatever stands where a secret belongs, the refusal does not repeat it."""
    assert SECRET not in refusal(password=value)


def test_unreadable_secret_file_does_not_show_its_bytes(tmp_path):
    """A secret file in another encoding is refused without its bytes in any part of the error."""
    (tmp_path / "s").write_bytes(SECRET.encode() + b"\xff")

    with pytest.raises(InvalidArgument) as caught:
        parse_options(Options, GOOD | {"password": {"file": str(tmp_path / "s")}})

    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error) + "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__


# -- the schema ---------------------------------------------------------------------------------------


def test_schema_obeys_the_metaschema():
    """JSON Schema's own schema accepts ours."""
    jsonschema.Draft202012Validator.check_schema(options_schema(Options))


def test_schema_carries_what_a_form_needs():
    """Help, examples, defaults, choices and "do not show this" are all there; a secret has no default."""
    properties = options_schema(Options)["properties"]

    assert properties["url"]["description"] == "Where it listens"
    assert properties["url"]["examples"] == ["https://array:8443"]
    assert properties["timeout"]["default"] == 30.0
    assert properties["path"]["default"] == "/srv/it's"
    assert properties["mode"]["enum"] == ["fast", "safe"]
    assert properties["password"]["writeOnly"]
    assert not {"default", "examples"} & properties["token"].keys()
    assert options_schema(Options)["required"] == ["url", "password", "lun", "mode"]


TEXT = st.text(string.ascii_lowercase + "\n\x00\x1f\x7fä/ ", max_size=4)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["fast", "safe", "low", "high", ""]),
    TEXT,
)
REFERENCE = st.dictionaries(st.sampled_from(["env", "file", "other"]), SCALAR, max_size=2)
ANYTHING = st.one_of(SCALAR, REFERENCE, st.lists(SCALAR, max_size=2))
NAMES = [f.name for f in dataclasses.fields(Options)]


def parses(raw: dict[str, Any]) -> bool:
    """Tell whether the parser takes it; whether a variable or a file exists is beyond any schema."""
    try:
        parse_options(Options, raw)
    except InvalidArgument as error:
        missing = re.match(r"option '(\w+)'.*(is not set|cannot read the file)", str(error))
        return missing is not None and parses(raw | {missing[1]: "as if it was there"})
    return True


@given(
    changes=st.dictionaries(st.sampled_from([*NAMES, "unknown"]), ANYTHING, max_size=3),
    drop=st.sets(st.sampled_from(NAMES), max_size=1),
)
def test_schema_and_parser_agree(changes, drop):
    """What the schema takes is parsed, and what it refuses is refused: one rule, not two."""
    raw = {k: v for k, v in (GOOD | changes).items() if k not in drop}
    by_schema = jsonschema.Draft202012Validator(options_schema(Options)).is_valid(raw)

    assert parses(raw) == by_schema


# -- the template -------------------------------------------------------------------------------------


def test_template_is_toml_with_the_required_options_first():
    """The template parses as it stands; required options are active, the others commented out."""
    text = options_toml(Options)

    assert list(tomllib.loads(text)) == ["url", "password", "lun", "mode"]
    assert "# Where it listens\nurl = " in text


def test_filled_template_parses_as_options(monkeypatch):
    """Setting the one variable that it names makes the template a working configuration."""
    monkeypatch.setenv("NAME", SECRET)

    options = parse_options(Options, tomllib.loads(options_toml(Options)))

    assert (options.url, options.lun, options.mode) == ("https://array:8443", 1, "fast")


def test_uncommented_template_parses_as_options(monkeypatch):
    """Every commented default can be uncommented: it is a valid value, and the default where there is one."""
    monkeypatch.setenv("NAME", SECRET)
    lines = [
        line.removeprefix("# ") if line.removeprefix("# ").split(" = ")[0] in NAMES else line
        for line in options_toml(Options).split("\n")
    ]

    options = parse_options(Options, tomllib.loads("\n".join(lines)))

    for field in dataclasses.fields(Options):
        if field.default not in (dataclasses.MISSING, None):
            assert getattr(options, field.name) == field.default


@given(default=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=20))
def test_any_text_survives_the_template(default):
    """A default with quotes, backslashes or any other sign comes out of the TOML as it was."""
    cls = dataclasses.make_dataclass("O", [("x", str, option(help="h", default=default))], kw_only=True)

    line = options_toml(cls).split("\n")[1].removeprefix("# ")

    assert tomllib.loads(line) == {"x": default}
