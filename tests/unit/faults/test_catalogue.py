"""Every fault of the catalogue fits today's source and is one."""

import shutil
from pathlib import Path

import pytest

from tests.faults.catalogue import CATALOGUE, Edit, Fault, apply
from tests.faults.shipping import gate_of
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
    ("words", "gate"),
    [
        ("staging: burst: failed: deadlocks 3 (limit <= 0)", "burst"),
        ("production: 50 % on 0123456789ab: window failed: 100 requests, 12 errors", "window"),
        ("production: no way back from b to a: old goes on: note 1 is gone", "way back"),
        ("something else", "?"),
    ],
)
def test_a_gate_is_known_by_its_words(words: str, gate: str) -> None:
    assert gate_of(words) == gate
