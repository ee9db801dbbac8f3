"""`imgret index --watch`: what happens in the folder is in the library, whoever else writes, until it is stopped."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, copy_photos
from PIL import Image

from imgret_tools.engine import watching
from imgret_tools.engine.watching import follow
from imgret_tools.errors import BadInput, LibraryLocked, NotFound
from imgret_tools.library.library import Library
from imgret_tools.records import IndexReport

pytestmark = pytest.mark.slow

WATCHER = "import fake_encoder; fake_encoder.use(); from imgret_tools.cli import main; main()"


class Watched:
    """A running `imgret index FOLDER --watch --json`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, fits: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """The first report that fits; each of them stands on a line of its own."""
        while True:
            report = json.loads(self._lines.get(timeout=60))
            if fits(report):
                return report


@contextmanager
def watching_(folder: Path, data: Path, *options: str) -> Iterator[Watched]:
    environment = os.environ | {"IMGRET_DATA_DIR": str(data), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WATCHER, "index", str(folder), "--watch", "--json", *options]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent
    ) as process:
        try:
            yield Watched(process)
        finally:
            process.kill()


def draw(path: Path, colour: str) -> None:
    picture = Image.new("RGB", (40, 30), colour)
    picture.putpixel((3, 3), (1, 2, 3))
    picture.save(path)


@pytest.mark.parametrize("options", [(), ("--poll", "0.3")])
def test_changes_arrive_beside_another_writer_and_ctrl_c_ends_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    folder, data = copy_photos(tmp_path / "photos"), tmp_path / "data"
    with watching_(folder, data, *options) as watched:
        assert watched.until(lambda report: True)["added"] == 12
        draw(folder / "cat" / "new.png", "red")
        assert watched.until(lambda report: report["added"] > 0)["total"] == 13
        library = Library(data / "libraries" / "default")
        with library.writing("testing"):
            (folder / "lion").rename(folder / "big cats")
            (folder / "cat" / "new.png").unlink()
            assert watched.process.stderr is not None
            assert "Trying again" in watched.process.stderr.readline()
        report = watched.until(lambda report: report["removed"] > 0)
        assert (report["renamed"], report["total"]) == (1, 12)
        with library.view() as view:
            assert view.labels()["big cats"] == 1
        library.close()
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(timeout=30) == 0
        assert watched.process.stderr.read() == ""


def report(total: int = 0) -> IndexReport:
    return IndexReport("default", "", "fake", 0, 0, 0, 0, [], 0.0, 0.0, {}, total=total)


def test_an_empty_folder_waits_and_its_own_data_folder_counts_for_nothing(tmp_path: Path) -> None:
    from imgret_tools.errors import NoPictures

    drop, own = tmp_path / "drop", tmp_path / "drop" / "data"
    own.mkdir(parents=True)
    ran: list[int] = []

    def run() -> IndexReport:
        ran.append(len(list(drop.glob("*.png"))))
        (own / f"{len(ran)}").write_text("written by the run")
        if not ran[-1]:
            raise NoPictures("empty.")
        return report(ran[-1])

    runs = follow(drop, run, leave_out=[own], stop=lambda: False)
    assert next(runs) == "empty. Waiting for pictures."
    draw(drop / "one.png", "blue")
    assert next(runs) == report(1)
    draw(drop / "two.png", "blue")
    assert next(runs) == report(2)
    assert ran == [0, 1, 2]


def test_a_folder_that_goes_and_comes_back_is_followed_on(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    runs = follow(drop, lambda: report(len(list(drop.glob("*")))), stop=lambda: False)
    draw(drop / "one.png", "blue")
    assert next(runs) == report(1)
    drop.rename(tmp_path / "away")
    assert next(runs) == report(0)
    shutil.copytree(tmp_path / "away", drop)
    while next(runs) != report(1):
        pass
    draw(drop / "two.png", "red")
    assert next(runs) == report(2)


def test_a_library_in_use_is_said_once_and_other_errors_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RETRY", 0.1)
    answers: list[Exception | None] = [LibraryLocked("in use."), LibraryLocked("in use."), None, BadInput("no")]

    def run() -> IndexReport:
        answer = answers.pop(0)
        if answer:
            raise answer
        return report()

    runs = follow(tmp_path, run, stop=lambda: False)
    assert str(next(runs)).startswith("in use.")
    assert next(runs) == report()
    (tmp_path / "more").touch()
    with pytest.raises(BadInput, match="no"):
        next(runs)


def test_no_folder_and_one_without_room_for_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="No folder"):
        next(follow(tmp_path / "none", report, stop=lambda: False))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", full)
    with pytest.raises(BadInput, match=r"limit reached.*--poll 30"):
        next(follow(tmp_path, report, stop=lambda: False))


def test_it_stops_when_told(tmp_path: Path) -> None:
    assert list(follow(tmp_path, report, stop=lambda: True)) == []
