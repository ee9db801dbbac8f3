"""Indexing with a seeded ViT-B-32 against the course's loop, in one run on one machine.

    python benchmarks/indexing.py --data FOLDER [--photos 96]            images/s of both and their ratio, stage times
    python benchmarks/indexing.py --data FOLDER --mini 1000              photos/s with mini, beside decoding alone and its network alone
    python benchmarks/indexing.py --data FOLDER --large 60               photos of 12 megapixels with mini, beside a loop of PIL's open and resize

The course's loop opens each file with PIL, gives it to Chroma's `OpenCLIPEmbeddingFunction` and adds it to a collection, one by
one. The weights are random from a seed: speed does not depend on them, and no hub is needed.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


def pictures(data: Path, count: int, folder: Path) -> list[Path]:
    """`count` different photos: the files of `data`, and once those run out, copies with one pixel changed."""
    sources = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    folder.mkdir(parents=True)
    made = []
    for number, source in zip(range(count), itertools.cycle(sources), strict=False):
        target = folder / f"{number:05}{source.suffix}"
        if number < len(sources):
            shutil.copyfile(source, target)
        else:
            image = Image.open(source).convert("RGB")
            image.putpixel((0, 0), (number % 256, number // 256 % 256, 7))
            image.save(target, quality=90)
        made.append(target)
    return made


def checkpoint(folder: Path) -> Path:
    """A seeded ViT-B-32 as a safetensors file."""
    from imgret_tools.encoders.torchvision_guard import guard_torchvision

    guard_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    path = folder / "seeded.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, str(path))
    return path


def course(files: list[Path], weights: Path, folder: Path) -> float:
    """Images a second of the course's loop, model loaded beforehand."""
    import chromadb
    from chromadb.utils.embedding_functions import OpenCLIPEmbeddingFunction

    embed = OpenCLIPEmbeddingFunction(model_name="ViT-B-32", checkpoint=str(weights))
    collection = chromadb.PersistentClient(str(folder)).create_collection("course", embedding_function=None)
    embed([np.asarray(Image.open(files[0]).convert("RGB"))])
    started = time.perf_counter()
    for number, path in enumerate(files):
        row = embed([np.asarray(Image.open(path).convert("RGB"))])[0]
        collection.add(ids=[str(number)], embeddings=[row])
    return len(files) / (time.perf_counter() - started)


def ours(folder: Path, weights: Path, data_dir: Path, precision: str) -> tuple[float, dict[str, float], str]:
    """Images a second of `Runtime.index`, model loaded beforehand; stage seconds; the precision in use."""
    from imgret_tools import Runtime, Settings
    from imgret_tools.encoders import make_encoder

    spec = f"openclip:ViT-B-32:{weights}"
    with Runtime.open(Settings(data_dir=data_dir)) as runtime:
        encoder = make_encoder(spec, precision=precision)  # type: ignore[arg-type]
        runtime._encoders[spec] = runtime._encoders[encoder.name] = (encoder, __import__("threading").Lock())
        encoder.encode_images([encoder.prepare(Image.new("RGB", (300, 300)))] * 32)
        report = runtime.index(folder, encoder=spec)
        return report.added / report.seconds, report.stages, getattr(encoder, "precision", "")


def with_mini(folder: Path, data_dir: Path) -> tuple[float, dict[str, float]]:
    """Images a second of `Runtime.index` with `mini`, its networks converted beforehand; stage seconds."""
    from imgret_tools import Runtime, Settings

    with Runtime.open(Settings(data_dir=data_dir, encoder="mini")) as runtime:
        used = runtime.encoder("mini")
        used.encode_images([used.prepare(Image.new("RGB", (300, 300)))])
        report = runtime.index(folder)
        return report.added / report.seconds, report.stages


def ceilings(files: list[Path]) -> tuple[float, float]:
    """Images a second of `mini`'s opening and resizing alone, on all cores, and of its network alone."""
    from imgret_tools.encoders import make_encoder
    from imgret_tools.pictures.open import open_picture

    used = make_encoder("mini")
    used.encode_images([used.prepare(Image.new("RGB", (300, 300)))])
    started = time.perf_counter()
    with ThreadPoolExecutor() as threads:
        prepared = list(threads.map(lambda file: used.prepare(open_picture(file, at_least=used.side).image), files))
    decoded = time.perf_counter()
    used.encode_images(prepared)
    return len(files) / (decoded - started), len(files) / (time.perf_counter() - decoded)


def large(data: Path, count: int, folder: Path) -> list[Path]:
    """`count` photos of 4000 x 3000, as a camera writes them."""
    sources = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:count]
    folder.mkdir(parents=True)
    made = [folder / f"{number:05}.jpg" for number in range(len(sources))]
    for source, target in zip(sources, made, strict=True):
        Image.open(source).convert("RGB").resize((4000, 3000)).save(target, quality=92)
    return made


def pil_loop(files: list[Path], side: int = 224) -> float:
    """Images a second of PIL's open and resize, one by one."""
    started = time.perf_counter()
    for file in files:
        Image.open(file).convert("RGB").resize((side, side))
    return len(files) / (time.perf_counter() - started)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--mini", type=int, metavar="PHOTOS")
    parser.add_argument("--large", type=int, metavar="PHOTOS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.mini or given.large:
            files = (large if given.large else pictures)(given.data, given.large or given.mini, folder / "photos")
            decoding, network = ceilings(files[:400])
            pace, stages = with_mini(folder / "photos", folder / "data")
            print(
                f"mini: {pace:.1f} images/s; decoding alone {decoding:.1f}, the network alone {network:.1f}; stages {stages}"
            )
            if given.large:
                loop = pil_loop(files)
                print(f"PIL's open and resize alone: {loop:.1f} images/s, ratio {pace / loop:.2f}")
            return
        files = pictures(given.data, given.photos, folder / "photos")
        weights = checkpoint(folder)
        for precision in ("fp32", "auto"):
            loop = course(files, weights, folder / f"course-{precision}")
            rate, stages, used = ours(folder / "photos", weights, folder / f"data-{precision}", precision)
            print(
                f"{precision} ({used}): course {loop:.1f} images/s, ours {rate:.1f}, ratio {rate / loop:.2f}; stages {stages}"
            )
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
