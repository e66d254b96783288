"""Hand-written broken drivers: subclasses of Bollard's own with one method wrong each (see `broken/`)."""

from __future__ import annotations

from catalogue import Mutant, known_checks

# class of broken/ -> checks that find it, what is said of it in public
VOLUMES: dict[str, tuple[tuple[str, ...], str]] = {
    "ReturnsWhateverExists": (
        ("vol.create_idempotent", "idem.same_name_other_spec_conflicts"),
        "CSI spec, CreateVolume: ALREADY_EXISTS for an incompatible volume",
    ),
    "CloneEmptyOnRetry": (("vol.clone_equals_source", "vol.clone_retry_is_never_empty"), "dell/csm#1425"),
    "ClonesShareTheSource": (
        ("vol.clone_equals_source", "vol.clone_of_clone"),
        "cloudstack#11490 class: a copy that has not all of its source",
    ),
    "ShrinkSaysOk": (
        ("vol.resize_shrink_refused",),
        "a shrink is reported as done, and the host sees the old size",
    ),
    "ResizeSameSizeFails": (
        ("vol.resize_same_size_noop", "vol.resize_grow"),
        "CSI spec, ControllerExpandVolume is idempotent",
    ),
    "SizesAreNotChecked": (
        ("vol.bad_sizes_refused",),
        "a size that cannot be is rounded into the limits instead of refused",
    ),
    "MaximumIsToldTooLarge": (
        ("vol.size_min_max_boundaries",),
        "conformance.md, vol.size_min_max_boundaries",
    ),
    "SectorsAreTold4K": (("vol.size_seen",), "the granularity that is told is not the one that volumes have"),
    "DeleteMissingRaises": (
        ("vol.delete_missing_ok", "idem.delete_repeat_after_success", "idem.missing_is_gone"),
        "a retry of a delete whose reply was lost fails for ever",
    ),
    "DeleteTakesTheSnapshots": (
        ("vol.delete_with_snapshots",),
        "deleting a volume silently deletes its snapshots, the last copies of it",
    ),
    "DeleteRevokesFirst": (("acl.delete_granted_refused",), "CVE-2023-2088 class"),
    "MissingIsMade": (
        ("vol.missing_not_found", "vol.create_read_write_delete"),
        "conformance.md, vol.get_list_consistent",
    ),
    "ListsByNumber": (
        ("vol.list_survives_deletion",),
        "the cursor is an index, and a deletion meanwhile shifts what it points at",
    ),
    "ListsWithoutLimit": (
        ("vol.list_complete", "scale.list_pages_are_bounded"),
        "a page has all objects, whatever the limit",
    ),
    "NamesAreAscii": (("vol.name_round_trip",), "conformance.md, vol.name_round_trip"),
    "IdentityIsThePool": (
        ("vol.two_do_not_mix", "vol.identity_never_reused"),
        "a volume is told apart by its place only, so a host takes one for another",
    ),
    "QosIsKeptToItself": (("qos.read_back",), "limits are shown as asked for, and never reach the storage"),
    "ReleaseDeletes": (
        ("vol.release_without_delete",),
        "giving a volume back has a side effect that deletes",
    ),
    "ReleaseOfGranted": (("vol.release_granted_refused",), "CVE-2023-2088 class"),
    "AdoptMakesEmpty": (
        ("vol.adopt_existing", "vol.adopt_missing_not_found"),
        "cloudstack#11490 class: a new, empty volume instead of the one that is there",
    ),
    "AdoptTakesAnySize": (("vol.adopt_wrong_size_refused",), "conformance.md, stale sizes"),
    "AdoptTwice": (("vol.adopt_twice_refused",), "conformance.md, vol.adopt_twice_refused"),
    "TemplatesNeedNoSeal": (
        ("vol.template_unsealed_not_found",),
        "cloudstack#8946 class: ready before it can be read",
    ),
    "SealDoesNothing": (("vol.template_sealed_is_fixed",), "conformance.md, vol.template_cache_seed"),
    "TemplateOfAnySize": (("vol.template_other_size_conflicts",), "conformance.md, vol.template_cache_race"),
    "EvictKeepsTheSeed": (("vol.template_evicted_is_gone",), "cloudstack#9501"),
    "TemplateVolumesAreEmpty": (
        ("vol.template_cache_seed", "vol.template_larger_volume"),
        "cloudstack#11490 class: a volume that should be a copy is empty",
    ),
    "CopiesCutOff": (
        ("vol.clone_smaller_refused", "snap.volume_from_larger_refused"),
        "a copy smaller than its source is made, or told with a size that it has not",
    ),
    "SnapshotOfMissing": (
        ("snap.of_missing_volume",),
        "conformance.md, snap.create_read_equals_point_in_time",
    ),
}

SNAPSHOTS: dict[str, tuple[tuple[str, ...], str]] = {
    "CutsAgain": (
        ("snap.idempotent", "idem.snapshot_repeat_after_success", "idem.snapshot_repeat_from_other_process"),
        "vsphere-csi#2507: a retry made it again",
    ),
    "AnyVolumesSnapshot": (
        ("snap.idempotent", "snap.same_name_other_volume"),
        "CSI spec, CreateSnapshot: ALREADY_EXISTS",
    ),
    "DeletesTheLine": (("snap.delete_keeps_others",), "cloudstack#9446"),
    "DeleteMissingSnapshotRaises": (
        ("idem.delete_snapshot_repeat_after_success", "snap.delete_keeps_others"),
        "a retry of a delete whose reply was lost fails for ever",
    ),
    "SnapshotsAreNotDeleted": (
        ("snap.delete_keeps_others", "leak.snapshots", "arc.location_archive"),
        "cloudstack#9501",
    ),
    "SnapshotsHaveTheVolumesSize": (
        ("vol.resize_keeps_snapshots",),
        "a snapshot is told with the size that its volume has today",
    ),
    "ListsOneSnapshot": (("snap.list_get",), "a list that is cut says that it is whole"),
    "RevertsToForeign": (("snap.revert_foreign_refused",), "conformance.md, snap.revert_exact"),
    "RevertRevokesFirst": (("snap.revert_granted",), "CVE-2023-2088 class"),
    "RevertKeepsTheSize": (
        ("snap.revert_resized",),
        "conformance.md, snap.revert_exact (incl. resized volume)",
    ),
    "RevertCutsFirst": (("snap.revert_exact",), "cloudstack#9446 class: it takes newer snapshots along"),
    "RestoresAreDeltas": (
        ("snap.volume_from_snapshot",),
        "a volume made from a snapshot shows its source of today",
    ),
    "DeletedBaseIsNothing": (
        ("inc.base_deleted_is_not_found",),
        "a base that is gone is taken for one without changes",
    ),
    "ForeignBaseIsFull": (
        ("inc.foreign_base_refused",),
        "CSI spec, GetMetadataDelta: snapshots of one volume",
    ),
    "ResumesOneExtentLate": (("inc.extents_resume_from_offset",), "CSI spec, starting_offset"),
    "ReportsNoZeros": (
        ("inc.discard_is_reported",),
        "what was discarded is not in the delta, and comes back with a restore",
    ),
    "DeltaEndsAtTheOldSize": (("inc.after_grow",), "virtnbdbackup#109"),
    "DeltaIsOfTheLastSnapshot": (
        ("inc.delta_over_several_snapshots",),
        "a delta over several snapshots is that over the last one",
    ),
    "GroupsOneByOne": (
        ("group.members_are_snapshots",),
        "reference/backends-managed.md: torn groups",
    ),
}

ACCESS: dict[str, tuple[tuple[str, ...], str]] = {
    "RevokeUnknownRaises": (
        ("acl.revoke_twice_and_unknown", "idem.revoke_repeat_after_success"),
        "cloudstack#6739",
    ),
    "RevokeLies": (
        (
            "acl.revoke_cuts_off",
            "leak.grants",
            "acl.writer_follows_revoked_writer",
            "acl.export_removed_when_last_grant_goes",
        ),
        "OSSA-2023-003 class: a host keeps what was taken from it",
    ),
    "RevokeTakesAll": (
        ("conc.attach_detach_race_two_hosts", "acl.revoke_one_of_two_hosts"),
        "cloudstack#13578 class",
    ),
    "ManyWriters": (("acl.single_writer",), "nobody keeps two hosts from writing to one volume"),
    "LostRacesAreKept": (
        ("conc.attach_detach_race_two_hosts",),
        "of two hosts that are let in at the same time both stay",
    ),
    "SecondGrantIsInUse": (
        ("acl.grant_twice", "idem.grant_repeat_after_success", "idem.grant_repeat_from_other_process"),
        "a retry of a grant whose reply was lost meets itself and fails for ever",
    ),
    "GrantsAreNotListed": (
        ("acl.grant_twice", "acl.grants_listable_and_match_array"),
        "access that nobody can list is never taken away",
    ),
    "ReadOnlyIsForgotten": (("acl.read_only",), "conformance.md, acl.read_only_grant_is_read_only"),
    "ChapIsNotChanged": (("acl.chap_rotated",), "a changed CHAP secret does not reach the storage"),
}

_REPEATS = tuple(c for c in sorted(known_checks()) if c.startswith("idem.") and "_repeat_after_success" in c)
_ELSEWHERE = tuple(c for c in sorted(known_checks()) if c.startswith("idem.") and "_from_other_process" in c)

LIFE: dict[str, tuple[tuple[str, ...], str]] = {
    "RefusesRepeats": (
        (*_REPEATS, "idem.result_equal_each_time"),
        "an operation that succeeded is an error the second time",
    ),
    "OneProcessOnly": (
        (*_ELSEWHERE, "conc.two_driver_processes"),
        "conformance.md, idem.*_repeat_from_other_process",
    ),
    "RemembersVolumes": (
        ("conc.two_driver_processes", "pool.two_instances_isolated", "compat.objects_survive_restart"),
        "conformance.md, static.two_instances_isolated",
    ),
    "ClosesOnce": (("pool.close_twice",), "conformance.md, static.open_close_idempotent"),
    "IdentityOfTheMoment": (
        ("pool.same_identity",),
        "a pool is told apart by the moment at which it was opened",
    ),
    "DeclaresAndRefuses": (
        ("vol.clone_equals_source", "vol.clone_independent"),
        "conformance.md, negative twins",
    ),
    "ErrorsAreInternal": (("vol.create_read_write_delete",), "conformance.md, static.errors_are_in_taxonomy"),
    "PythonErrors": (("vol.missing_not_found",), "cloudstack#6739, a null host"),
    "NothingWasApplied": (("outcome.not_applied_is_true",), "HPE CON-2642"),
    "ClaimsNotApplied": (
        ("fault.lost_reply", "fault.truncated_reply", "fault.reset"),
        "HPE CON-2642, vsphere-csi#2507",
    ),
    "ClaimsApplied": (
        ("fault.lost_request",),
        "an error that claims success makes the caller use what is not there",
    ),
    "LeavesThreads": (("leak.threads",), "conformance.md, leak.threads"),
    "LeavesFiles": (("leak.fds",), "conformance.md, leak.fds"),
    "LeavesProcesses": (("leak.child_processes",), "conformance.md, leak.child_processes"),
}

TRUST: dict[str, tuple[tuple[str, ...], str]] = {
    "TrustsAnyCertificate": (
        ("sec.tls_verified", "fault.bad_certificate"),
        "conformance.md, sec.tls_verified_by_default",
    ),
    "IgnoresDeadlines": (("fault.deadline_black_hole",), "conformance.md, fault.deadline_always_honoured"),
    "TellsThePassword": (
        ("sec.secret_in_error", "sec.private_data_has_no_secret"),
        "glance_store _drivers/s3.py:394 class: credentials in what errors show",
    ),
    "RetriesWithoutEnd": (
        ("fault.no_retry_storm",),
        "what is refused is sent again at once, a hundred times",
    ),
    "LooksThroughTheList": (
        ("scale.calls_per_op_are_constant",),
        "conformance.md, scale.calls_per_op_are_constant",
    ),
    "NewSessionPerCall": (("scale.session_per_call",), "conformance.md, leak.session_per_call"),
    "TraitsChange": (("compat.traits_are_constant",), "conformance.md, static.capabilities_only_narrow"),
    "CapacityFromMemory": (
        ("cap.same_from_other_instance",),
        "cloudstack#9416 class: a size that is shown is wrong",
    ),
    "RevokesOnClose": (("acl.grant_survives_driver_restart",), "conformance.md, crash.orchestrator_forgot"),
    "DeletesOnClose": (
        ("compat.snapshots_survive_restart",),
        "closing the driver deletes what it made",
    ),
    "RevokesOtherVolumes": (
        ("acl.revoke_keeps_other_volumes",),
        "a host that loses one volume loses all of them",
    ),
    "ListsForeign": (("pool.foreign_not_listed",), "csi-test#221, #223"),
}

STORES: dict[str, tuple[tuple[str, ...], str]] = {
    "WritesInPlace": (
        ("store.put_aborted_leaves_nothing", "store.put_cancelled_leaves_nothing"),
        "rclone's fstests :761",
    ),
    "DigestIsNotChecked": (
        ("store.put_wrong_digest_refused", "store.put_short_body_refused"),
        "an upload is stored without comparing it with its digest",
    ),
    "IfAbsentIsAskedFirst": (
        ("store.create_if_absent",),
        "look, then write: two writers both find nothing there",
    ),
    "IfAbsentIsIgnored": (
        ("store.if_absent_keeps_bytes", "store.create_if_absent"),
        "the condition of a put is ignored",
    ),
    "OverwriteKeepsTheLonger": (
        ("store.overwrite", "store.overwrite_large_by_small"),
        "s3-tests' atomic tests",
    ),
    "PutLoadsTheBody": (("store.upload_is_streaming",), "glance_store s3.py:902, unbounded queue"),
    "UploadsAreLeft": (
        ("store.no_leftovers", "store.leftovers_found_once"),
        "uploads that end or fail leave their temporary files, and nobody can remove them",
    ),
    "LeftoversAreOnlyCounted": (
        ("store.leftovers_found_once", "store.no_leftovers"),
        "an aborted upload is counted as removed and stays",
    ),
    "AbortsLivePuts": (("store.abort_spares_live_put",), "conformance.md, store.leftover_uploads_aborted"),
    "AbortDeletesObjects": (
        ("store.no_leftovers",),
        "tidying up deletes objects that are needed",
    ),
    "DeleteMissingRaises": (
        ("store.delete_missing_ok", "store.put_get_delete"),
        "a retry of a delete whose reply was lost fails for ever",
    ),
    "DeleteTakesTheDirectory": (("store.delete_missing_ok",), "conformance.md, store.delete_missing_ok"),
    "DeletesNothing": (
        ("store.put_get_delete", "leak.store_keys", "store.archive_delete_frees"),
        "cloudstack#9501",
    ),
    "MissingIsEmpty": (
        ("store.missing_is_not_found", "store.put_get_delete"),
        "conformance.md, store.range_reads",
    ),
    "EmptyIsMissing": (("store.empty_object",), "an empty object is taken for a directory, or for none"),
    "RangesEndEarly": (
        ("store.range_reads", "store.large_object"),
        "the last byte of a range is taken for the first one behind it",
    ),
    "RangesAreCut": (
        ("store.range_reads", "store.range_edges"),
        "a range that leaves the object is cut without a word",
    ),
    "ReadsLeaveFilesOpen": (("store.get_closed_early",), "conformance.md, leak.fds"),
    "SizesAreRounded": (
        ("store.put_head_list_agree", "store.put_get_delete"),
        "conformance.md, store.checksum_reported_matches",
    ),
    "ListsUnsorted": (("store.list_prefix_pages",), "a listing is not in the order that its cursor needs"),
    "ListsOnePage": (
        ("store.list_prefix_pages", "store.list_thousand_keys"),
        "the first page says that it is the last",
    ),
    "ListsByNumber": (
        ("store.list_survives_changes",),
        "the cursor is an index, and a deletion meanwhile shifts what it points at",
    ),
    "ListsDirectories": (("store.list_prefix_is_text",), "a prefix is taken for a directory"),
    "HeadsFromMemory": (
        ("store.two_instances_see_the_same",),
        "conformance.md, static.two_instances_isolated",
    ),
    "KeysAreCut": (("store.long_keys",), "conformance.md, store.weird_keys"),
    "KeysAreLowerCase": (("store.case_collision",), "conformance.md, store.case_collision"),
    "KeysAreComposed": (("store.unicode_forms", "store.weird_keys"), "conformance.md, store.weird_keys"),
    "KeysAreNormalised": (("sec.store_keys_stay_inside",), "libvirt CVE-2015-5313"),
    "MakesItsPlace": (("store.open_missing_place",), "conformance.md, pool_host.already_mounted_ok"),
    "OpensAnything": (("store.open_missing_place",), "conformance.md, pool.attach_unreachable"),
    "ListingTraitLies": (("store.listing_trait_is_true",), "conformance.md, store.list_lags_do_not_matter"),
    "FilesForEverybody": (("sec.store_files_not_for_all",), "conformance.md, sec.temp_files_0600"),
}

_OCCASION = "vol.create_read_write_delete"


def _broken(module: str, cls: str, checks: tuple[str, ...], bug: str, backend: str) -> Mutant:
    known = known_checks()
    occasion = () if any(known[c].kinds for c in checks) else (_OCCASION,)
    return Mutant(
        id=f"{backend}-driver.{cls}",
        backend=backend,
        driver=f"{module}:{cls}",
        killed_by=checks,
        during=occasion,
        field_bug=bug,
    )


MUTANTS = tuple(
    _broken(module, cls, checks, bug, backend)
    for module, backend, table in (
        ("broken_volumes", "array", VOLUMES),
        ("broken_snapshots", "array", SNAPSHOTS),
        ("broken_access", "array", ACCESS),
        ("broken_life", "array", LIFE),
        ("broken_trust", "array", TRUST),
        ("broken_stores", "nfs", STORES),
    )
    for cls, (checks, bug) in table.items()
)
