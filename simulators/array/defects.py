"""The bugs that the array can have on command, each with the field bug it stands for, and its latencies.

A conformance suite proves itself on these: each one must be caught by some check. Sources named with a
group (``vol.*``) are checks of the suite's catalogue; the others are public bug reports.
"""

from __future__ import annotations

import threading
from enum import Enum


class Defect(Enum):
    """A switchable bug: name, what the array then does, the field bug behind it."""

    def __init__(self, label: str, description: str, field_bug: str) -> None:
        self.label = label
        self.description = description
        self.field_bug = field_bug

    CLONE_EMPTY = (
        "clone_empty",
        "a clone reads as zeroes",
        "cloudstack#11490, an empty volume from a snapshot",
    )
    CLONE_EMPTY_ON_RETRY = (
        "clone_empty_on_retry",
        "asking again for a clone that exists empties it and reports success",
        "dell/csm#1425",
    )
    CLONE_SHARES_BLOCKS_WITH_SOURCE = (
        "clone_shares_blocks_with_source",
        "writes to a clone change its source",
        "vol.clone_independent",
    )
    CLONE_LOSES_AFTER_SOURCE_DELETE = (
        "clone_loses_after_source_delete",
        "deleting the source zeroes what the clone shared with it",
        "vol.clone_delete_source_first; cloudstack#9446, deleting one end hurts the other",
    )
    SNAPSHOT_NOT_POINT_IN_TIME = (
        "snapshot_not_point_in_time",
        "a snapshot shows the volume of today",
        "snap.create_read_equals_point_in_time",
    )
    SNAPSHOT_MUTABLE = ("snapshot_mutable", "writes to a volume reach its snapshots", "snap.readonly")
    SNAPSHOT_DELETE_DELETES_ALL = (
        "snapshot_delete_deletes_all",
        "deleting one snapshot deletes all of the volume",
        "cloudstack#9446, deleting the newest snapshot broke the chain",
    )
    GROUP_SNAPSHOT_TORN = (
        "group_snapshot_torn",
        "volumes of a group are cut one after another",
        "reference/backends-managed.md: 57 of 60 group snapshots torn on tgt",
    )
    REVERT_DOES_NOTHING = (
        "revert_does_nothing",
        "a revert succeeds and changes nothing",
        "snap.revert_exact",
    )
    REVERT_DROPS_NEWER_SNAPSHOTS = (
        "revert_drops_newer_snapshots",
        "a revert deletes the snapshots taken after its target",
        "snap.revert_keeps_other_snapshots",
    )
    RESIZE_REPORTS_BUT_DOES_NOT_GROW = (
        "resize_reports_but_does_not_grow",
        "REST shows the new size, the export keeps the old one",
        "host.introduce_wrong_size_detected, stale sizes",
    )
    RESIZE_LOSES_TAIL = ("resize_loses_tail", "growing zeroes the last old chunk", "virtnbdbackup#109")
    RESIZE_SHRINK_ACCEPTED = (
        "resize_shrink_accepted",
        "a smaller size is accepted and cuts data off",
        "vol.resize_shrink_refused",
    )
    DELETE_LEAKS_SPACE = ("delete_leaks_space", "a deleted volume's space stays used", "cloudstack#9501")
    DELETE_MISSING_IS_ERROR = (
        "delete_missing_is_error",
        "deleting what is not there answers 500 instead of 404",
        "vol.delete_missing_ok; cloudstack#6739, a null host made deletion impossible",
    )
    DELETE_GRANTED_ALLOWED = (
        "delete_granted_allowed",
        "a granted volume can be deleted",
        "vol.delete_attached_refused",
    )
    DELETE_SAYS_OK_BUT_KEEPS = (
        "delete_says_ok_but_keeps",
        "a delete answers 204 and deletes nothing",
        "fault.array_says_ok_but_did_nothing",
    )
    GRANT_EVERYONE = (
        "grant_everyone",
        "every registered initiator reaches every volume that is granted to somebody",
        "acl.grant_then_only_that_host; cloudstack#13578, host groups collide",
    )
    REVOKE_KEEPS_SESSIONS = (
        "revoke_keeps_sessions",
        "a revoke leaves open sessions writing",
        "reference/backends-managed.md: tgt's unbind leaves open sessions writing; CVE-2023-2088",
    )
    REVOKE_SAYS_OK_DOES_NOTHING = (
        "revoke_says_ok_does_nothing",
        "a revoke answers 204 and revokes nothing",
        "fault.array_says_ok_but_did_nothing; OSSA-2023-003",
    )
    CHAP_NOT_CHECKED = (
        "chap_not_checked",
        "any proof is accepted",
        "reference/backends-managed.md: tgt lets one host's IQN in with another's password",
    )
    READ_ONLY_IGNORED = (
        "read_only_ignored",
        "a read-only grant can write",
        "acl.read_only_grant_is_read_only",
    )
    CHANGED_MISSES_BLOCKS = (
        "changed_misses_blocks",
        "the last changed chunk is not reported",
        "inc.delta_covers_all_changes; virtnbdbackup#225, #237",
    )
    CHANGED_PAST_END = (
        "changed_past_end",
        "the last extent reaches beyond the volume",
        "inc.extents_sorted_disjoint_bounded, CSI Snapshot Metadata rules",
    )
    CHANGED_UNSORTED = (
        "changed_unsorted",
        "extents of a page come in descending order",
        "inc.extents_sorted_disjoint_bounded",
    )
    CREATE_DUPLICATE_NAME_ALLOWED = (
        "create_duplicate_name_allowed",
        "a second volume of the same name is made",
        "HPE CON-2642, vsphere-csi#2507: a retry made duplicates",
    )
    CREATE_WRONG_SIZE = (
        "create_wrong_size",
        "a new volume is 64 KiB smaller than asked for",
        "vol.size_exact_or_rounded_as_declared",
    )
    NEW_VOLUME_SHOWS_OLD_BYTES = (
        "new_volume_shows_old_bytes",
        "a new volume begins with up to 4 MiB of what deleted ones held",
        "vol.new_volume_reads_zero, CVE-2023-2088 class",
    )
    LIST_SKIPS_PAGE_BOUNDARY = (
        "list_skips_page_boundary",
        "the first object of each page but the first is missing",
        "vol.list_pagination_stable_under_change; csi-test#221",
    )
    LIST_MISSES_NEWEST = (
        "list_misses_newest",
        "lists leave the newest object out",
        "store.list_lags_do_not_matter, eventually consistent lists",
    )
    CAPACITY_NEGATIVE = ("capacity_negative", "a pool uses more than it has", "cap.totals_sane")
    CAPACITY_IN_MIB = ("capacity_in_mib", "capacities are in MiB", "cap.totals_sane; cloudstack#9416, #11313")
    QOS_IGNORED = ("qos_ignored", "limits are accepted and not kept", "qos.set_get_change_remove")
    QOS_NOT_ENFORCED = ("qos_not_enforced", "limits are shown and not enforced", "qos.limit_holds")
    PASSWORD_ECHOED_IN_ERROR = (
        "password_echoed_in_error",
        "refusals repeat the password or CHAP secret",
        "sec.secret_in_error_from_array_echo; glance_store s3.py:394",
    )
    WRITES_LOST_AFTER_FLUSH = (
        "writes_lost_after_flush",
        "a flush is acknowledged; new chunks are gone after the disconnect",
        "vol.flush_survives_power_cut",
    )
    MISDIRECTED_WRITE = (
        "misdirected_write",
        "writes that begin in chunk 3, 11, 19... land one chunk later",
        "conformance.md, self-describing pattern: misdirected writes",
    )
    SERIAL_REUSED = (
        "serial_reused",
        "a new volume gets the serial of the one deleted last",
        "acl.lun_reuse_shows_other_volume_never, CVE-2023-2088",
    )
    JOB_NEVER_FINISHES = ("job_never_finishes", "jobs stay running for ever", "fault.async_job_lost_or_stuck")
    PRIVATE_METADATA_LOST = (
        "private_metadata_lost",
        "metadata is accepted and not kept",
        "vol.name_round_trip, crash.orchestrator_forgot",
    )
    CLONE_KEEPS_SOURCE_SIZE = (
        "clone_keeps_source_size",
        "a clone that is asked to be larger has its source's size",
        "ceph/ceph-csi#2719; piraeusdatastore/linstor-csi#138",
    )
    CLONE_SMALLER_ACCEPTED = (
        "clone_smaller_accepted",
        "a clone smaller than its source is made, and cut off",
        "ceph/ceph-csi#2766",
    )
    SNAPSHOT_CLONE_IS_CURRENT = (
        "snapshot_clone_is_current",
        "a volume made from a snapshot shows its source of today",
        "openebs/zfs-localpv#207",
    )
    SNAPSHOT_SIZE_ZERO = (
        "snapshot_size_zero",
        "snapshots say that they have 0 bytes",
        "democratic-csi#129; IBM/ibm-spectrum-scale-csi#249",
    )
    SNAPSHOT_TIME_MOVES = (
        "snapshot_time_moves",
        "a snapshot was created when one looks",
        "longhorn/longhorn#5153, a snapshot's date is wrong",
    )
    CHAP_ROTATION_IGNORED = (
        "chap_rotation_ignored",
        "a new CHAP secret is accepted and not used",
        "acl.credentials_rotated; hpe-storage/csi-driver#400, trouble after a change of credentials",
    )
    GRANT_DUPLICATED = (
        "grant_duplicated",
        "granting again makes a second grant",
        "HPE CON-2642, duplicate LUNs of one host; dell/csm#233",
    )
    EXPORT_SHOWS_OTHER_VOLUME = (
        "export_shows_other_volume",
        "a host gets the newest volume of the pool, whichever it was granted",
        "kubernetes/kubernetes#59946 and #90982, a LUN number that another volume had",
    )
    CHANGED_REPORTS_ALL = (
        "changed_reports_all",
        "every chunk of the volume is reported as changed",
        "abbbi/virtnbdbackup#56",
    )
    ZERO_DOES_NOTHING = (
        "zero_does_nothing",
        "zeroing a range succeeds and leaves the old bytes",
        "ceph/ceph#26286, discard no longer guarantees zeroes",
    )
    QOS_LOST_ON_RESIZE = (
        "qos_lost_on_resize",
        "growing a volume removes its limits",
        "cloudstack#6902, limits and resize",
    )


_BY_LABEL = {defect.label: defect for defect in Defect}


def defect_named(label: str) -> Defect:
    """The defect of that name. Raises ValueError naming it when there is none."""
    try:
        return _BY_LABEL[label]
    except KeyError:
        raise ValueError(f"no defect is called {label!r}") from None


def _as_defect(which: Defect | str) -> Defect:
    return which if isinstance(which, Defect) else defect_named(which)


class Defects:
    """The switchboard: which defects are on, and how long each endpoint takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on = frozenset[Defect]()
        self._latencies: dict[str, float] = {}

    def __contains__(self, defect: Defect) -> bool:
        return defect in self._on

    def active(self) -> frozenset[Defect]:
        """Those that are on."""
        return self._on

    def set(self, *which: Defect | str) -> None:
        """Switch on; the others stay as they are. Raises ValueError for an unknown name."""
        with self._lock:
            self._on |= {_as_defect(one) for one in which}

    def clear(self, *which: Defect | str) -> None:
        """Switch off; all of them when none is named. Raises ValueError for an unknown name."""
        with self._lock:
            self._on -= {_as_defect(one) for one in which} if which else self._on

    def replace(self, which: list[str]) -> None:
        """Exactly these are on. Raises ValueError for an unknown name, and nothing is changed."""
        chosen = frozenset(defect_named(label) for label in which)
        with self._lock:
            self._on = chosen

    def set_latency(self, endpoint: str, seconds: float) -> None:
        """Delay an endpoint as named in the statistics ("POST /volumes"), or "*" for all; 0 removes it."""
        with self._lock:
            self._latencies = {**self._latencies, endpoint: seconds}

    def replace_latencies(self, latencies: dict[str, float]) -> None:
        """Exactly these delays, in seconds."""
        with self._lock:
            self._latencies = dict(latencies)

    def latencies(self) -> dict[str, float]:
        """The delays that were set."""
        return dict(self._latencies)

    def latency(self, endpoint: str) -> float:
        """Seconds to wait before an endpoint works."""
        return self._latencies.get(endpoint, self._latencies.get("*", 0.0))
