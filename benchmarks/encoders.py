"""What the encoders cost: a first word from a cold shell, pictures a second, decoding, start of the command.

    python benchmarks/encoders.py start [--model openclip:ViT-B-32-256:/path/to/weights]   cold text queries, imgret --help
    python benchmarks/encoders.py speed --data FOLDER [--model ...]                        images/s of each network and way
    python benchmarks/encoders.py pace --data FOLDER                                       processor time a photo of each recipe of mini
    python benchmarks/encoders.py decode --data FOLDER                                     JPEG decoders
    python benchmarks/encoders.py nicknames                                                size and pace of the models by nickname
    python benchmarks/encoders.py quality --data FOLDER                                    Lite0, Lite2, and both, by picture and words

Times are the best of several; "cpu" is the processor time of the process, which a busy machine stretches less. Without
--model a ViT-B-32-256 with weights from a seed stands in: speed does not depend on them, and no hub is needed.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7
TEXT_QUERY = (
    "import sys; from pathlib import Path; from imgret_tools.encoders import make_encoder\n"
    "make_encoder(sys.argv[1], cache=Path(sys.argv[2])).encode_texts(['a red apple on a table'])"
)


def child(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tempfile.gettempdir()
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def seeded(folder: Path, name: str = "ViT-B-32-256") -> str:
    """The spec of a model with weights from a seed."""
    from imgret_tools.encoders.torchvision_guard import guard_torchvision

    guard_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(name, load_weights=False)
    file = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in model.state_dict().items()}, str(file))
    return f"openclip:{name}:{file}"


def start(model: str, scratch: Path) -> None:
    """Print what a cold shell pays."""
    cache = str(scratch / "cache")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "imgret --help": [sys.executable, "-c", "import sys; from imgret_tools.cli import main; main()", "--help"],
        "text query, mini": [sys.executable, "-c", TEXT_QUERY, "mini", cache],
        "text query, openclip": [sys.executable, "-c", TEXT_QUERY, model or seeded(scratch), cache],
    }
    for name, command in commands.items():
        child(command)  # converts what has to be converted, and warms the file cache
        runs = [child(command) for _ in range(REPEATS)]
        wall, cpu, memory = (min(values) for values in zip(*runs, strict=True))
        print(f"{name:<24} {wall:.2f} s   cpu {cpu:.2f} s   {memory:.0f} MB")


def photos(data: Path, count: int) -> list[Image.Image]:
    """The first `count` photos under a folder, upright RGB."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    return [Image.open(path).convert("RGB") for path in files]


def rate(work: Callable[[], object], count: int) -> str:
    """Items a second by the clock and by the processor, the best of three."""
    best = (0.0, 0.0)
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        best = max(best, (count / wall, count / cpu))
    return f"{best[0]:6.1f}/s   {best[1]:6.1f} a processor second"


def speed(data: Path, model: str, scratch: Path) -> None:
    """Print pictures a second: preparing and encoding, torch and ONNX Runtime."""
    import torch

    from imgret_tools.encoders import mini, openclip
    from imgret_tools.encoders.mini import RECIPES, Mini
    from imgret_tools.encoders.onnx import TorchTower

    images = photos(data, 32)
    for recipe in RECIPES:
        encoder = Mini(recipe, cache=scratch / "cache")
        prepared = [encoder.prepare(image) for image in images]
        names = " + ".join(network.name for network in recipe.networks)
        print(f"{names}: prepare            {rate(lambda e=encoder: [e.prepare(i) for i in images], 32)}")
        tower = TorchTower(mini.network(recipe).eval())
        print(f"{names}: torch              {rate(lambda t=tower, p=prepared: t(np.stack(p)), 32)}")
        for batch in (1, 8, 32):
            mini._BATCH = batch
            encoder.encode_images(prepared[:1])
            print(
                f"{names}: onnxruntime of {batch:<4}{rate(lambda e=encoder, p=prepared: e.encode_images(p), 32)}   "
                f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
            )
    from imgret_tools.encoders import make_encoder

    spec = model or seeded(scratch)
    clip = make_encoder(spec, cache=scratch / "cache")
    assert isinstance(clip, openclip.OpenClip)
    prepared = [clip.prepare(image) for image in images]
    print(f"{spec.split(':')[1]}: prepare            {rate(lambda: [clip.prepare(i) for i in images], 32)}")
    exact = openclip._unit(clip._run(openclip._WAYS[0])(np.stack(prepared))[0])
    for way in openclip._WAYS:
        if way.suits("cuda" if torch.cuda.is_available() else "cpu"):
            tower = clip._run(way)
            rows = openclip._unit(tower(np.stack(prepared))[0])
            cosine = float((rows * exact).sum(axis=1).min())
            print(
                f"{spec.split(':')[1]}: {way.name:<19}{rate(lambda t=tower: t(np.stack(prepared)), 32)}   "
                f"least cosine {cosine:.5f}"
            )


def pace(data: Path, scratch: Path, *, turns: int = 60, warm: int = 3) -> None:
    """Print what preparing and encoding a photo costs with each recipe of `mini`, in processor time: the least of many turns."""
    from imgret_tools.encoders import make_encoder
    from imgret_tools.encoders.mini import RECIPES

    files = sorted(data.rglob("*.jpg"))[:8]
    images = [Image.open(file).convert("RGB") for file in files]
    encoders = [make_encoder(f"mini:{recipe.number}", cache=scratch / "cache") for recipe in RECIPES]
    spent = [[0.0] * turns for _ in encoders]
    for turn in range(turns):
        for place, encoder in enumerate(encoders):  # in turn, so that what else the machine does meets all alike
            started = time.process_time()
            encoder.encode_images([encoder.prepare(image) for image in images])
            spent[place][turn] = (time.process_time() - started) / len(images)
    for encoder, times in zip(encoders, spent, strict=True):
        least = min(times[warm:])
        print(
            f"{encoder.name}: {least * 1e3:.1f} ms of a core a photo, {2 / least:.0f} photos a second of two whole cores"
        )


def decode(data: Path, side: int = 260) -> None:
    """Print JPEGs a second, opened for a network of `side` pixels: Pillow, Pillow's draft, and what else is installed."""
    files = sorted(data.rglob("*.jpg"))[:64]
    small = [file.read_bytes() for file in files]
    big = []
    for content in small[:6]:  # 12 megapixels, as a camera writes them
        buffer = io.BytesIO()
        Image.open(io.BytesIO(content)).convert("RGB").resize((4000, 3000)).save(buffer, "JPEG", quality=92)
        big.append(buffer.getvalue())

    def pillow(content: bytes) -> None:
        Image.open(io.BytesIO(content)).convert("RGB").resize((side, side))

    def draft(content: bytes) -> None:
        image = Image.open(io.BytesIO(content))
        image.draft("RGB", (2 * side, 2 * side))
        image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)

    decoders: dict[str, Callable[[bytes], None]] = {"Pillow open + resize": pillow, "Pillow draft": draft}
    try:
        import simplejpeg

        def simple(content: bytes) -> None:
            array = simplejpeg.decode_jpeg(content, "RGB", min_height=2 * side, min_width=2 * side)
            Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)

        def simple_fast(content: bytes) -> None:
            array = simplejpeg.decode_jpeg(
                content, "RGB", fastdct=True, fastupsample=True, min_height=2 * side, min_width=2 * side
            )
            Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)

        decoders |= {"simplejpeg": simple, "simplejpeg, fast": simple_fast}
    except ImportError:
        print("simplejpeg is not installed")
    try:
        import pyvips

        def vips(content: bytes) -> None:
            pyvips.Image.thumbnail_buffer(content, side, height=side, size="force").numpy()

        decoders["pyvips thumbnail"] = vips
    except (ImportError, OSError):
        print("pyvips is not installed")
    for kind, contents in (("web-sized", small), ("12 megapixels", big)):
        for name, decoder in decoders.items():
            print(f"{kind:<14} {name:<22} {rate(lambda d=decoder, c=contents: [d(each) for each in c], len(contents))}")


def nicknames() -> None:
    """Print parameters and pictures a processor second of the models behind nicknames, with weights from a seed."""
    from imgret_tools.encoders import NICKNAMES
    from imgret_tools.encoders.torchvision_guard import guard_torchvision

    guard_torchvision()
    import open_clip
    import torch

    for nickname in NICKNAMES:
        name = nickname.spec.removeprefix("openclip:").partition("/")[0]
        if nickname.name in (
            "multilingual",
            "best",
        ):  # the one asks the hub for its text tower, the other takes minutes
            continue
        torch.manual_seed(0)
        model = open_clip.create_model(name, load_weights=False).eval()
        side = model.visual.image_size[0] if isinstance(model.visual.image_size, tuple) else model.visual.image_size
        pictures = torch.randn(8, 3, side, side)
        with torch.inference_mode():
            found = rate(lambda m=model, p=pictures: m.encode_image(p), len(pictures))
        print(
            f"{nickname.name:<10}{sum(each.numel() for each in model.state_dict().values()) * 4 / 1e6:6.0f} MB   {found}"
        )


def quality(data: Path, scratch: Path) -> None:
    """Print retrieval by picture and by words with each network and with both."""
    from mini_quality import KINDS, by_picture, by_words
    from mini_quality import photos as labelled

    from imgret_tools.encoders.lite import LITE0, LITE2
    from imgret_tools.encoders.mini import Mini, Recipe

    images, labels = labelled(data / "train")
    query_images, query_labels = labelled(data / "test")
    for networks in ((LITE0,), (LITE2,), (LITE0, LITE2)):
        encoder = Mini(Recipe(0, "", networks), cache=scratch / "cache")
        rows = encoder.encode_images([encoder.prepare(image) for image in images])
        queries = encoder.encode_images([encoder.prepare(image) for image in query_images])
        print(" + ".join(network.name for network in networks), f"({encoder.dim}-d)")
        found = by_picture(queries, query_labels, rows, labels)
        print("   by picture   " + "   ".join(f"{name} {value:.3f}" for name, value in found.items()))
        if set(labels) <= set(KINDS):
            found, _ = by_words(encoder, rows, labels)
            print("   by words     " + "   ".join(f"{name} {value:.3f}" for name, value in found.items()))


def main() -> None:
    """Print the figures of one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["start", "speed", "pace", "decode", "nicknames", "quality"])
    parser.add_argument("--data", type=Path, help="folder of photos")
    parser.add_argument("--model", default="", help="an openclip: name whose weights are on this machine")
    given = parser.parse_args()
    if given.part not in ("start", "nicknames") and given.data is None:
        parser.error("--data is needed")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if given.part == "start":
            start(given.model, scratch)
        elif given.part == "speed":
            speed(given.data, given.model, scratch)
        elif given.part == "pace":
            pace(given.data, scratch)
        elif given.part == "nicknames":
            nicknames()
        elif given.part == "decode":
            decode(given.data)
        else:
            quality(given.data, scratch)


if __name__ == "__main__":
    main()
