"""All state machines, and how they are shown to people: drawn in Mermaid's language, with each way out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .holds import GRANTS
from .machine import StateMachine
from .object_states import OBJECTS
from .snapshot_states import SNAPSHOTS
from .vm_snapshot_states import VM_SNAPSHOTS
from .volume_states import VOLUMES

# Those of snapshots' refs and of templates are the objects', and that of introductions is the grants'.
MACHINES: dict[str, StateMachine[Any, Any]] = {
    machine.name: machine for machine in (SNAPSHOTS, VM_SNAPSHOTS, VOLUMES, OBJECTS, GRANTS)
}


def markdown(machine: StateMachine[Any, Any]) -> str:
    """Return the drawing of a machine, and for each transient state what ends it."""
    rows = [f"| {state} | {', '.join(_ways(machine, state))} |" for state in sorted(machine.transient)]
    head = ["| under way | and then |", "|---|---|"]
    return "\n".join(["```mermaid", machine.mermaid(), "```", "", *head, *rows])


def _ways(machine: StateMachine[Any, Any], state: Any) -> Iterator[str]:
    for (before, event), after in machine.moves.items():
        if before == state:
            yield f"{event} → {'the same' if after == state else after}"
