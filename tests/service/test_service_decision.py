"""The decision table of createSnapshot, each row, both spellings; and that there is always one answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bollard.core.service.decision import Facts, Goal, Maker, Plan, decide, location_of
from bollard.core.spi import Capability, InvalidArgument, Outcome, StorageError, Unsupported
from bollard.transfer_objects.enums import ImageFormat, SnapshotLocation

STANDARD = [None, "Standard", "PRIMARY", "primary", "sTaNdArD"]
ARCHIVE = ["Archive", "SECONDARY", "secondary", "aRCHIVE"]
DISKS = [f for f in ImageFormat if f.value not in ("ISO", "TAR", "DIR", "ZIP")]
OTHERS = [f for f in ImageFormat if f not in DISKS]
CUTS = frozenset({Capability.SNAPSHOTS})
CLONES = CUTS | {Capability.VOLUME_FROM_SNAPSHOT}
READS = CUTS | {Capability.DIRECT_SNAPSHOT_READ}


def facts(*, managed: bool, image_format: ImageFormat = ImageFormat.RAW, able=CLONES, **more) -> Facts:
    """A pool that can do what most can."""
    return Facts(managed=managed, image_format=image_format, able=able, **more)


@pytest.mark.parametrize("image_format", DISKS)
@pytest.mark.parametrize("word", STANDARD)
def test_rows_4_and_5_managed_standard_stays(word, image_format):
    """Nothing and Standard in any spelling keep a managed snapshot on its array, whatever the format."""
    plan = decide(word, facts(managed=True, image_format=image_format))
    assert plan == Plan(location=SnapshotLocation.STANDARD, goal=Goal.PRIMARY, maker=Maker.STORAGE)


@pytest.mark.parametrize("image_format", DISKS)
@pytest.mark.parametrize("word", ARCHIVE)
def test_rows_6_to_8_managed_archive_goes_for_every_format(word, image_format):
    """Archive leaves the array for every format, not for VHD alone as CloudStack has it."""
    plan = decide(word, facts(managed=True, image_format=image_format))
    assert plan == Plan(location=SnapshotLocation.ARCHIVE, goal=Goal.SECONDARY, maker=Maker.STORAGE)


@pytest.mark.parametrize("able", [CLONES, READS])
@pytest.mark.parametrize("word", STANDARD)
def test_rows_1_and_2_standard_without_management_goes_to_secondary(word, able):
    """Without management nothing and Standard mean secondary storage, PRIMARY included."""
    plan = decide(word, facts(managed=False, able=able))
    assert plan == Plan(location=SnapshotLocation.STANDARD, goal=Goal.SECONDARY, maker=Maker.STORAGE)


@pytest.mark.parametrize("word", STANDARD)
def test_backups_off_stays_on_the_pool(word):
    """With snapshot.backup.to.secondary off, a snapshot without management stays where it is, unread."""
    plan = decide(word, facts(managed=False, able=CUTS, backup_to_secondary=False))
    assert (plan.location, plan.goal) == (SnapshotLocation.STANDARD, Goal.PRIMARY)


@pytest.mark.parametrize("backup", [False, True])
@pytest.mark.parametrize("word", ARCHIVE)
def test_row_3_archive_without_management_is_refused(word, backup):
    """Archive without management is an error, and says where the snapshot would go anyway."""
    with pytest.raises(InvalidArgument, match="managed storage only"):
        decide(word, facts(managed=False, backup_to_secondary=backup))


@pytest.mark.parametrize("image_format", OTHERS)
@pytest.mark.parametrize("managed", [False, True])
def test_row_8_what_is_no_disk_is_refused(managed, image_format):
    """An ISO or an archive of files is no disk, wherever it lies."""
    with pytest.raises(InvalidArgument, match="no disk"):
        decide(None, facts(managed=managed, image_format=image_format))


@pytest.mark.parametrize("managed", [False, True])
def test_row_9_the_hypervisor_does_what_the_pool_cannot(managed):
    """A pool that cannot cut now is helped by a hypervisor that can, else it is unsupported."""
    able = READS - CUTS
    plan = decide(None, facts(managed=managed, able=able, hypervisor_cuts=True))
    assert plan.maker is Maker.HYPERVISOR
    with pytest.raises(Unsupported, match="neither"):
        decide(None, facts(managed=managed, able=frozenset()))


@pytest.mark.parametrize("word", ["", "tertiary", "standard ", "primary,secondary", "x" * 5000, "\x00", "é"])
@pytest.mark.parametrize("managed", [False, True])
def test_row_10_another_word_is_refused_with_the_valid_ones(managed, word):
    """An invalid word is told, shortened, with the four valid ones."""
    with pytest.raises(InvalidArgument) as refused:
        decide(word, facts(managed=managed))
    assert "Standard, Archive, PRIMARY, SECONDARY" in refused.value.message
    assert len(refused.value.message) < 400


def test_what_cannot_be_read_cannot_be_archived():
    """A pool that can cut but neither read nor clone refuses before anything is cut; staying is fine."""
    with pytest.raises(Unsupported, match="cannot be archived"):
        decide("Archive", facts(managed=True, able=CUTS))
    with pytest.raises(Unsupported, match="cannot be archived"):
        decide(None, facts(managed=False, able=CUTS))
    with pytest.raises(Unsupported, match="cannot be archived"):
        decide(None, facts(managed=False, able=frozenset(), hypervisor_cuts=True))
    assert decide(None, facts(managed=True, able=CUTS)).goal is Goal.PRIMARY


def test_the_primary_copy_can_be_kept_beside_the_archived_one():
    """`keep_on_primary` changes what is archived, and only that."""
    assert decide("Archive", facts(managed=True, keep_on_primary=True)).goal is Goal.BOTH
    assert decide(None, facts(managed=False, keep_on_primary=True)).goal is Goal.BOTH
    assert decide(None, facts(managed=True, keep_on_primary=True)).goal is Goal.PRIMARY


def test_no_word_is_no_location():
    """Nothing asked for is nothing, not the default: the default is the decision's."""
    assert location_of(None) is None


def answer(word: str | None, what: Facts) -> Plan | StorageError:
    """The decision, or the refusal."""
    try:
        return decide(word, what)
    except StorageError as error:
        return error


@given(
    word=st.none() | st.sampled_from([*STANDARD[1:], *ARCHIVE]) | st.text(max_size=12),
    managed=st.booleans(),
    image_format=st.sampled_from(ImageFormat),
    able=st.frozensets(st.sampled_from(Capability)),
    hypervisor=st.booleans(),
    backup=st.booleans(),
    keep=st.booleans(),
)
def test_there_is_always_exactly_one_answer(word, managed, image_format, able, hypervisor, backup, keep):
    """Any combination has a plan that can be carried out, or one typed error before any effect."""
    given_facts = Facts(
        managed=managed,
        image_format=image_format,
        able=able,
        hypervisor_cuts=hypervisor,
        backup_to_secondary=backup,
        keep_on_primary=keep,
    )
    plan = answer(word, given_facts)
    if isinstance(plan, StorageError):
        assert isinstance(plan, InvalidArgument | Unsupported)
        assert plan.outcome is Outcome.NOT_APPLIED
        assert plan.message
        return
    assert plan == decide(word, given_facts)
    assert (plan.location is SnapshotLocation.ARCHIVE) <= managed
    if managed:
        assert plan.goal.needs_backup == (plan.location is SnapshotLocation.ARCHIVE)
    else:
        assert plan.goal.needs_backup == backup
    assert (plan.maker is Maker.STORAGE) == (Capability.SNAPSHOTS in able)
