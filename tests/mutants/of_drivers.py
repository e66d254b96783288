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
    "ClonesShareTheSource": (("vol.clone_equals_source", "vol.clone_of_clone"), "cloudstack#11490"),
    "ShrinkSaysOk": (("vol.resize_shrink_refused",), "dell/csm#386, a size that the host does not see"),
    "ResizeSameSizeFails": (
        ("vol.resize_same_size_noop", "vol.resize_grow"),
        "CSI spec, ControllerExpandVolume is idempotent",
    ),
    "SizesAreNotChecked": (
        ("vol.bad_sizes_refused",),
        "IBM/ibm-spectrum-scale-csi#422",
    ),
    "MaximumIsToldTooLarge": (
        ("vol.size_min_max_boundaries",),
        "conformance.md, vol.size_min_max_boundaries",
    ),
    "SectorsAreTold4K": (("vol.size_seen",), "IBM/ibm-spectrum-scale-csi#422"),
    "DeleteMissingRaises": (("vol.delete_missing_ok", "idem.delete_repeat_after_success"), "cloudstack#6739"),
    "DeleteTakesTheSnapshots": (
        ("vol.delete_with_snapshots",),
        "HPE CON-2166, a user's snapshot was deleted",
    ),
    "DeleteRevokesFirst": (("acl.delete_granted_refused",), "CVE-2023-2088 class"),
    "MissingIsMade": (
        ("vol.missing_not_found", "vol.create_read_write_delete"),
        "conformance.md, vol.get_list_consistent",
    ),
    "ListsByNumber": (("vol.list_survives_deletion",), "csi-test#221: duplicates that CSI calls a MAY"),
    "ListsWithoutLimit": (("vol.list_complete", "scale.list_pages_are_bounded"), "csi-test#223"),
    "NamesAreAscii": (("vol.name_round_trip",), "conformance.md, vol.name_round_trip"),
    "IdentityIsThePool": (("vol.two_do_not_mix", "vol.identity_never_reused"), "kubernetes/kubernetes#90982"),
    "QosIsKeptToItself": (("qos.read_back",), "cloudstack#11447"),
    "ReleaseDeletes": (("vol.release_without_delete",), "HPE CON-2166 class: a side effect that deletes"),
    "ReleaseOfGranted": (("vol.release_granted_refused",), "CVE-2023-2088 class"),
    "AdoptMakesEmpty": (("vol.adopt_existing", "vol.adopt_missing_not_found"), "cloudstack#11490"),
    "AdoptTakesAnySize": (("vol.adopt_wrong_size_refused",), "conformance.md, stale sizes"),
    "AdoptTwice": (("vol.adopt_twice_refused",), "conformance.md, vol.adopt_twice_refused"),
    "TemplatesNeedNoSeal": (
        ("vol.template_unsealed_not_found",),
        "cloudstack#8946, ready before it was readable",
    ),
    "SealDoesNothing": (("vol.template_sealed_is_fixed",), "conformance.md, vol.template_cache_seed"),
    "TemplateOfAnySize": (("vol.template_other_size_conflicts",), "conformance.md, vol.template_cache_race"),
    "EvictKeepsTheSeed": (("vol.template_evicted_is_gone",), "cloudstack#9501"),
    "TemplateVolumesAreEmpty": (
        ("vol.template_cache_seed", "vol.template_larger_volume"),
        "kubernetes-csi/csi-driver-host-path#158",
    ),
    "CopiesCutOff": (("vol.clone_smaller_refused", "snap.volume_from_larger_refused"), "ceph/ceph-csi#2766"),
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
        "cloudstack#6739 class",
    ),
    "SnapshotsAreNotDeleted": (
        ("snap.delete_keeps_others", "leak.snapshots", "arc.location_archive"),
        "cloudstack#9501",
    ),
    "SnapshotsHaveTheVolumesSize": (("vol.resize_keeps_snapshots",), "IBM/ibm-spectrum-scale-csi#422"),
    "ListsOneSnapshot": (("snap.list_get",), "csi-test#223"),
    "RevertsToForeign": (("snap.revert_foreign_refused",), "conformance.md, snap.revert_exact"),
    "RevertRevokesFirst": (("snap.revert_granted",), "CVE-2023-2088 class"),
    "RevertKeepsTheSize": (
        ("snap.revert_resized",),
        "conformance.md, snap.revert_exact (incl. resized volume)",
    ),
    "RevertCutsFirst": (("snap.revert_exact",), "cloudstack#9446"),
    "RestoresAreDeltas": (
        ("snap.volume_from_snapshot",),
        "openebs/zfs-localpv#207",
    ),
    "DeletedBaseIsNothing": (
        ("inc.base_deleted_is_not_found",),
        "virtnbdbackup#225, #237",
    ),
    "ForeignBaseIsFull": (
        ("inc.foreign_base_refused",),
        "CSI spec, GetMetadataDelta: snapshots of one volume",
    ),
    "ResumesOneExtentLate": (("inc.extents_resume_from_offset",), "CSI spec, starting_offset"),
    "ReportsNoZeros": (
        ("inc.discard_is_reported", "inc.delta_applied_equals_target"),
        "virtnbdbackup#109 class",
    ),
    "DeltaEndsAtTheOldSize": (("inc.after_grow",), "virtnbdbackup#109"),
    "DeltaIsOfTheLastSnapshot": (("inc.delta_over_several_snapshots",), "virtnbdbackup#225"),
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
        "OSSA-2023-003, hpe-storage/csi-driver#518",
    ),
    "RevokeTakesAll": (
        ("conc.attach_detach_race_two_hosts", "acl.revoke_one_of_two_hosts"),
        "cloudstack#13578 class",
    ),
    "RevokeDoesNotWait": (("acl.revoke_cuts_off",), "CVE-2023-2088"),
    "ManyWriters": (("acl.single_writer",), "kubernetes/kubernetes#120328 class"),
    "LostRacesAreKept": (("conc.attach_detach_race_two_hosts",), "kubernetes/kubernetes#120328 class"),
    "SecondGrantIsInUse": (
        ("acl.grant_twice", "idem.grant_repeat_after_success", "idem.grant_repeat_from_other_process"),
        "dell/csm#233",
    ),
    "GrantsAreNotListed": (
        ("acl.grant_twice", "acl.grants_listable_and_match_array"),
        "hpe-storage/csi-driver#518",
    ),
    "ReadOnlyIsForgotten": (("acl.read_only",), "conformance.md, acl.read_only_grant_is_read_only"),
    "ChapIsNotChanged": (("acl.chap_rotated",), "hpe-storage/csi-driver#400"),
}

_REPEATS = tuple(c for c in sorted(known_checks()) if c.startswith("idem.") and "_repeat_after_success" in c)
_ELSEWHERE = tuple(c for c in sorted(known_checks()) if c.startswith("idem.") and "_from_other_process" in c)

LIFE: dict[str, tuple[tuple[str, ...], str]] = {
    "RefusesRepeats": ((*_REPEATS, "idem.result_equal_each_time"), "jparklab/synology-csi#15"),
    "OneProcessOnly": (
        (*_ELSEWHERE, "conc.two_driver_processes"),
        "conformance.md, idem.*_repeat_from_other_process",
    ),
    "RemembersVolumes": (
        ("conc.two_driver_processes", "idem.missing_is_gone", "pool.two_instances_isolated"),
        "conformance.md, static.two_instances_isolated",
    ),
    "ClosesOnce": (("pool.close_twice",), "conformance.md, static.open_close_idempotent"),
    "IdentityOfTheMoment": (("pool.same_identity",), "kubernetes/kubernetes#59946 class: identity by place"),
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
    "ClaimsApplied": (("fault.lost_request", "outcome.not_applied_is_true"), "hpe-storage/csi-driver#518"),
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
        "hpe-storage/csi-driver#400",
    ),
    "RetriesWithoutEnd": (("fault.no_retry_storm",), "restic/restic#1600"),
    "LooksThroughTheList": (
        ("scale.calls_per_op_are_constant",),
        "conformance.md, scale.calls_per_op_are_constant",
    ),
    "NewSessionPerCall": (("scale.session_per_call",), "conformance.md, leak.session_per_call"),
    "TraitsChange": (("compat.traits_are_constant",), "conformance.md, static.capabilities_only_narrow"),
    "CapacityFromMemory": (("cap.same_from_other_instance",), "cloudstack#9416"),
    "RevokesOnClose": (("acl.grant_survives_driver_restart",), "conformance.md, crash.orchestrator_forgot"),
    "DeletesOnClose": (
        ("compat.objects_survive_restart", "compat.snapshots_survive_restart"),
        "HPE CON-2166 class",
    ),
    "RevokesOtherVolumes": (("acl.revoke_keeps_other_volumes",), "cloudstack#13578"),
    "ListsForeign": (("pool.foreign_not_listed",), "csi-test#221, #223"),
}

STORES: dict[str, tuple[tuple[str, ...], str]] = {
    "WritesInPlace": (
        ("store.put_aborted_leaves_nothing", "store.put_cancelled_leaves_nothing"),
        "rclone's fstests :761",
    ),
    "DigestIsNotChecked": (
        ("store.put_wrong_digest_refused", "store.put_short_body_refused"),
        "minio/minio#1603",
    ),
    "IfAbsentIsAskedFirst": (("store.create_if_absent",), "adobe/S3Mock#2371"),
    "IfAbsentIsIgnored": (("store.if_absent_keeps_bytes", "store.create_if_absent"), "adobe/S3Mock#2371"),
    "OverwriteKeepsTheLonger": (
        ("store.overwrite", "store.overwrite_large_by_small"),
        "s3-tests' atomic tests",
    ),
    "PutLoadsTheBody": (("store.upload_is_streaming",), "glance_store s3.py:902, unbounded queue"),
    "UploadsAreLeft": (("store.no_leftovers",), "minio/minio#21456"),
    "LeftoversAreNotFound": (("store.leftovers_found_once",), "minio/minio#1663"),
    "LeftoversAreOnlyCounted": (("store.leftovers_found_once", "store.no_leftovers"), "minio/minio#21456"),
    "AbortsLivePuts": (("store.abort_spares_live_put",), "conformance.md, store.leftover_uploads_aborted"),
    "AbortDeletesObjects": (
        ("store.no_leftovers",),
        "gilbertchen/duplicacy#655, prune deleted what was needed",
    ),
    "DeleteMissingRaises": (("store.delete_missing_ok", "store.put_get_delete"), "minio/minio#1643"),
    "DeleteTakesTheDirectory": (("store.delete_missing_ok",), "conformance.md, store.delete_missing_ok"),
    "DeletesNothing": (
        ("store.put_get_delete", "leak.store_keys", "store.archive_delete_frees"),
        "cloudstack#9501",
    ),
    "MissingIsEmpty": (
        ("store.missing_is_not_found", "store.put_get_delete"),
        "conformance.md, store.range_reads",
    ),
    "EmptyIsMissing": (("store.empty_object",), "gaul/s3proxy#119"),
    "RangesEndEarly": (("store.range_reads", "store.large_object"), "s3s-project/s3s#95"),
    "RangesAreCut": (("store.range_reads", "store.range_edges"), "chimera-nas/chimera#476"),
    "ReadsLeaveFilesOpen": (("store.get_closed_early",), "conformance.md, leak.fds"),
    "SizesAreRounded": (
        ("store.put_head_list_agree", "store.put_get_delete"),
        "conformance.md, store.checksum_reported_matches",
    ),
    "ListsUnsorted": (("store.list_prefix_pages",), "versity/versitygw#1283"),
    "ListsOnePage": (("store.list_prefix_pages", "store.list_thousand_keys"), "Corymbia/eucalyptus#116"),
    "ListsByNumber": (("store.list_survives_changes",), "gilbertchen/duplicacy#655 class"),
    "ListsDirectories": (("store.list_prefix_is_text",), "gaul/s3proxy#119"),
    "ListsFromMemory": (("store.list_survives_changes",), "conformance.md, store.list_lags_do_not_matter"),
    "HeadsFromMemory": (
        ("store.two_instances_see_the_same",),
        "conformance.md, static.two_instances_isolated",
    ),
    "KeysAreCut": (("store.long_keys",), "conformance.md, store.weird_keys"),
    "KeysAreLowerCase": (("store.case_collision",), "conformance.md, store.case_collision"),
    "KeysAreComposed": (("store.unicode_forms", "store.weird_keys"), "conformance.md, store.weird_keys"),
    "KeysAreNormalised": (("store.keys_never_escape", "sec.store_keys_stay_inside"), "libvirt CVE-2015-5313"),
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
