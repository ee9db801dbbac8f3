"""A library that version 0.1 made, as its files lie in `format-1/`: it opens, and keeps all that its user gave it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgret_tools.errors import LibraryDamaged, LibraryMismatch
from imgret_tools.library import catalogue, doctor, format1
from imgret_tools.library.library import Library

HERE = Path(__file__).parent / "format-1" / "old"
IDS = [f"{n:012x}" for n in range(7)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old library."""
    return Path(shutil.copytree(HERE, tmp_path / "old"))


def rows() -> np.ndarray:
    made = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def whole(library: Library) -> bool:
    with library.view() as view:
        numbers, ids = view.in_order_of_ids()
        np.testing.assert_allclose(view.matrix[numbers], rows(), atol=1e-6)
        by_hand = view.entry(IDS[3])
        assert (view.card.name, view.card.encoder, view.card.pixel_size) == ("ảnh cũ", "mini", 8)
        assert view.card.folders == ("/photos",)
        return ids == IDS and (by_hand.label, by_hand.label_by_user) == ("by hand", True)


def test_it_is_migrated_without_opening_a_picture(old: Path) -> None:
    library = Library(old)
    assert whole(library)
    with library.view() as view:
        assert view.pixel_places.tolist() == [0, 1, 2, 3, 4, -1, -1]
        np.testing.assert_array_equal(view.pixels[4], np.full(8 * 8 * 3, 4))
        assert not len(view.waiting())  # Chroma had it all
        assert view.entry(IDS[2]).camera is None
    assert doctor.check(library) == []
    with library.writing() as writer:
        assert writer.survey(Path("/photos")).label_by_hand(f"{3:064x}") == "by hand"
    assert not (old / "library.json").exists()
    library.close()


@pytest.mark.parametrize("damage", ["missing", "stale", "cut"])
def test_a_snapshot_that_is_not_current_is_made_up_from_chroma(old: Path, damage: str) -> None:
    snapshot = old / "snapshot.bin"
    if damage == "missing":
        snapshot.unlink()
    elif damage == "stale":
        card = (old / "library.json").read_text()
        (old / "library.json").write_text(card.replace('"revision": 2', '"revision": 3'))
    else:
        snapshot.write_bytes(b"\x05")
    assert whole(Library(old))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["unlink", "append", "insert", "create", "replace"])
def test_killed_at_any_step_it_is_old_or_new(old: Path, step: str) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from imgret_tools.library import catalogue, format1, library
from imgret_tools.library.rows import RowFile
owner = {{"unlink": Path, "replace": Path, "append": RowFile, "insert": catalogue, "create": catalogue}}["{step}"]
real, calls = getattr(owner, "{step}"), []
def dying(*args, **more):
    calls.append(1)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **more)
setattr(owner, "{step}", dying)
library.Library(Path(sys.argv[1]))
"""
    for call in range(1, 4):
        shutil.rmtree(old)
        shutil.copytree(HERE, old)
        done = subprocess.run([sys.executable, "-c", code, str(old), str(call)], check=False)
        assert done.returncode in (0, -signal.SIGKILL)
        if not catalogue.exists(old):
            assert format1.read_card(old)[0].name == "ảnh cũ"
        assert whole(Library(old))


def test_an_unknown_format_is_refused(old: Path) -> None:
    card = (old / "library.json").read_text()
    (old / "library.json").write_text(card.replace('"format": 1', '"format": 99'))
    with pytest.raises(LibraryMismatch, match=r"format 99.*reads up to 2"):
        Library(old)


def test_a_card_that_is_no_json_is_damage(old: Path) -> None:
    (old / "library.json").write_text("{")
    with pytest.raises(LibraryDamaged, match=r"library\.json"):
        Library(old)


def test_two_that_open_it_migrate_it_once(old: Path) -> None:
    code = "import sys; from pathlib import Path; from imgret_tools.library.library import Library; print(len(Library(Path(sys.argv[1]))))"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(old)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["7"] * 3
    assert not os.path.lexists(old / ".migration")
    assert whole(Library(old))
