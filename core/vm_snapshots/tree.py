"""The tree of a VM's snapshots: who was taken on top of whom, and which one the VM goes on from.

    a ── b ── c (current)          revert to a, take d:     a ─┬─ b ── c
                                                               └─ d (current)

    delete b:   a ─┬─ c            its children move to its parent; a deleted current hands that mark to
                   └─ d            its parent

A Hidden snapshot was deleted by the user, but more than one other still stands on its data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ...transfer_objects.ids import VmSnapshotId


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One snapshot in the tree; `current`: what the VM writes now stands on it."""

    id: VmSnapshotId
    parent: VmSnapshotId | None = None
    current: bool = False
    hidden: bool = False


class Tree:
    """The snapshots of one VM, oldest first. A value: changes return another tree."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: Mapping[VmSnapshotId, Node] = {node.id: node for node in nodes}

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __getitem__(self, snapshot: VmSnapshotId) -> Node:
        return self._nodes[snapshot]

    def __contains__(self, snapshot: object) -> bool:
        return snapshot in self._nodes

    def current(self) -> Node | None:
        """Return what the VM goes on from, if it has a snapshot."""
        return next((node for node in self if node.current), None)

    def children(self, snapshot: VmSnapshotId) -> list[Node]:
        """Return those that were taken directly on top of it."""
        return [node for node in self if node.parent == snapshot]

    def dependents(self, snapshot: VmSnapshotId) -> int:
        """Return how many images stand on the snapshot's: its children's, and the VM's own if current."""
        return len(self.children(snapshot)) + self._nodes[snapshot].current

    def visible_parent(self, snapshot: VmSnapshotId) -> VmSnapshotId | None:
        """Return the nearest ancestor that the user has not deleted."""
        parent = self._nodes[snapshot].parent
        while parent is not None and self._nodes[parent].hidden:
            parent = self._nodes[parent].parent
        return parent

    def taken(self, snapshot: VmSnapshotId) -> Tree:
        """Return the tree with a new snapshot on top of the current one."""
        above = self.current()
        node = Node(id=snapshot, parent=None if above is None else above.id)
        return Tree([*self, node]).reverted(snapshot)

    def reverted(self, snapshot: VmSnapshotId) -> Tree:
        """Return the tree with this snapshot as the current one."""
        return Tree(replace(node, current=node.id == snapshot) for node in self)

    def hidden(self, snapshot: VmSnapshotId) -> Tree:
        """Return the tree with this snapshot hidden; it keeps its place."""
        return Tree(replace(node, hidden=node.hidden or node.id == snapshot) for node in self)

    def without(self, snapshot: VmSnapshotId) -> Tree:
        """Return the tree without this snapshot: its children and its mark move to its parent."""
        gone = self._nodes[snapshot]
        return Tree(
            replace(
                node,
                parent=gone.parent if node.parent == gone.id else node.parent,
                current=node.current or (gone.current and node.id == gone.parent),
            )
            for node in self
            if node.id != snapshot
        )

    def problems(self) -> list[str]:
        """Return what is wrong with the tree; nothing in a good one."""
        found = [f"{node.id}: its parent {node.parent} is missing" for node in self if self._orphan(node)]
        marked = [node.id for node in self if node.current]
        if len(marked) > 1:
            found.append(f"more than one is current: {', '.join(marked)}")
        return found + [f"{node.id} is its own ancestor" for node in self if self._cyclic(node)]

    def _orphan(self, node: Node) -> bool:
        return node.parent is not None and node.parent not in self._nodes

    def _cyclic(self, node: Node) -> bool:
        seen = {node.id}
        parent = node.parent
        while parent is not None and parent in self._nodes:
            if parent in seen:
                return parent == node.id
            seen.add(parent)
            parent = self._nodes[parent].parent
        return False
