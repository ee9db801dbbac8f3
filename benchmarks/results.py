"""What the refined order of a picture search is worth, on a folder of labelled photos and on parts of it.

    python benchmarks/results.py --data FOLDER [--encoder mini]

FOLDER is laid out `train/<class>/*.jpg` and `test/<class>/*.jpg`. Three tables: the test photos against the training
photos; every photo as a query once (ten rounds, each with one photo of every class against the others), for the two
thirds of the classes that limits were chosen on and for the third kept aside; and random parts of the library, with
whether it was refined at all. Intervals are 95 % bootstrap intervals over queries (comparing/judge.py); differences
are paired.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from mini_quality import average_precision, photos

from imgret_tools.comparing.judge import bootstrap_interval, paired_difference_interval
from imgret_tools.encoders import make_encoder
from imgret_tools.engine.refine import refine

SEED, ASIDE = 13, 1 / 3
SIZES = (5, 12, 20, 28, 40, 60, 90, 140, 250)
FIGURES = ("P@1", "P@5", "mAP")


def judged(scores: np.ndarray, wanted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """P@1, P@5 and AP of each query, (n, 3)."""
    relevant = labels[np.argsort(-scores, axis=1, kind="stable")] == wanted[:, None]
    found = [(float(row[0]), float(row[:5].mean()), average_precision(row)) for row in relevant]
    return np.array(found)


def both(
    rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The figures by the exact rows and by the refined order (the same where it is off), and whether it is on."""
    plain = judged(queries @ rows.T, wanted, labels)
    refined = refine(rows)
    if refined is None:
        return plain, plain, False
    return plain, judged(np.array([refined.scores(query, rows) for query in queries]), wanted, labels), True


def table(name: str, plain: np.ndarray, refined: np.ndarray) -> None:
    """Print one block: each figure exact, refined, and the paired difference."""
    print(f"\n{name}, {len(plain)} queries")
    for place, figure in enumerate(FIGURES):
        a, b = plain[:, place].tolist(), refined[:, place].tolist()
        difference = paired_difference_interval(b, a)
        print(f"  {figure:<4} exact {bootstrap_interval(a)}   refined {bootstrap_interval(b)}   gain {difference}")


def parts(rows: np.ndarray, labels: np.ndarray, trials: int) -> None:
    """Random sub-libraries: any pictures, whole classes, and one picture a class; queries are pictures left out."""
    random = np.random.default_rng(SEED)
    names = np.unique(labels)
    print("\nparts of the library   refined   mean gain in mAP   worst   (over those refined)")
    for kind in ("any pictures", "whole classes", "one a class"):
        for size in SIZES:
            gains, on, tried = [], 0, 0
            for _ in range(trials if kind != "one a class" or size <= len(names) else 0):
                order = random.permutation(names)
                if kind == "any pictures":
                    library = random.permutation(len(rows))[:size]
                elif kind == "whole classes":
                    members = [random.permutation(np.flatnonzero(labels == name))[:-1] for name in order]
                    library = np.concatenate(members)[:size]
                else:
                    library = np.array([random.choice(np.flatnonzero(labels == name)) for name in order[:size]])
                left = np.setdiff1d(random.permutation(len(rows)), library)
                queries = random.permutation(left[np.isin(labels[left], labels[library])])[:60]
                if len(queries) < 10:
                    continue
                plain, refined, is_on = both(rows[library], labels[library], rows[queries], labels[queries])
                tried, on = tried + 1, on + is_on
                if is_on:
                    gains.append(float((refined - plain)[:, 2].mean()))
            if tried:
                gain = f"{np.mean(gains):+.3f}   {min(gains):+.3f}" if gains else "nothing changes"
                print(f"  {kind:<14} {size:>4}   {on:>3} of {tried:<3}   {gain}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--trials", type=int, default=20, help="parts of each kind and size")
    arguments = parser.parse_args()
    encoder = make_encoder(arguments.encoder)
    encoded = []
    for part in ("train", "test"):
        images, labels = photos(arguments.data / part)
        encoded.append((encoder.encode_images([encoder.prepare(image) for image in images]), labels))
    (rows, labels), (queries, wanted) = encoded
    print(f"encoder {encoder.name} {encoder.fingerprint}, {encoder.dim} numbers a row")
    plain, refined, _ = both(rows, labels, queries, wanted)
    table("test photos against training photos", plain, refined)

    everything, classes = np.vstack([rows, queries]), np.concatenate([labels, wanted])
    turn = np.zeros(len(classes), int)
    for name in np.unique(classes):
        turn[classes == name] = np.arange((classes == name).sum())
    plain, refined = np.zeros((2, len(classes), 3))
    for number in range(turn.max() + 1):
        asks = turn == number
        plain[asks], refined[asks], _ = both(everything[~asks], classes[~asks], everything[asks], classes[asks])
    names = np.unique(classes)
    aside = np.isin(classes, np.random.default_rng(SEED).permutation(names)[: int(len(names) * ASIDE)])
    table("every photo once, classes used for tuning", plain[~aside], refined[~aside])
    table("every photo once, classes kept aside", plain[aside], refined[aside])
    parts(everything, classes, arguments.trials)


if __name__ == "__main__":
    main()
