"""What workers met is counted by all of them together, and counting is never in their way."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.worker_errors import NAME, WorkerErrors


@pytest.fixture
def flags_file(tmp_path: Path) -> str:
    return str(tmp_path / "flags.json")


def test_workers_at_once_and_one_after_the_other_add_up(flags_file: str) -> None:
    with ThreadPoolExecutor(8) as workers:
        for state in ["40P01"] * 30 + ["55P03"] * 20:
            workers.submit(WorkerErrors(flags_file).add, state)

    WorkerErrors(flags_file).add("40P01")

    assert WorkerErrors(flags_file).counts() == {"40P01": 31, "55P03": 20}


def test_before_the_first_error_there_were_none(flags_file: str) -> None:
    assert WorkerErrors(flags_file).counts() == {}


def test_without_a_flags_file_nobody_knows() -> None:
    errors = WorkerErrors("")

    errors.add("40P01")

    assert errors.counts() is None


def test_a_place_that_cannot_be_written_keeps_no_worker_from_its_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).mkdir()
    errors = WorkerErrors(str(tmp_path / "flags.json"))

    errors.add("40P01")

    assert errors.counts() is None
    assert "40P01 is not counted: Is a directory" in caplog.text


@pytest.mark.parametrize("left", ["", '{"40P01": 3'])
def test_counts_that_were_cut_off_start_again(flags_file: str, tmp_path: Path, left: str) -> None:
    (tmp_path / NAME).write_text(left)
    errors = WorkerErrors(flags_file)

    errors.add("40P01")

    assert errors.counts() == {"40P01": 1}
