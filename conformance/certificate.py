"""The certificate: a signed statement that one artefact holds one contract, for a time.

    result.json ── obstacles() none ──> issue() ── Ed25519 over canonical JSON ──> certificate.json
                                                                                        │
        is the signature right? expired? of this result? of what is installed? <── mismatches()

The vendor signs. A certificate proves which bytes were tested, by which suite, and that nobody changed a
word since; whom to believe is decided by the public key, which a reader knows from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..core.archive.canonical import Fields, decode, milliseconds_of, time_text
from ..core.spi import DataLoss, InvalidArgument
from .model import Result
from .profiles import Profile
from .reports.mutation import MutationScore
from .reports.result import StoredResult

FORMAT = 1
DAYS = 365
_DAY_MS = 24 * 3600 * 1000
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is signed; integers and strings only, so that it has one canonical text.

    Attributes:
        distribution: name and version, as the suite saw them.
        backend: what the driver was run against ("ACME 5000, firmware 7.2"), in the vendor's words.
        artefact: SHA-256 over the distribution's files, see `artefact.py`.
        result: SHA-256 of result.json.
        profiles: name and version of each profile that is claimed.
        counts: all checks of the run by result.
        mutation: "checks" and "mutants" as [n, n]; empty if this release has no score.
        issued, expires: UTC, `2026-11-20T12:00:00.000Z`.
        public_key: the signer's Ed25519 key, raw, in base64.
    """

    format: int
    driver: str
    distribution: str
    kind: str
    backend: str
    artefact: str
    result: str
    run: str
    tier: str
    seed: int
    suite: str
    spec: str
    spi: str
    capabilities: list[str]
    profiles: list[dict[str, str]]
    counts: dict[str, int]
    mutation: dict[str, list[int]]
    issued: str
    expires: str
    public_key: str


def issue(
    stored: StoredResult,
    result: bytes,
    *,
    claimed: Collection[Profile],
    key: Ed25519PrivateKey,
    now_ms: int,
    days: int = DAYS,
    backend: str = "",
    score: MutationScore | None = None,
) -> bytes:
    """Return certificate.json; the caller has seen that there are no `obstacles`.

    Args:
        result: the bytes of result.json that `stored` was read from.
        days: how long it is valid.
    """
    verdict, made_with = stored.verdict, stored.environment
    certificate = Certificate(
        format=FORMAT,
        driver=verdict.driver,
        distribution=verdict.distribution,
        kind=verdict.kind,
        backend=backend,
        artefact=verdict.artefact,
        result=hashlib.sha256(result).hexdigest(),
        run=verdict.run,
        tier=verdict.tier.value,
        seed=verdict.seed,
        suite=made_with.suite,
        spec=made_with.spec,
        spi=made_with.spi,
        capabilities=sorted(verdict.capabilities),
        profiles=[{"name": p.name, "version": p.version} for p in claimed],
        counts={r.value: verdict.count(r) for r in Result},
        mutation={"checks": list(score.checks), "mutants": list(score.mutants)} if score else {},
        issued=time_text(now_ms),
        expires=time_text(now_ms + days * _DAY_MS),
        public_key=base64.b64encode(key.public_key().public_bytes_raw()).decode(),
    )
    body = asdict(certificate)
    signature = base64.b64encode(key.sign(canonical_bytes(body))).decode()
    return (json.dumps(body | {"signature": signature}, indent=2, ensure_ascii=False) + "\n").encode()


def canonical_bytes(value: object) -> bytes:
    """Return the one text of a value: sorted keys, no white space, UTF-8.

    Raises:
        InvalidArgument: it holds something else than objects, lists, strings and integers.
    """
    _demand_plain(value)
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("a certificate cannot hold text that is no Unicode") from error


def _demand_plain(value: object) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            _demand_plain(key)
            _demand_plain(item)
    elif isinstance(value, list):
        for item in value:
            _demand_plain(item)
    elif type(value) not in (str, int):  # a bool is an int, and has a text of its own
        raise InvalidArgument(f"a certificate holds strings and integers only, not {type(value).__name__}")


def read_certificate(data: bytes) -> tuple[Certificate, bool]:
    """Return a certificate, and whether its signature is right.

    Raises:
        InvalidArgument: it is no certificate, or of another format.
    """
    try:
        value = decode("the certificate", data)
        if isinstance(value, dict) and "format" not in value:
            raise InvalidArgument("this is no certificate: it names no format")
        if isinstance(value, dict) and value["format"] != FORMAT:
            raise InvalidArgument(
                f"the certificate has format {value['format']!r}, this suite reads {FORMAT}"
            )
        fields = Fields("the certificate", value, (*Certificate.__slots__, "signature"))
        return _certificate(fields), _is_signed(fields)
    except DataLoss as error:
        raise InvalidArgument(error.message) from error


def _certificate(fields: Fields) -> Certificate:
    return Certificate(
        format=FORMAT,
        driver=fields.text("driver"),
        distribution=fields.text("distribution"),
        kind=fields.text("kind"),
        backend=fields.text("backend"),
        artefact=fields.sha256("artefact"),
        result=fields.sha256("result"),
        run=fields.text("run"),
        tier=fields.text("tier"),
        seed=fields.number("seed", -(2**63)),
        suite=fields.text("suite"),
        spec=fields.text("spec"),
        spi=fields.text("spi"),
        capabilities=[_text(fields, "capabilities", c) for c in fields.list("capabilities")],
        profiles=[_profile(fields, p) for p in fields.list("profiles")],
        counts=_object(fields, "counts"),
        mutation=_object(fields, "mutation"),
        issued=fields.time("issued"),
        expires=fields.time("expires"),
        public_key=fields.text("public_key"),
    )


def _profile(fields: Fields, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or set(value) != {"name", "version"}:
        raise fields.fail("profiles", "a list of names and versions")
    return {key: _text(fields, "profiles", item) for key, item in value.items()}


def _text(fields: Fields, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise fields.fail(key, "a list of strings")
    return value


def _object(fields: Fields, key: str) -> dict[str, Any]:
    value = fields.raw(key)
    if not isinstance(value, dict):
        raise fields.fail(key, "an object")
    return value


def _is_signed(fields: Fields) -> bool:
    body = {name: fields.raw(name) for name in Certificate.__slots__}
    signature = _raw(fields, "signature", 64)
    key = Ed25519PublicKey.from_public_bytes(_raw(fields, "public_key", 32))
    try:
        key.verify(signature, canonical_bytes(body))
    except InvalidSignature:
        return False
    return True


def _raw(fields: Fields, name: str, length: int) -> bytes:
    rule = f"{length} bytes in base64"
    try:
        raw = base64.b64decode(fields.text(name, _BASE64, rule), validate=True)
    except binascii.Error as error:
        raise fields.fail(name, rule) from error
    if len(raw) != length:
        raise fields.fail(name, rule)
    return raw


def mismatches(
    certificate: Certificate,
    *,
    signed: bool,
    now_ms: int,
    result: bytes | None = None,
    installed: str | None = None,
    trusted: Ed25519PublicKey | None = None,
) -> list[str]:
    """Return what is not right, each as a sentence; none means: believe it.

    Args:
        signed: what `read_certificate` said.
        result: bytes of the result.json that it should be about.
        installed: hash of what is installed here, see `artefact_of`.
        trusted: the vendor's key, known from elsewhere.
    """
    found = []
    if not signed:
        found.append("the signature is wrong: something was changed after it was signed")
    if (
        trusted is not None
        and base64.b64encode(trusted.public_bytes_raw()).decode() != certificate.public_key
    ):
        found.append(f"it was signed by another key ({fingerprint(certificate)}) than the one given")
    if now_ms >= milliseconds_of(certificate.expires):
        found.append(f"it expired at {certificate.expires}")
    if now_ms < milliseconds_of(certificate.issued):
        found.append(f"it was issued at {certificate.issued}, which is in the future: check the clock")
    if result is not None and hashlib.sha256(result).hexdigest() != certificate.result:
        found.append("it is about another result.json than this one, or this one was changed")
    if installed is not None and installed != certificate.artefact:
        found.append(_other_artefact(certificate, installed))
    return found


def fingerprint(certificate: Certificate) -> str:
    """Return the signer's key as people compare it."""
    return hashlib.sha256(base64.b64decode(certificate.public_key)).hexdigest()[:16]


def _other_artefact(certificate: Certificate, installed: str) -> str:
    here = f"what is installed here is {installed[:16]}…" if installed else "nothing of it is installed here"
    return (
        f"the artefact differs: {certificate.artefact[:16]}… ({certificate.distribution}) was tested, {here}"
    )
