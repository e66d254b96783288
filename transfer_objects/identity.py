r"""Names for stores that have none: the same place gives the same uuid in every process.

    NfsTO, ImageStoreTO    nfs://host/export              canonical URL
    SwiftTO                https://host:8080/v1/account   canonical URL "/" account
    S3TO                   https://host/bucket            canonical endpoint "/" bucket
    PrimaryDataStoreTO     host/export                    host and path, exactly CloudStack's pool uuid

Canonical is: scheme and host in lower case; no user, no default port, no trailing slash, no query, no
fragment. CloudStack hashes `storageHost + hostPath` of a pool's URL (its default primary life cycle), so a
pool that it registered as nfs://filer/export has the uuid that Bollard derives.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import NamedTuple

_DEFAULT_PORTS = {"http": 80, "https": 443, "nfs": 2049, "cifs": 445, "smb": 445}
_PARTS = re.compile(r"([^:/?#]+)://(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:]*)(?::([0-9]+))?([^?#]*)")
AWS_ENDPOINT = "s3.amazonaws.com"


class _Place(NamedTuple):
    scheme: str
    host: str
    port: int | None
    path: str


def name_uuid(name: str) -> str:
    """Return Java's `UUID.nameUUIDFromBytes(name in UTF-8)`: MD5 without a name space, marked version 3.

    Python's `uuid.uuid3` hashes a name space before the name and gives other values.
    """
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest, version=3))


def canonical_url(url: str) -> str:
    """Return `url` (one that `rules.URL` accepts) in the form that is hashed."""
    place = _split(url)
    port = "" if place.port in (None, _DEFAULT_PORTS.get(place.scheme)) else f":{place.port}"
    return f"{place.scheme}://{place.host}{port}{place.path}"


def canonical_pool(url: str) -> str:
    """Return host and path of a pool's URL in one piece, as CloudStack hashes them."""
    place = _split(url)
    return f"{place.host}{place.path}"


def canonical_bucket(endpoint: str | None, bucket: str, *, https: bool | None) -> str:
    """Return the URL of an S3 bucket; a scheme in `endpoint` wins over `https`, as in the AWS SDK."""
    where = endpoint or AWS_ENDPOINT
    scheme = "http" if https is False else "https"
    return f"{canonical_url(where if '://' in where else f'{scheme}://{where}')}/{bucket}"


def _split(url: str) -> _Place:
    match = _PARTS.match(url)
    if match is None:
        raise ValueError("not a URL that rules.URL accepts")
    scheme, host, port, path = match.groups()
    return _Place(scheme.lower(), host.lower(), int(port) if port else None, path.rstrip("/"))
