"""What all transfer objects share: they are checked when they are built, so one that exists is valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .details import Details
from .errors import DecodeError
from .shapes import DetailMap, FieldShape, Keyed, check, fields_of


class TransferObject:
    """Base of the transfer objects; each is a frozen, slotted, keyword-only dataclass.

    Attributes:
        identified_by: at least one of these fields must be given, or nobody could tell what is meant.
    """

    __slots__ = ()

    identified_by: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Check every field, then complete what can be derived.

        Raises:
            DecodeError: naming field and rule.
        """
        for field in fields_of(type(self)):
            self._check(field, getattr(self, field.name))
        if self.identified_by and not any(getattr(self, name) for name in self.identified_by):
            raise DecodeError(f"{type(self).__name__} needs {' or '.join(self.identified_by)}")
        self._complete()

    def _check(self, field: FieldShape, value: Any) -> None:
        if field.is_default(value) or (value is None and field.nullable):
            return
        try:
            check(field.shape, value)
        except DecodeError as error:
            error.within(field.name)
            raise
        if isinstance(field.shape, DetailMap | Keyed):
            self._set(field.name, Details(value))

    def _complete(self) -> None:
        """Derive what the caller left out; most classes have nothing to derive."""

    def _set(self, name: str, value: Mapping[str, Any] | str) -> None:
        # The instance is frozen for everybody else; nobody has seen it yet.
        object.__setattr__(self, name, value)
