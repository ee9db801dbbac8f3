"""How many of the best five pictures are right for hypernym and scene phrases: English, Vietnamese, and without accents.

    python benchmarks/phrases.py --data FOLDER [--encoder mini]

The phrases and what is right for them stand in benchmarks/lists/phrases.tsv; they look among all photos of FOLDER
(`train/<class>` and `test/<class>` of shared/data/grocery) and of the demo library. Where fewer than five pictures are
right, those count as five. A third of the phrases, drawn with a seed, is reported by itself. Intervals are 95 %
bootstrap intervals over phrases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imgret_tools.comparing.judge import bootstrap_interval
from imgret_tools.demo import collect_demo
from imgret_tools.encoders import make_encoder
from imgret_tools.encoders.glossary.vietnamese import without_accents

LISTS = Path(__file__).with_name("lists")
SEED, ASIDE = 13, 1 / 3


def lines(name: str) -> list[list[str]]:
    """The tab-separated lines of a list."""
    text = (LISTS / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--cache", type=Path, help="where converted networks are kept")
    arguments = parser.parse_args()
    encoder = make_encoder(arguments.encoder, cache=arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        demo = sorted(collect_demo(Path(folder)).glob("*/*"))
        photos = sorted(arguments.data.glob("*/*/*.jpg"))
        prepared = [encoder.prepare(Image.open(path).convert("RGB")) for path in [*photos, *demo]]
    rows = encoder.encode_images(prepared)
    names = np.array([path.parent.name for path in photos] + [path.stem for path in demo])
    groups = {group: members.split() for group, members in lines("groups.tsv")}
    phrases = lines("phrases.tsv")
    right = []
    for _, _, wanted in phrases:
        members = [name for word in wanted.split() for name in (groups[word[1:]] if word[0] == "@" else [word])]
        right.append(np.isin(names, members))
    aside = np.isin(
        np.arange(len(phrases)), np.random.default_rng(SEED).permutation(len(phrases))[: int(len(phrases) * ASIDE)]
    )
    print(f"encoder {encoder.name} {encoder.fingerprint}, {len(rows)} pictures, {len(phrases)} phrases")
    for language, texts in {
        "English": [english for english, _, _ in phrases],
        "Vietnamese": [vietnamese for _, vietnamese, _ in phrases],
        "unaccented": [without_accents(vietnamese) for _, vietnamese, _ in phrases],
    }.items():
        best = np.argsort(-(encoder.encode_texts(texts) @ rows.T), axis=1, kind="stable")[:, :5]
        found = np.array([good[five].sum() / min(5, good.sum()) for good, five in zip(right, best, strict=True)])
        parts = [bootstrap_interval(part.tolist()) for part in (found, found[~aside], found[aside])]
        print(f"  {language:<11} all {parts[0]}   two thirds {parts[1]}   a third {parts[2]}")
        worst = [english for (english, _, _), share in zip(phrases, found, strict=True) if not share]
        print(f"              nothing right: {', '.join(worst)}")


if __name__ == "__main__":
    main()
