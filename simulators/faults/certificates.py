"""The proxy's authority and the four certificates that it can show, made once per state directory."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .fault import FaultKind

_DAY = datetime.timedelta(days=1)
_LIFE = 3650 * _DAY  # a test directory should not stop working between two releases
_HERE: list[x509.GeneralName] = [
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.DNSName("localhost"),
]
_ELSEWHERE: list[x509.GeneralName] = [x509.DNSName("elsewhere.invalid")]


class Certificates:
    """What the proxy shows to its clients. The authorities' keys are thrown away after signing.

    Args:
        directory: made when it does not exist, all files in one rename.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.exists():
            made = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", dir=directory.parent))
            try:
                _make(made)
                made.rename(directory)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
        self.ca = directory / "ca.pem"
        self._directory = directory

    def context(self, fault: FaultKind | None = None) -> ssl.SSLContext:
        """TLS 1.2 or later with the good certificate, or the one that the fault asks for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._directory / f"{fault or 'good'}.pem")
        return context


class _Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())

    def certificate(self) -> bytes:
        signs = dict.fromkeys(("key_cert_sign", "crl_sign", "digital_signature"), True)
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        usage = x509.KeyUsage(**signs, **dict.fromkeys((*others, "encipher_only", "decipher_only"), False))
        certificate = (
            self._builder(self._name, self._key.public_key(), _LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, names: list[x509.GeneralName], life: datetime.timedelta = _LIFE) -> bytes:
        """Key and certificate of a server, whose life counts from now; a negative one is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(names[0].value))])
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        certificate = (
            self._builder(subject, key.public_key(), life)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return private + certificate.public_bytes(pem)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * _DAY)
            .not_valid_after(now + life)
        )


def _make(directory: Path) -> None:
    trusted, stranger = _Authority("Bollard fault proxy CA"), _Authority("Nobody knows this CA")
    (directory / "ca.pem").write_bytes(trusted.certificate())
    for name, pem in {
        "good": trusted.issue(_HERE),
        FaultKind.EXPIRED_CERTIFICATE: trusted.issue(_HERE, -_DAY),
        FaultKind.WRONG_HOST_CERTIFICATE: trusted.issue(_ELSEWHERE),
        FaultKind.UNTRUSTED_CERTIFICATE: stranger.issue(_HERE),
    }.items():
        descriptor = os.open(directory / f"{name}.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
