"""How well copies of photos are told from other shots of the same things, beside perceptual hashes: docs/duplicates.md.

    python benchmarks/duplicates.py --data FOLDER [--originals 60] [--encoder mini]
    python benchmarks/duplicates.py --data FOLDER --speed 20000

FOLDER holds `train/<class>/*.jpg` (several photos of each product: shots alike that are no copies). Of each original
ten copies are made; beside them stand a burst of two (the photo with its parts moved a little, a stereo pair) and the
other photos of its class. A copy is found where a group holds it with its original; precision is over reported pairs.
With `imagehash` installed its pHash and dHash, which imagededup has too, are judged on the same pictures at imagededup's
default of 10 bits and at the number of bits that is best for them.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.demo import collect_demo
from imgret_tools.records import Progress

SEED = 13


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    """The picture after a JPEG of that quality."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def cropped(picture: Image.Image, random: np.random.Generator, *, middle: bool) -> Image.Image:
    """Nine tenths of each side: from the middle, or from a corner."""
    width, height = picture.size
    left, top = (0.5, 0.5) if middle else random.integers(0, 2, 2)
    x, y = int(left * 0.1 * width), int(top * 0.1 * height)
    return picture.crop((x, y, x + int(0.9 * width), y + int(0.9 * height)))


def watermarked(picture: Image.Image) -> Image.Image:
    """A half transparent line of letters across the picture."""
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    size = picture.width / 9
    ImageDraw.Draw(layer).text(
        (picture.width * 0.1, picture.height * 0.45), "PHOTO STOCK 2024", font_size=size, fill=(255, 255, 255, 150)
    )
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def burst(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Another shot from nearly the same place: parts moved by up to 3 % of the width, light and noise a little other."""
    shift = (
        np.asarray(Image.fromarray(random.uniform(-1, 1, (4, 4, 2)).astype(np.float32)[..., 0]).resize((8, 8), 3)),
        np.asarray(Image.fromarray(random.uniform(-1, 1, (4, 4)).astype(np.float32)).resize((8, 8), 3)),
    )
    width, height = picture.size
    mesh = []
    for j in range(7):
        for i in range(7):
            box = tuple(round(v) for v in (i * width / 7, j * height / 7, (i + 1) * width / 7, (j + 1) * height / 7))
            corners: list[float] = []
            for a, b in ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)):
                corners += [
                    a * width / 7 + 0.03 * width * shift[0][b, a],
                    b * height / 7 + 0.03 * width * shift[1][b, a],
                ]
            mesh.append((box, tuple(corners)))
    moved = np.asarray(
        picture.transform(picture.size, Image.Transform.MESH, mesh, Image.Resampling.BICUBIC), np.float32
    )
    noisy = moved * random.uniform(0.93, 1.07) + random.normal(0, 3, moved.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def copies(picture: Image.Image, random: np.random.Generator) -> dict[str, Image.Image]:
    """Copies by the name of their kind."""
    half = (max(64, picture.width // 2), max(64, picture.height // 2))
    return {
        "re-encoded": encoded(picture, 40),
        "resized": picture.resize(half, Image.Resampling.LANCZOS),
        "cropped (middle)": cropped(picture, random, middle=True),
        "cropped (corner)": cropped(picture, random, middle=False),
        "mirrored": ImageOps.mirror(picture),
        "turned 90": picture.transpose(Image.Transpose.ROTATE_90),
        "turned 180": picture.transpose(Image.Transpose.ROTATE_180),
        "watermarked": watermarked(picture),
        "grey": picture.convert("L").convert("RGB"),
        "resized, mirrored, re-encoded": encoded(ImageOps.mirror(picture).resize(half), 60),
    }


def quality(folder: Path, data: Path, originals: int, encoder: str) -> None:
    """Make the pictures, find the copies, and say what was found."""
    random = np.random.default_rng(SEED)
    photos = sorted(data.glob("train/*/*.jpg"))
    chosen = [photos[number] for number in random.permutation(len(photos))[:originals]]
    demo = sorted(path for path in collect_demo(folder / "demo").rglob("*.*"))
    chosen += [path for path in demo if "motorcycle_right" not in path.name]
    truth: dict[str, int] = {}
    kinds: dict[str, str] = {}
    pictures = folder / "pictures"
    pictures.mkdir()

    def add(name: str, picture: Image.Image, source: int, kind: str) -> None:
        path = pictures / f"{name}.png"
        picture.save(path)
        truth[path.name], kinds[path.name] = source, kind

    for number, path in enumerate(chosen):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((640, 640))
        add(f"{number}", picture, number, "original")
        for place, (kind, made) in enumerate(copies(picture, random).items()):
            add(f"{number}-{place}", made, number, kind)
        add(f"{number}-burst", burst(picture, random), -1 - number, "burst")
    others = {path for one in chosen for path in one.parent.iterdir()} - set(chosen)
    for number, path in enumerate(sorted(others)):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((640, 640))
        add(f"other-{number}", picture, -10_000 - number, "other shot")
    with Runtime.open(Settings(data_dir=folder / "data", encoder=encoder)) as runtime:
        runtime.index(pictures)
        report = ImageTools(runtime).find_duplicates()
        with runtime.view() as view:
            names = {entry.id: Path(entry.path).name for entry in view.entries()}
    print(f"{len(truth)} pictures, {report.seconds:.1f} s")
    said("ours", [(names[a], names[b]) for a, b, _ in report.pairs], truth, kinds)
    if importlib.util.find_spec("imagehash"):
        import imagehash

        files = sorted(truth)
        for name in ("phash", "dhash"):
            started = time.perf_counter()
            bits = np.array(
                [getattr(imagehash, name)(Image.open(pictures / file)).hash.ravel() for file in files], np.float32
            )
            apart = bits @ (1 - bits.T) + (1 - bits) @ bits.T
            for limit in (0, 2, 4, 6, 8, 10):
                pairs = [(files[a], files[b]) for a, b in np.argwhere(np.triu(apart <= limit, 1))]
                said(f"{name}, {limit} bits, {time.perf_counter() - started:.1f} s", pairs, truth, kinds)


def said(name: str, pairs: list[tuple[str, str]], truth: dict[str, int], kinds: dict[str, str]) -> None:
    """Print precision of pairs, and the share of copies that hang together with their original, by kind."""
    leader = {file: file for file in truth}

    def of(file: str) -> str:
        while leader[file] != file:
            file = leader[file]
        return file

    for a, b in pairs:
        leader[of(a)] = of(b)
    wrong = [(a, b) for a, b in pairs if truth[a] != truth[b]]
    precision = 1 - len(wrong) / max(1, len(pairs))
    found: dict[str, list[bool]] = {}
    for file, kind in kinds.items():
        if truth[file] >= 0 and kind != "original":
            found.setdefault(kind, []).append(of(file) == of(f"{truth[file]}.png"))
    everything = [one for ones in found.values() for one in ones]
    print(f"{name}: recall {np.mean(everything):.3f}, precision {precision:.3f} of {len(pairs)} pairs")
    print("   " + ", ".join(f"{kind} {np.mean(ones):.2f}" for kind, ones in found.items()))
    if wrong:
        taken = [tuple(sorted((kinds[a], kinds[b]))) for a, b in wrong]
        print("   wrong: " + ", ".join(f"{' with '.join(pair)} {taken.count(pair)}" for pair in sorted(set(taken))))
        print("   first: " + "; ".join(f"{a} {b}" for a, b in wrong[:5]))


WINDOWS = [
    (left, top, size)
    for size, count in ((0.3, 5), (0.45, 4), (0.62, 3))
    for left in np.linspace(0, 1 - size, count)
    for top in np.linspace(0, 1 - size, count)
]
"""Fifty parts of a photo, none of which is a copy of another: each is moved by a third of its size or more."""


def speed(folder: Path, data: Path, count: int) -> None:
    """How long a library of `count` pictures takes: parts of photos, each twentieth replaced by a copy of the one before."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import fake_encoder

    fake_encoder.use()
    random = np.random.default_rng(SEED)
    pictures = folder / "pictures"
    pictures.mkdir()
    photos = [*sorted(data.glob("*/*/*.jpg")), *sorted(collect_demo(folder / "demo").rglob("*.*"))]
    copied: dict[str, str] = {}
    made: list[str] = []
    for path in [photos[number] for number in random.permutation(len(photos))]:
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        for left, top, size in WINDOWS:
            if len(made) == count:
                break
            box = np.multiply([left, top, left + size, top + size], [*photo.size, *photo.size]).astype(int)
            picture = photo.crop(tuple(box.tolist())).resize((192, 144), Image.Resampling.BICUBIC)
            name = f"{len(made)}.jpg"
            if len(made) % 20 == 19 and made:
                alike = list(copies(Image.open(pictures / made[-1]).convert("RGB"), random).values())
                picture, copied[name] = alike[len(made) // 20 % len(alike)], made[-1]
            picture.save(pictures / name, quality=90)
            made.append(name)
    with Runtime.open(Settings(data_dir=folder / "data", encoder="mini")) as runtime:
        runtime.index(pictures)
        stages: dict[str, tuple[float, int]] = {}

        def tell(state: Progress) -> None:
            stages[state.stage] = (time.perf_counter(), state.total)

        started = last = time.perf_counter()
        busy = time.process_time()
        report = ImageTools(runtime).duplicates(progress=tell)
        busy = time.process_time() - busy
        with runtime.view() as view:
            names = {entry.id: Path(entry.path).name for entry in view.entries()}
    together = [{names[hit.id] for hit in group.hits} for group in report.groups]
    of = {name: number for number, group in enumerate(together) for name in group}
    found = np.mean([of.get(one, -1) == of.get(other, -2) for one, other in copied.items()])
    print(
        f"{len(made)} pictures: {report.seconds:.1f} s ({busy:.1f} s of cores), {len(copied)} copies, found {found:.3f};"
        f" {len(together)} groups"
    )
    wrong = [
        (names[one], names[other])
        for one, other, _ in report.pairs
        if copied.get(names[one], names[one]) != copied.get(names[other], names[other])
    ]
    print(f"   precision {1 - len(wrong) / max(1, len(report.pairs)):.3f} of {len(report.pairs)} pairs")
    print("   wrong: " + "; ".join(f"{one} {other}" for one, other in wrong[:5]))
    for stage, (ended, total) in stages.items():
        print(f"   {stage}: {total} in {ended - last:.1f} s")
        last = ended
    print(f"   the rest: {report.seconds - (last - started):.1f} s")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>")
    parser.add_argument("--originals", type=int, default=60)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--speed", type=int, metavar="COUNT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.speed:
            speed(Path(scratch), arguments.data, arguments.speed)
        else:
            quality(Path(scratch), arguments.data, arguments.originals, arguments.encoder)


if __name__ == "__main__":
    main()
