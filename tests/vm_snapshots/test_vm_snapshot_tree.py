"""The tree of a VM's snapshots under any history of taking, reverting, hiding and deleting."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bollard.core.vm_snapshots.tree import Node, Tree
from bollard.transfer_objects.ids import VmSnapshotId


class AnyHistory(RuleBasedStateMachine):
    """A tree beside a naive model of it: the list of ancestors that each snapshot and the VM stand on."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree()
        self.below: dict[str, list[str]] = {}  # snapshot: its ancestors, nearest last
        self.vm: list[str] = []  # what the VM stands on
        self.count = 0

    def pick(self, data) -> VmSnapshotId:
        """Any snapshot."""
        return VmSnapshotId(data.draw(st.sampled_from(sorted(self.below))))

    @rule()
    def take(self):
        """A new snapshot stands on what the VM stood on."""
        self.count += 1
        name = VmSnapshotId(f"s{self.count}")
        self.tree = self.tree.taken(name)
        self.below[name] = list(self.vm)
        self.vm.append(name)

    @precondition(lambda self: self.below)
    @rule(data=st.data())
    def revert(self, data):
        """The VM stands on the chosen one."""
        name = self.pick(data)
        self.tree = self.tree.reverted(name)
        self.vm = [*self.below[name], name]

    @precondition(lambda self: self.below)
    @rule(data=st.data())
    def delete(self, data):
        """Nothing stands on it any more."""
        name = self.pick(data)
        self.tree = self.tree.without(name)
        del self.below[name]
        for line in [*self.below.values(), self.vm]:
            if name in line:
                line.remove(name)

    @precondition(lambda self: self.below)
    @rule(data=st.data())
    def hide(self, data):
        """It keeps its place, but is nobody's visible parent."""
        self.tree = self.tree.hidden(self.pick(data))

    @invariant()
    def the_tree_is_whole(self):
        """No orphan, no cycle, at most one current."""
        assert self.tree.problems() == []

    @invariant()
    def it_says_what_the_model_says(self):
        """Parents, current and dependents are those of the model."""
        now = self.tree.current()
        assert (None if now is None else now.id) == (self.vm[-1] if self.vm else None)
        for name, line in self.below.items():
            node = self.tree[VmSnapshotId(name)]
            assert node.parent == (line[-1] if line else None)
            seen = [one for one in line if not self.tree[VmSnapshotId(one)].hidden]
            assert self.tree.visible_parent(node.id) == (seen[-1] if seen else None)
            standing = [one for one in [*self.below.values(), self.vm] if one and one[-1] == name]
            assert self.tree.dependents(node.id) == len(standing)


TestAnyHistory = AnyHistory.TestCase


def node(name: str, parent: str | None = None, *, current: bool = False) -> Node:
    """A node."""
    above = None if parent is None else VmSnapshotId(parent)
    return Node(id=VmSnapshotId(name), parent=above, current=current)


def test_what_is_wrong_is_told():
    """A missing parent, two current ones and a cycle are each named."""
    assert Tree([node("a", "gone")]).problems() == ["a: its parent gone is missing"]
    assert Tree([node("a", current=True), node("b", current=True)]).problems() == [
        "more than one is current: a, b"
    ]
    assert Tree([node("a", "b"), node("b", "a"), node("c", "a")]).problems() == [
        "a is its own ancestor",
        "b is its own ancestor",
    ]
