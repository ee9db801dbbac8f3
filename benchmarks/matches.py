"""How often a search says rightly that something fits, or that nothing does: docs/matches.md.

    python benchmarks/matches.py --data FOLDER [--encoder mini]

FOLDER is laid out `train/<class>/*.jpg` and `test/<class>/*.jpg` (groceries); the other pictures are the demo photos.
Lists of things that are there and of things that are not, written first: lists/absent.txt, lists/present.tsv. Every
third line was kept aside while limits were chosen. A thing is found where any hit is a strong or a fair match.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from imgret_tools import ImageTools, Query, Runtime, Settings
from imgret_tools.comparing.judge import bootstrap_interval
from imgret_tools.demo import collect_demo

LISTS = Path(__file__).with_name("lists")
NOISE = (
    "asdfgh", "qwrtp zxcv", "lkjh fdsa mnb", "xxyyzz", "blorptag", "🦄", "😀😀", "🚀🎹", "zzzz", "wrtghjk bnmtr",
    "fnord glorb", "qqqq wwww", "ạạ ẹẹ", "1234567", "!!!", "éèà", "hgfd", "ploik jmnh",
)  # fmt: skip
COMBINED = (("Orange", "a piano"), ("Cabbage", "a penguin"), ("Plum", "a fire engine"))


def lines(name: str) -> list[str]:
    """The lines of a list without its comments."""
    return [line for line in (LISTS / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


def fits(tools: ImageTools, query: Query, library: str, **options: str) -> bool:
    """Whether any of the first five hits is a strong or a fair match."""
    report = tools.search(query, library=library, **options)  # type: ignore[arg-type]
    return any(hit.match != "weak" for hit in report.hits)


def said(found: list[bool]) -> str:
    """The share of True with its interval, of lines for choosing limits and of those kept aside."""
    values = [float(one) for one in found]
    aside = [one for number, one in enumerate(values) if number % 3 == 2]
    rest = [one for number, one in enumerate(values) if number % 3 != 2]
    return f"{bootstrap_interval(values)} (chosen on {sum(rest) / len(rest):.2f}, aside {sum(aside) / len(aside):.2f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--home", type=Path, help="keep the libraries here")
    arguments = parser.parse_args()
    absent, present = lines("absent.txt"), [line.split("\t") for line in lines("present.tsv")]
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        demo, groceries = collect_demo(home / "photos"), arguments.data / "train"
        with Runtime.open(Settings(data_dir=home / "data", encoder=arguments.encoder)) as runtime:
            for library, folders in {"groceries": [groceries], "demo": [demo], "both": [groceries, demo]}.items():
                for folder in folders:
                    runtime.index(folder, library=library)
            tools = ImageTools(runtime)
            demo_photos = sorted(path for path in demo.rglob("*.*"))
            tests = sorted((arguments.data / "test").rglob("*.jpg"))
            print("texts: share with a strong or fair hit")
            for library, parts in {"groceries": {"grocery"}, "demo": {"demo"}, "both": {"grocery", "demo"}}.items():
                there = [thing for thing, part in present if part in parts]
                for name, texts in (("absent", absent), ("present", there), ("gibberish, emoji", NOISE)):
                    found = [fits(tools, Query(text), library) for text in texts]
                    print(f"  {library:<10} {name:<17} {len(texts):>3}  {said(found)}")
                    named = [text for text, one in zip(texts, found, strict=True) if one is (name != "present")]
                    print(f"      {'not found' if name == 'present' else 'found'}: {', '.join(named) or 'none'}")
            print("pictures: share with a strong or fair hit")
            for measure in ("cosine", "l1"):
                for name, photos, library in (
                    ("demo in groceries", demo_photos, "groceries"),
                    ("groceries in demo", tests, "demo"),
                    ("groceries in groceries", tests, "groceries"),
                    ("groceries in both", tests, "both"),
                ):
                    found = [fits(tools, Query(image=photo), library, measure=measure) for photo in photos]
                    print(f"  {name:<23} {measure:<6} {len(photos):>3}  {said(found)}")
            print("a picture of one kind and a text of another: best match")
            for label, text in COMBINED:
                photo = next((arguments.data / "test" / label).glob("*.jpg"))
                hit = tools.search(Query(text, photo), library="groceries").hits[0]
                print(f"  {label} and {text}: {hit.match} {hit.closeness} ({hit.label})")


if __name__ == "__main__":
    main()
