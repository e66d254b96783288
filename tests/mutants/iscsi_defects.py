"""What an iSCSI array can do wrong: edits of the agent that `install` has put on it.

The agent's directory is named after its contents as the driver knows them, so an edited one is still used.
"""

from __future__ import annotations

import shutil
from pathlib import Path

# name -> module of the agent, what stands there, what stands there instead
# ruff: noqa: ISC004 - text of a program, line by line
EDITS: dict[str, tuple[str, str, str]] = {
    "revoke_only_unbinds": (
        "exports.py",
        "    remove_target(pool, _target_name(pool, meta, host))\n    _leave_account",
        (
            "    target = pool.tgt.find(_target_name(pool, meta, host))\n"
            "    for initiator in target.initiators if target else ():\n"
            "        pool.tgt.forbid(target.tid, initiator)\n    _leave_account"
        ),
    ),
    "revoke_only_kicks": (
        "exports.py",
        (
            "    remove_target(pool, _target_name(pool, meta, host))\n"
            '    _leave_account(pool, volume, held["user"])\n'
        ),
        (
            "    target = pool.tgt.find(_target_name(pool, meta, host))\n"
            "    for session, connection in target.sessions if target else ():\n"
            "        pool.tgt.kick(target.tid, session, connection)\n"
        ),
    ),
    "grant_without_chap": ("exports.py", 'if held["user"] not in target.accounts:', "if False:"),
    "grant_ignores_read_only": ("exports.py", "readonly={int(read_only)}", "readonly=0"),
    "clone_is_a_hard_link": (
        "volumes.py",
        'reflink(data, draft / "data")\n        grow',
        'os.link(data, draft / "data")\n        grow',
    ),
    "resize_is_not_told": ("volumes.py", "    refresh_luns(pool, place)\n", ""),
    "delete_keeps_the_file": (
        "volumes.py",
        "        refuse_snapshots(pool, place)\n    pool.discard(place)\n\n\ndef refuse_granted",
        (
            "        refuse_snapshots(pool, place)\n"
            '        os.link(place / "data", pool.home / f"kept-{volume}")\n'
            "    pool.discard(place)\n\n\ndef refuse_granted"
        ),
    ),
    "snapshot_is_a_hard_link": (
        "snapshots.py",
        'reflink(source / "data", draft / "data")',
        '__import__("os").link(source / "data", draft / "data")',
    ),
    "group_is_torn": (
        "groups.py",
        "        with _frozen(pool.tgt.pid()):\n            for volume, snapshot in members.items():\n",
        "        if True:\n            for volume, snapshot in members.items():\n"
        "                time.sleep(0.05)\n",
    ),
    "diff_ignores_holes": ("extents.py", 'return HOLE if was else ""', 'return ""'),
    # As a connection that is lost in the middle: paramiko tells of both as exit status -1.
    "dies_before_delete": (
        "main.py",
        "    with pool.changing():\n        return _CHANGES",
        (
            '    if name == "delete":\n        os.kill(os.getpid(), signal.SIGKILL)\n'
            "    with pool.changing():\n        return _CHANGES"
        ),
    ),
}


def spoil(agent: Path, defect: str) -> None:
    """Edit an installed agent.

    Raises:
        ValueError: there is no such defect, or the agent does not have what is to be edited.
    """
    if defect not in EDITS:
        raise ValueError(f"no defect is called {defect!r}")
    name, old, new = EDITS[defect]
    path = agent / "array_agent" / name
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{name} has {text.count(old)} times what {defect} edits")
    path.write_text(text.replace(old, new), encoding="utf-8")
    # Python compares size and second: "os.link" for "reflink" was not noticed.
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
