"""Pace of `imgret index --engine ray` beside the local pipeline: pictures a second over the run, Ray's own start apart.

    python benchmarks/ray_pace.py [--pictures 600] [--rounds 3]

Each run is a process of its own on an empty library; local and Ray take turns. Pictures are 1280 x 853 JPEGs of noise and gradients.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

RUN = """
import json, sys, time
from pathlib import Path
from imgret_tools import Runtime, Settings
folder, data, engine, cache = sys.argv[1:]
started = 0.0
if engine == "ray":
    import ray
    begun = time.perf_counter()
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    started = time.perf_counter() - begun
with Runtime.open(Settings(data_dir=data, encoder="mini", roots=(), cache_dir=cache)) as runtime:
    report = runtime.index(Path(folder), engine=engine)
print(json.dumps({"seconds": report.seconds, "added": report.added, "stages": report.stages, "started": started}))
"""


def pictures(folder: Path, count: int) -> None:
    """`count` different JPEGs of a web photo's size."""
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((1280, 853), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05d}.jpg", quality=88)


def main() -> None:
    """Print a line for each run, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    paces: dict[str, list[float]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        pictures(folder, asked.pictures)
        for turn in range(asked.rounds):
            for engine, found in paces.items():
                data = Path(scratch) / f"{engine}-{turn}"
                command = [sys.executable, "-c", RUN, str(folder), str(data), engine, str(Path(scratch) / "cache")]
                done = json.loads(
                    subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
                )
                found.append(done["added"] / done["seconds"])
                print(f"{engine:6} {found[-1]:7.1f} pictures/s {done}", flush=True)
    local, ray = (statistics.median(paces[engine]) for engine in ("local", "ray"))
    print(f"ray / local = {ray / local:.2f}")


if __name__ == "__main__":
    main()
