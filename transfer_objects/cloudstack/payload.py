"""A whole text of CloudStack's: several objects under their classes' names, one, or a bare body.

ARRAY   [{"<class>": {…}}, {"<class>": {…}}]    the body of a request or a response
KEYED   {"<class>": {…}}                        as in a field whose type is an interface
BODY    {…}                                     the class is told or inferred
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..base import TransferObject
from ..errors import DecodeError
from . import infer, kept, reading, text, typed, writing
from .names import wire_class


class Form(Enum):
    """How the objects of a payload stand in the text."""

    ARRAY = "array"
    KEYED = "keyed"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Payload:
    """What a text of CloudStack's says, without loss.

    Attributes:
        form: how the objects stand in the text.
        trees: each object in Bollard's JSON, with kept fields and secrets; it is not part of the repr.
    """

    form: Form
    trees: tuple[dict[str, Any], ...] = field(repr=False)

    @classmethod
    def of(cls, *objects: TransferObject) -> Payload:
        """Return the payload of a request or response that holds these commands or answers."""
        return cls(Form.ARRAY, tuple(typed.to_tree(obj) for obj in objects))

    @classmethod
    def from_wire(cls, data: str | bytes, as_class: str | None = None) -> Payload:
        """Read CloudStack's JSON.

        Args:
            data: the text; bytes are UTF-8.
            as_class: the class of a bare body, by its Java name or the last part of it; None infers it.

        Raises:
            DecodeError: with the path of the field, in CloudStack's names.
        """
        tree = text.parse(data)
        named = infer.class_named(as_class) if as_class is not None else None
        if isinstance(tree, list):
            return cls(Form.ARRAY, _each(tree, reading.read_keyed))
        if _is_keyed(tree, named):
            return cls(Form.KEYED, (reading.read_keyed(tree),))
        if named:
            return cls(Form.BODY, (reading.read_body(named, tree),))
        if not isinstance(tree, dict):
            raise DecodeError("must be a list of commands or an object")
        return cls(Form.BODY, (reading.read_body(infer.class_of_body(tree), tree),))

    @classmethod
    def from_native(cls, data: str | bytes, *, bare: bool = False) -> Payload:
        """Read what `native` wrote, or what `transfer_objects.encode` did.

        Args:
            data: one object, or a list of them.
            bare: write one object without its class's name.

        Raises:
            DecodeError: with the path of the field, in our names.
        """
        return cls.from_native_tree(text.parse(data), bare=bare)

    @classmethod
    def from_native_tree(cls, tree: Any, *, bare: bool = False) -> Payload:
        """Like `from_native`, from dicts and lists that `text.parse` made."""
        if isinstance(tree, list) and not bare:
            payload = cls(Form.ARRAY, tuple(tree))
        else:
            payload = cls(Form.BODY if bare else Form.KEYED, (tree,))
        payload.wire_tree()
        return payload

    def native(self, *, reveal_secrets: bool = False) -> str:
        """Return Bollard's JSON, indented for people.

        Args:
            reveal_secrets: write secrets in clear; without it they are lost to who reads it.
        """
        return json.dumps(self.native_tree(reveal_secrets=reveal_secrets), indent=2, ensure_ascii=False)

    def native_tree(self, *, reveal_secrets: bool = False) -> Any:
        """Like `native`, as dicts and lists."""
        trees = list(self.trees) if reveal_secrets else [kept.redact(tree) for tree in self.trees]
        return trees if self.form is Form.ARRAY else trees[0]

    def wire_tree(self) -> Any:
        """Return CloudStack's JSON as dicts and lists.

        Raises:
            DecodeError: with the path of the field, in our names.
        """
        if self.form is Form.ARRAY:
            return list(_each(self.trees, writing.write_keyed))
        [tree] = self.trees
        keyed = writing.write_keyed(tree)
        return keyed if self.form is Form.KEYED else next(iter(keyed.values()))

    def wire(self) -> str:
        """Return CloudStack's JSON as Gson writes it.

        Raises:
            DecodeError: with the path of the field, in our names.
        """
        return text.write(self.wire_tree())

    def objects(self) -> tuple[TransferObject, ...]:
        """Return the commands, answers or transfer objects to act upon.

        Raises:
            DecodeError: for a class that Bollard does not know, and for fields that break its rules.
        """
        return _each(self.trees, typed.to_object)


def _each(items: Iterable[Any], translate: Any) -> tuple[Any, ...]:
    found = []
    for index, item in enumerate(items):
        try:
            found.append(translate(item))
        except DecodeError as error:
            error.within(f"[{index}]")
            raise
    return tuple(found)


def _is_keyed(tree: Any, named: type[TransferObject] | None) -> bool:
    """Tell a class's name from a field's by its dots; if the class is known, by that name alone."""
    if not isinstance(tree, dict) or len(tree) != 1:
        return False
    [(name, body)] = tree.items()
    return isinstance(body, dict) and ("." in name if named is None else name == wire_class(named).name)
