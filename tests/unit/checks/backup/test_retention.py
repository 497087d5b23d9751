"""Which backups stay: never fewer than one, never the last one lost."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.backup.manifest import Backup, Manifest, list_backups
from checks.backup.retention import Keep, prune, superfluous
from checks.backup.verify import verify
from checks.base.errors import CannotMeasure
from rollout.database import backup as backups
from rollout.target.target import Target
from tests.unit.checks.backup.backups import DAY, keep_backup

# A Monday, noon UTC.
NOON = 4 * DAY + DAY / 2
TIMES = st.lists(st.floats(0, 60 * DAY), max_size=30)
KEEPS = st.builds(Keep, *[st.integers(0, 5)] * 3)


def taken(at: float, nothing_to_lose: bool = False) -> Backup:
    archive = None if nothing_to_lose else "a.dump"
    made = Manifest(
        str(at), "production", "", nothing_to_lose, at, at, "", "", "", "", "", None, archive=archive
    )
    return Backup(Path(), made)


def staying(times: list[float], keep: Keep) -> list[float]:
    backups = [taken(at) for at in times]
    gone = {backup.manifest.id for backup in superfluous(backups, keep)}
    return [backup.manifest.started_at for backup in backups if backup.manifest.id not in gone]


def test_the_latest_of_each_day_and_week_stay_beside_the_latest_few() -> None:
    hourly = [NOON + hours * 3600 for hours in range(24 * 21)]

    assert staying(hourly, Keep(latest=2, daily=0, weekly=0)) == hourly[-2:]
    assert staying(hourly, Keep(latest=1, daily=3, weekly=0)) == [hourly[-37], hourly[-13], hourly[-1]]
    assert staying(hourly, Keep(latest=0, daily=0, weekly=2)) == [hourly[-13], hourly[-1]]


@given(TIMES, KEEPS)
def test_the_newest_always_stays(times: list[float], keep: Keep) -> None:
    assert staying(times, keep)[-1:] == [] or max(times) in staying(times, keep)
    assert bool(times) == bool(staying(times, keep))


@given(TIMES, KEEPS)
def test_pruning_again_removes_nothing_more(times: list[float], keep: Keep) -> None:
    once = staying(times, keep)

    assert staying(once, keep) == once


def test_the_newest_with_something_in_it_stays_behind_empty_ones() -> None:
    backups = [taken(1), taken(2), taken(3, nothing_to_lose=True), taken(4, nothing_to_lose=True)]

    gone = superfluous(backups, Keep(1, 0, 0))

    assert [backup.manifest.started_at for backup in gone] == [1, 3]


def test_a_pruned_backup_is_gone_with_all_its_files(tmp_path: Path) -> None:
    old, new = (keep_backup(tmp_path, at) for at in (NOON, NOON + 60))

    assert prune(tmp_path, Keep(1, 0, 0)) == [old.manifest.id]

    assert sorted(tmp_path.iterdir()) == sorted(new.files)


def test_a_dry_run_names_what_would_go_and_removes_nothing(tmp_path: Path) -> None:
    old, _ = (keep_backup(tmp_path, at) for at in (NOON, NOON + 60))
    before = sorted(tmp_path.iterdir())

    assert prune(tmp_path, Keep(1, 0, 0), is_dry_run=True) == [old.manifest.id]

    assert sorted(tmp_path.iterdir()) == before


def test_a_removal_that_is_interrupted_leaves_no_backup_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = (keep_backup(tmp_path, at) for at in (NOON, NOON + 60))
    unlink, done = Path.unlink, []

    def only_one(path: Path, missing_ok: bool = False) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", only_one)
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path, Keep(1, 0, 0))

    assert [backup.manifest.id for backup in list_backups(tmp_path)] == [new.manifest.id]


def test_targets_that_share_a_directory_do_not_push_each_other_out(tmp_path: Path) -> None:
    keep_backup(tmp_path, NOON, target="staging")
    keep_backup(tmp_path, NOON + 60)

    assert prune(tmp_path, Keep(1, 0, 0)) == []


def test_a_backup_that_is_about_to_be_restored_outlives_the_one_made_before_it(tmp_path: Path) -> None:
    (tmp_path / "production" / "backups").mkdir(parents=True)
    for name, content in (("target", {"backup": {"keep": vars(Keep(latest=3))}}), ("secrets", {})):
        (tmp_path / "production" / f"{name}.json").write_text(json.dumps(content))
    target = Target.load("production", tmp_path)
    oldest, *_ = (keep_backup(target.directory / "backups", NOON + 60 * n).manifest.id for n in range(4))

    assert backups.prune(target, spare=oldest)["pruned"] == []

    assert backups.prune(target)["pruned"] == [oldest]


def test_a_backup_that_lacks_any_of_its_files_is_not_listed_and_says_why(tmp_path: Path) -> None:
    for missing in range(2):
        made = keep_backup(tmp_path, NOON + 60 * missing)
        made.files[missing].unlink()

        assert list_backups(tmp_path) == []
        with pytest.raises(CannotMeasure, match=f"{made.manifest.id} cannot be read: .*No such file"):
            verify(made.archive, made.manifest)
