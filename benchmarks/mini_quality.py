"""How well an encoder retrieves on a folder of labelled photos, by picture and by words.

    python benchmarks/mini_quality.py --data FOLDER [--encoder mini]
    python benchmarks/mini_quality.py --captions FOLDER [--encoder mini]

FOLDER is laid out `train/<class>/*.jpg` and `test/<class>/*.jpg`. Every test photo queries the training photos
(cosine on unit rows); AP is the mean of the precision at the rank of each relevant photo, divided by the number of
relevant photos. With words, each class's plain-English kind (KINDS, written down before anything was measured)
queries the training photos, and a photo of any class of that kind is right.

With --captions, each caption of Debian's `tuxpaint-stamps-default` (photos and drawings, captioned in many languages;
`apt-get download`, `dpkg-deb -x`) looks for its picture among all of them, in English and in Vietnamese.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imgret_tools.encoders import Encoder, make_encoder

KINDS = {
    "Alpro-Blueberry-Soyghurt": "yogurt",
    "Alpro-Fresh-Soy-Milk": "soy milk",
    "Anjou": "pear",
    "Arla-Ecological-Medium-Fat-Milk": "milk",
    "Arla-Lactose-Medium-Fat-Milk": "milk",
    "Arla-Natural-Mild-Low-Fat-Yoghurt": "yogurt",
    "Arla-Sour-Cream": "sour cream",
    "Arla-Sour-Milk": "sour milk",
    "Avocado": "avocado",
    "Beef-Tomato": "tomato",
    "Bravo-Apple-Juice": "apple juice",
    "Bravo-Orange-Juice": "orange juice",
    "Cabbage": "cabbage",
    "Conference": "pear",
    "Cucumber": "cucumber",
    "Floury-Potato": "potato",
    "Garant-Ecological-Medium-Fat-Milk": "milk",
    "Garant-Ecological-Standard-Milk": "milk",
    "God-Morgon-Orange-Juice": "orange juice",
    "God-Morgon-Orange-Red-Grapefruit-Juice": "grapefruit juice",
    "God-Morgon-Red-Grapefruit-Juice": "grapefruit juice",
    "Golden-Delicious": "apple",
    "Granny-Smith": "apple",
    "Green-Bell-Pepper": "bell pepper",
    "Honeydew-Melon": "melon",
    "Kaiser": "pear",
    "Mango": "mango",
    "Nectarine": "nectarine",
    "Oatly-Natural-Oatghurt": "yogurt",
    "Oatly-Oat-Milk": "oat milk",
    "Orange": "orange",
    "Papaya": "papaya",
    "Pineapple": "pineapple",
    "Plum": "plum",
    "Red-Bell-Pepper": "bell pepper",
    "Regular-Tomato": "tomato",
    "Solid-Potato": "potato",
    "Vine-Tomato": "tomato",
    "Yoggi-Strawberry-Yoghurt": "yogurt",
    "Zucchini": "zucchini",
}
"""Class folder -> the word a shopper would type for it."""


def average_precision(relevant: np.ndarray) -> float:
    """Mean precision at the relevant ranks of one ranking (a bool array, best first), divided by all relevant."""
    hits = np.flatnonzero(relevant)
    return float(((np.arange(len(hits)) + 1) / (hits + 1)).mean()) if len(hits) else 0.0


def photos(folder: Path) -> tuple[list[Image.Image], np.ndarray]:
    """The photos under `folder/<class>/`, sorted, and their classes."""
    files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    return [Image.open(path).convert("RGB") for path in files], np.array([path.parent.name for path in files])


def by_picture(queries: np.ndarray, query_labels: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """P@1, P@5 and mAP of each query row against `rows` by cosine."""
    relevant = labels[np.argsort(-(queries @ rows.T), axis=1, kind="stable")] == query_labels[:, None]
    return {
        "P@1": float(relevant[:, 0].mean()),
        "P@5": float(relevant[:, :5].mean()),
        "mAP": float(np.mean([average_precision(row) for row in relevant])),
    }


def by_words(encoder: Encoder, rows: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], dict[str, bool]]:
    """Share of classes whose kind finds a right photo first / among five, mAP, and which classes did."""
    kinds = np.array([KINDS[label] for label in labels])
    scores = encoder.encode_texts(list(KINDS.values())) @ rows.T
    relevant = kinds[np.argsort(-scores, axis=1, kind="stable")] == np.array(list(KINDS.values()))[:, None]
    return {
        "P@1": float(relevant[:, 0].mean()),
        "right in top 5": float(relevant[:, :5].any(axis=1).mean()),
        "mAP": float(np.mean([average_precision(row) for row in relevant])),
    }, dict(zip(KINDS, relevant[:, :5].any(axis=1).tolist(), strict=True))


def stamps(folder: Path) -> list[tuple[Image.Image, str, str]]:
    """The captioned pictures under `folder`, on white: (picture, English caption, Vietnamese caption).

    A caption file's first line is English; the line that begins with "vi.utf8=" is Vietnamese.
    """
    found = []
    for path in sorted(folder.rglob("*.png")):
        text, drawn = path.with_suffix(".txt"), {"symbols", "cartoon"} & set(path.parts)
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.is_file() and not drawn else []
        vietnamese = next((line.partition("=")[2].strip() for line in lines if line.startswith("vi.utf8=")), "")
        if vietnamese:
            picture = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            found.append((white.convert("RGB"), lines[0].strip(), vietnamese))
    return found


def by_caption(encoder: Encoder, folder: Path) -> None:
    """Print how often a caption finds its picture, in English and in Vietnamese."""
    found = stamps(folder)
    rows = encoder.encode_images([encoder.prepare(picture) for picture, _, _ in found])
    captions = np.array([english for _, english, _ in found])
    for language, texts in (("English", [e for _, e, _ in found]), ("Vietnamese", [v for _, _, v in found])):
        order = np.argsort(-(encoder.encode_texts(texts) @ rows.T), axis=1, kind="stable")
        first = (captions[order] == captions[:, None]).argmax(axis=1)
        print(f"{language:<12} {len(texts)} captions   R@1 {(first < 1).mean():.3f}   R@10 {(first < 10).mean():.3f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--data", type=Path, help="folder with train/<class> and test/<class>")
    asked.add_argument("--captions", type=Path, help="folder of pictures with captions: stamps of Tux Paint, unpacked")
    parser.add_argument("--encoder", default="mini")
    arguments = parser.parse_args()
    encoder = make_encoder(arguments.encoder)
    if arguments.captions:
        by_caption(encoder, arguments.captions)
        return
    images, labels = photos(arguments.data / "train")
    query_images, query_labels = photos(arguments.data / "test")
    encoder.encode_images([encoder.prepare(images[0])])  # loads the weights
    start = time.perf_counter()
    rows = encoder.encode_images([encoder.prepare(image) for image in images])
    seconds = time.perf_counter() - start
    queries = encoder.encode_images([encoder.prepare(image) for image in query_images])

    speed = len(rows) / seconds
    print(f"{encoder.name} ({encoder.dim}-d): {len(queries)} queries, {len(rows)} photos, {speed:.0f} photos/s")
    figures = by_picture(queries, query_labels, rows, labels)
    print("by picture   " + "   ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if set(labels) <= set(KINDS):
        figures, found = by_words(encoder, rows, labels)
        print("by words     " + "   ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        print("not found in the top 5: " + ", ".join(f"{KINDS[name]} ({name})" for name, ok in found.items() if not ok))


if __name__ == "__main__":
    main()
