"""rclip and imgret beside each other: index a folder, then search it by words from a cold shell; one model, one run.

    python3 -m venv PEER && PEER/bin/pip install rclip
    python benchmarks/peer.py --rclip PEER/bin/rclip --data FOLDER [--photos 240] [--repeats 5] [--memory 500 5000]

Both run ViT-B-32-256 with weights from a seed: speed does not depend on them, and no hub is asked. rclip finds the two
towers as ONNX files where it would have downloaded them. Commands take turns; of each the best time, of its whole process,
and the peak of its memory. `--memory` instead prints the peak of indexing with `mini` at several numbers of photos.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from encoders import ROOT, seeded
from PIL import Image

TEXT = "a red apple on a table"


def run(command: list[str], folder: Path, **environment: str) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MB of a command in `folder`."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | environment, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{command} failed: {said.read()[-2000:]}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def towers_for_rclip(spec: str, home: Path) -> None:
    """The towers of the model `spec` as rclip wants them in its data folder."""
    import open_clip

    from imgret_tools.encoders import onnx, openclip, weights

    clip = openclip.OpenClip(weights.parse(spec))
    pictures, tokens = np.zeros((2, 3, 256, 256), np.float32), np.ones((2, 77), np.int64)
    folder = home / "ViT-B-32-256-datacomp_s34b_b86k"
    folder.mkdir(parents=True)
    for name, example, module in (
        ("visual", pictures, openclip._image_module(clip._load())),
        ("textual", tokens, openclip._text_module(clip._load(), trimmed=False)),
    ):
        graph = onnx.Graph(
            name=name, key="", inputs={"input": {0: "n"}}, outputs=("output",),
            build=lambda module=module: module, examples=lambda example=example: [(example,)],
        )  # fmt: skip
        (folder / f"{name}.onnx").write_bytes(onnx._export(graph, module))
    (home / "tokenizer").mkdir()
    shutil.copy(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", home / "tokenizer")
    for name in ("LICENSE", "OPENAI-CLIP-MIT.txt", "README.md", "THIRD_PARTY_NOTICES.md"):
        (home / name).write_text("a stand-in\n")


def copies(data: Path, folder: Path, count: int) -> Path:
    """`folder` with `count` photos: those under `data`, and then the same ones, each copy with one other pixel."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    folder.mkdir()
    for number in range(count):
        source, target = files[number % len(files)], folder / f"{number:05}.jpg"
        if number < len(files):
            shutil.copyfile(source, target)
        else:
            with Image.open(source) as picture:
                changed = picture.convert("RGB")
                changed.putpixel((number % changed.width, 0), (number % 256,) * 3)
                changed.save(target, quality=90)
    return folder


def imgret(*arguments: str) -> list[str]:
    """The command as the shell would run it."""
    return [sys.executable, "-c", "from imgret_tools.cli import main; main()", *arguments]


def beside(rclip: Path, data: Path, count: int, repeats: int, scratch: Path) -> None:
    """Print times and memory of both."""
    # In a process of its own: a child's peak begins at that of the process that starts it.
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        spec = apart.submit(seeded, scratch).result()
        apart.submit(towers_for_rclip, spec, scratch / "rclip").result()
    photos = copies(data, scratch / "photos", count)
    theirs = {"HF_HUB_OFFLINE": "1", "RCLIP_DATADIR": str(scratch / "rclip")}
    ours = {
        "PYTHONPATH": str(ROOT),
        "IMGRET_DATA_DIR": str(scratch / "imgret"),
        "IMGRET_CACHE_DIR": str(scratch / "cache"),
    }
    small = copies(data, scratch / "small", 72)
    run(
        imgret("index", str(small), "--library", "warm", "--encoder", spec), scratch, **ours
    )  # converts, and chooses a way
    run(imgret("index", str(small), "--library", "mini", "--encoder", "mini"), scratch, **ours)
    commands: dict[str, tuple[list[str], dict[str, str]]] = {
        "rclip: index and search": ([str(rclip), "-f", TEXT], theirs),
        "imgret: index": (imgret("index", str(photos), "--encoder", spec), ours),
        "imgret mini: index": (imgret("index", str(photos), "--library", "own", "--encoder", "mini"), ours),
        "rclip: words": ([str(rclip), "-n", "-f", TEXT], theirs),
        "imgret: words": (imgret("search", "--text", TEXT, "--library", "warm"), ours),
        "imgret mini: words": (imgret("search", "--text", TEXT, "--library", "mini"), ours),
        "imgret --help": (imgret("--help"), ours),
        "python -c pass": ([sys.executable, "-c", "pass"], ours),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for number in range(repeats):
        for name, (command, environment) in commands.items():
            if "index" in name and number >= min(repeats, 3):
                continue
            if name.startswith("rclip: index"):
                for file in (scratch / "rclip").glob("db.sqlite*"):
                    file.unlink()
            for library in ("default", "own"):
                if name == {"default": "imgret: index", "own": "imgret mini: index"}[library]:
                    shutil.rmtree(scratch / "imgret" / "libraries" / library, ignore_errors=True)
            found[name].append(run(command, photos, **environment))
    print(f"{count} photos")
    for name, runs in found.items():
        wall, cpu, memory = (min(values) for values in zip(*runs, strict=True))
        pace = f"   {count / wall:6.1f} photos/s" if "index" in name else ""
        print(f"{name:<26}{wall:8.2f} s   cpu {cpu:7.2f} s   {memory:6.0f} MB{pace}", flush=True)


def memory(data: Path, counts: list[int], scratch: Path) -> None:
    """Print the peak memory of indexing with `mini`."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "IMGRET_DATA_DIR": str(scratch / "imgret"),
        "IMGRET_CACHE_DIR": str(scratch / "cache"),
    }
    for count in (8, *counts):  # eight: the loaded encoder and little else
        photos = copies(data, scratch / str(count), count)
        wall, _, peak = run(imgret("index", str(photos), "--library", str(count), "--encoder", "mini"), scratch, **ours)
        print(f"{count:>6} photos   {wall:7.1f} s   {peak:6.0f} MB", flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--rclip", type=Path, help="rclip's command")
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", help="numbers of photos")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.memory:
            memory(given.data, given.memory, Path(folder))
        elif given.rclip is None:
            parser.error("--rclip is needed")
        else:
            beside(given.rclip.absolute(), given.data, given.photos, given.repeats, Path(folder))


if __name__ == "__main__":
    main()
