"""Bad input is refused here, with the field and the rule, before any driver is touched."""

from __future__ import annotations

from ..transfer_objects.ids import ID_RULE, is_valid_id
from .spi import Host, InvalidArgument, LimitExceeded, Qos, TemplateSpec, Traits, VolumeSpec

SECTOR = 512
MAX_NAME_BYTES = 255


def check_id(field: str, value: object) -> None:
    """Refuse what is not an id, whatever its type: callers have no type checker at run time."""
    if not isinstance(value, str) or not is_valid_id(value):
        raise InvalidArgument(f"{field} {value!r} is not a valid id: {ID_RULE}")


def check_name(field: str, value: object) -> None:
    """Refuse names that some backend, path or XML document would choke on; empty is fine."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{field} must be text, got {value!r}")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise InvalidArgument(f"{field} must be at most {MAX_NAME_BYTES} bytes long")
    if value in (".", "..") or value.startswith("-") or "/" in value or not _printable(value):
        raise InvalidArgument(f"{field} {value!r} must be printable, without '/' and not start with '-'")


def check_key(key: object) -> None:
    """Refuse a store key that could leave its directory or that some store cannot hold."""
    if not isinstance(key, str) or not {"", ".", ".."}.isdisjoint(key.split("/")) or not _printable(key):
        raise InvalidArgument(f"key {key!r} must be relative, printable and without empty, '.' or '..' parts")


def _printable(value: str) -> bool:
    return all(c.isprintable() for c in value)


def check_size(field: str, value: int, traits: Traits | None = None) -> None:
    """Refuse sizes that are no positive multiple of 512 bytes or outside the driver's limits."""
    if type(value) is not int or value <= 0 or value % SECTOR:
        raise InvalidArgument(f"{field} must be a positive multiple of {SECTOR} bytes, got {value!r}")
    if traits is not None and value < traits.min_size:
        raise InvalidArgument(f"{field} must be at least {traits.min_size} bytes here, got {value}")
    if traits is not None and value > traits.max_size:
        raise LimitExceeded(f"{field} must be at most {traits.max_size} bytes here, got {value}")


def check_qos(qos: Qos | None) -> None:
    """Refuse negative limits and a minimum above the maximum."""
    if qos is None:
        return
    for name in ("min_iops", "max_iops", "max_bytes_per_second"):
        value = getattr(qos, name)
        if value is not None and (type(value) is not int or value < 0):
            raise InvalidArgument(f"qos.{name} must be a non-negative integer or None, got {value!r}")
    if qos.min_iops is not None and qos.max_iops is not None and qos.min_iops > qos.max_iops:
        raise InvalidArgument(f"qos.min_iops {qos.min_iops} is above qos.max_iops {qos.max_iops}")


def check_spec(spec: VolumeSpec, traits: Traits) -> None:
    """Refuse a bad volume specification."""
    check_id("volume.id", spec.id)
    check_name("volume.name", spec.name)
    check_size("volume.size", spec.size, traits)
    check_qos(spec.qos)


def check_template(template: TemplateSpec, traits: Traits) -> None:
    """Refuse a bad template specification."""
    check_id("template.id", template.id)
    check_name("template.name", template.name)
    check_size("template.size", template.size, traits)


def check_host(host: Host) -> None:
    """Refuse a host that could not be told from others on an array."""
    check_id("host.id", host.id)
    check_name("host.name", host.name)
    for name in ("iqn", "chap_user"):
        if any(c.isspace() or not c.isprintable() for c in getattr(host, name)):
            raise InvalidArgument(f"host.{name} must not contain spaces or control characters")
    if bool(host.chap_user) != bool(host.chap_secret):
        raise InvalidArgument("host.chap_user and host.chap_secret go together")
