"""Every fault of the catalogue fits today's source and is one."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.catalogue import CATALOGUE, Edit, Fault, apply
from tests.faults.shipping import Outcome, gate_of
from tests.running import CHECKOUT


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name)
def test_a_fault_fits_the_source_and_compiles(fault: Fault, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))

    apply(fault, tmp_path)

    assert fault.edits or fault.options
    for edit in fault.edits:
        changed = (tmp_path / edit.path).read_text()
        assert not edit.before or changed != (CHECKOUT / edit.path).read_text()
        compile(changed, edit.path, "exec")


def test_an_edit_that_no_longer_fits_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("one\ntwo\ntwo\n")

    for before in ("two", "three"):
        with pytest.raises(ValueError, match=rf"worn: app\.py holds '{before}'"):
            apply(Fault("worn", "", "", "", (Edit("app.py", before, ""),)), tmp_path)


@pytest.mark.parametrize(
    ("says", "goes_on"), [(": window held: 3 requests", True), (": window failed: 3 requests", False)]
)
def test_only_what_a_release_did_ends_trying_it_again(says: str, goes_on: bool) -> None:
    stopped = Outcome("good 1", True, "window", says, 10.0, True, 100, 0)

    assert stopped.may_go_on is goes_on
    assert not replace(stopped, is_stopped=False).may_go_on


@pytest.mark.parametrize(
    ("words", "gate"),
    [
        ("staging: burst: failed: deadlocks 3 (limit <= 0)", "burst"),
        ("production: 50 % on 0123456789ab: window failed: 100 requests, 12 errors", "window"),
        ("production: 90 % on 0123456789ab: window held: 100 requests: both slots suffered", "window"),
        ("production: no way back from b to a: old goes on: note 1 is gone", "way back"),
        ("something else", "?"),
    ],
)
def test_a_gate_is_known_by_its_words(words: str, gate: str) -> None:
    assert gate_of(words) == gate
