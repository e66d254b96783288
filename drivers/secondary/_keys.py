"""The rule for keys, one for all stores, so that an archive can be copied from any of them to any other."""

from __future__ import annotations

import re

from ...core.spi import InvalidArgument

# S3 and Swift stop at 1,024 bytes; the rest is for a prefix of the store and names of segments.
MAX_KEY_BYTES = 800

MAX_STORE_PREFIX_BYTES = 150

# NAME_MAX of every Unix file system.
MAX_PART_BYTES = 255

# Names that a file system's own services put beside ours: NFS clients rename an open file that is
# deleted to .nfs0000…, ext4 has lost+found, NetApp and ZFS show snapshots in the export's root.
_FOREIGN = re.compile(r"\.nfs|\.bollard-|\.snapshot$|\.zfs$|lost\+found$")

# Control characters, lone surrogates (no UTF-8), and two that XML 1.0, in which S3 lists keys, lacks.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def is_foreign(part: str) -> bool:
    """Tell whether a file or object of this name is ours to hide, or not ours at all."""
    return _FOREIGN.match(part) is not None


def split_key(key: str) -> tuple[str, ...]:
    """Return the parts of a key.

    Raises:
        InvalidArgument: naming the rule that `key` breaks.
    """
    _check_text(key, "key")
    parts = tuple(key.split("/"))
    for part in parts:
        _check_part(part, key)
    return parts


def is_key(text: str) -> bool:
    """Tell whether `text` is a valid key: listings leave out what others put into the store."""
    try:
        split_key(text)
    except InvalidArgument:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key can have; its last part may be empty or unfinished.

    Raises:
        InvalidArgument: naming the rule.
    """
    _check_text(prefix, "prefix")
    for part in prefix.split("/")[:-1]:
        _check_part(part, prefix)


def _check_text(text: str, what: str) -> None:
    refused = _REFUSED.search(text)
    if refused is not None:
        raise InvalidArgument(f"the {what} {text!r} must not contain {refused.group()!r}")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise InvalidArgument(f"the {what} {text[:40]!r}... must not be longer than {MAX_KEY_BYTES} bytes")


def _check_part(part: str, text: str) -> None:
    if part in ("", ".", ".."):
        raise InvalidArgument(f"{text!r} must be relative and have no empty, '.' or '..' part")
    if len(part.encode()) > MAX_PART_BYTES:
        raise InvalidArgument(f"the part {part[:40]!r}... must not be longer than {MAX_PART_BYTES} bytes")
    if is_foreign(part):
        raise InvalidArgument(f"the part {part!r} of {text!r} is a reserved name")


def check_store_prefix(prefix: str) -> str:
    """Return what all names of a store begin with: `prefix` with one "/" after it, or nothing.

    Raises:
        InvalidArgument: it breaks the rule for keys, or leaves them no room.
    """
    bare = prefix.strip("/")
    if not bare:
        return ""
    split_key(bare)
    if len(bare.encode()) > MAX_STORE_PREFIX_BYTES:
        raise InvalidArgument(f"option 'prefix' must not be longer than {MAX_STORE_PREFIX_BYTES} bytes")
    return f"{bare}/"
