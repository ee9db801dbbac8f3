"""How fast folders are walked, and whether every file of Pillow's own test images is accounted for, and in what time.

    python benchmarks/pictures.py walk [--files 100000]
    python benchmarks/pictures.py pillow [--sdist pillow-12.3.0.tar.gz] [--index] [--encoder mini]

`walk` makes a folder of plain-named files and one of odd names, and times `find.walk` over both against a bare
`os.scandir` of the same tree. `pillow` opens every one of Pillow's test images (its source distribution, fetched by
`pip download --no-binary pillow` unless `--sdist` names it) on all cores as an index run does, counts them by what became
of them and checks that added + failed + skipped = files; with `--index` the whole `index` run is timed too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imgret_tools import Runtime, Settings
from imgret_tools.errors import ImageError
from imgret_tools.pictures.find import FoundImage, Skipped, walk
from imgret_tools.pictures.open import open_picture


def scandir(folder: Path) -> int:
    """Files below `folder`, each with its size, sorted: the least that any walk does."""
    count, pending = 0, [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    pending.append(entry.path)
                else:
                    entry.stat()
                    count += 1
    return count


def walks(files: int) -> None:
    """Times of a walk over plain and over odd names, the best of three in turn."""
    with tempfile.TemporaryDirectory() as made:
        for kind, suffix, content in (
            ("plain", ".jpg", b"x"),
            ("odd", ".jpg_large", b"\xff\xd8\xff" + bytes(61)),
            ("video", ".mp4", b"x"),
        ):
            for number in range(files):
                folder = Path(made, kind, f"{number // 500:04}")
                if number % 500 == 0:
                    folder.mkdir(parents=True)
                (folder / f"IMG_{number:06}{suffix}").write_bytes(content)
            times: dict[str, list[float]] = {"scandir": [], "walk": [], "walk with patterns": []}
            for _ in range(3):
                for name, run in (
                    ("scandir", lambda: scandir(Path(made, kind))),  # noqa: B023
                    ("walk", lambda: sum(1 for _ in walk(Path(made, kind)))),  # noqa: B023
                    ("walk with patterns", lambda: sum(1 for _ in walk(Path(made, kind), exclude=["*.png", "/x/"]))),  # noqa: B023
                ):
                    started = time.perf_counter()
                    assert run() == files
                    times[name].append(time.perf_counter() - started)
            tracemalloc.start()
            for _ in walk(Path(made, kind)):
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            print(
                f"{files} {kind} names: "
                + ", ".join(f"{name} {min(spent):.2f} s" for name, spent in times.items())
                + f"; peak {peak / 1e6:.1f} MB"
            )


def images_of_pillow(sdist: str, folder: Path) -> Path:
    """The folder with Pillow's test images, out of its source distribution."""
    if not sdist:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            "pillow",
            "pillow",
            "-d",
            str(folder),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        sdist = str(next(folder.glob("[pP]illow-*.tar.gz")))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("[pP]illow-*/Tests/images"))


def pillow(sdist: str, index: bool, encoder: str) -> None:
    """What becomes of every one of Pillow's test images, and in what time."""
    with tempfile.TemporaryDirectory() as made:
        folder = images_of_pillow(sdist, Path(made))
        files = sum(path.is_file() for path in folder.rglob("*"))
        started = time.perf_counter()
        skipped, images = Skipped(), []
        for found in walk(folder):
            if isinstance(found, FoundImage):
                images.append(found.path)
            else:
                skipped.add(found)
        walked = time.perf_counter() - started

        def opened(path: Path) -> tuple[float, str, Path]:
            begun = time.perf_counter()
            try:
                open_picture(path, at_least=260)
                reason = ""
            except ImageError as error:
                reason = str(error)
            return time.perf_counter() - begun, reason, path

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(opened, images))
        seconds = time.perf_counter() - started
        failed = [result for result in results if result[1]]
        whole = len(results) + skipped.counts.total()
        print(
            f"{files} files: {len(results) - len(failed)} opened, {len(failed)} failed, {skipped.counts.total()} skipped "
            f"({skipped}); {whole} accounted for; walk {walked:.2f} s, all {seconds:.1f} s on {os.cpu_count()} cores"
        )
        print("slowest: " + ", ".join(f"{path.name} {spent:.2f} s" for spent, _, path in sorted(results)[:-9:-1]))
        for reason, count in Counter(reason.split(":")[0][:60] for _, reason, _ in failed).most_common():
            print(f"  failed {count}: {reason}")
        assert whole == files
        if index:
            with Runtime.open(Settings(data_dir=Path(made, "data"), encoder=encoder, roots=(folder,))) as runtime:
                started = time.perf_counter()
                report = runtime.index(folder)
                print(f"index with {encoder}: {time.perf_counter() - started:.1f} s; stages {report.stages}")
                print(f"  added {report.added}, failed {len(report.failed)}, skipped {report.skipped_kinds}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["walk", "pillow"])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--sdist", default="")
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--encoder", default="mini")
    given = parser.parse_args()
    if given.what == "walk":
        walks(given.files)
    else:
        pillow(given.sdist, given.index, given.encoder)
