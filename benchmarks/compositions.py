"""What a part more is worth in a query: colour and class in words, a picture and a text, "not": docs/queries.md.

    python benchmarks/compositions.py --data FOLDER [--encoder mini] [--weight 2]

The queries and what is right for them stand in benchmarks/lists/compositions.tsv; query photos are those of
`FOLDER/test/<class>`, and they look among `FOLDER/train`. Share of right pictures among the best five, beside the same
query without its last part; of colour and class beside the class alone (its last word or two). --weight is that of a text
beside a picture, and of what is not wanted in units of the usual 0.5. Intervals are 95 %
bootstrap intervals over lines.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from phrases import lines

from imgret_tools import ImageTools, Query, Runtime, Settings
from imgret_tools.comparing.judge import bootstrap_interval, paired_difference_interval
from imgret_tools.engine.query import QueryPart

ALONE = ("bell pepper", "apple", "cabbage", "tomato", "plum", "fruit", "cucumber", "potato")


def share(tools: ImageTools, query: Query, wanted: set[str]) -> float:
    """The share of right pictures among the best five."""
    hits = tools.search(query, library="groceries").hits
    return sum(hit.label in wanted for hit in hits) / 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class> and test/<class>")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--home", type=Path, help="keep the library here")
    arguments = parser.parse_args()
    groups = {group: members.split() for group, members in lines("groups.tsv")}
    kinds: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        home = arguments.home or Path(scratch)
        with Runtime.open(Settings(data_dir=home / "data", encoder=arguments.encoder)) as runtime:
            runtime.index(arguments.data / "train", library="groceries")
            tools = ImageTools(runtime)
            for kind, label, text, unwanted, right in lines("compositions.tsv"):
                wanted = {name for word in right.split() for name in (groups[word[1:]] if word[0] == "@" else [word])}
                text, unwanted = (None if one == "-" else one for one in (text, unwanted))
                photos = [None] if label == "-" else sorted((arguments.data / "test" / label).glob("*.jpg"))
                both, one = [], []
                for photo in photos:
                    parts = [] if unwanted is None else [QueryPart("not_text", unwanted, 0.5 * arguments.weight)]
                    if photo is not None and text is not None:
                        parts.append(QueryPart("text", text, arguments.weight))
                    whole = Query(None if photo else text, photo, also=tuple(parts))
                    less = text if unwanted else None
                    if kind == "colour and class":
                        less = next(name for name in ALONE if str(text).endswith(name))
                    both.append(share(tools, whole, wanted))
                    one.append(share(tools, Query(less, photo), wanted))
                kinds.setdefault(kind, []).append((float(np.mean(both)), float(np.mean(one))))
                asked = " ".join(filter(None, (label.strip("-"), text, unwanted and f"not {unwanted}")))
                print(f"  {kind:<17} {kinds[kind][-1][0]:.2f} for {kinds[kind][-1][1]:.2f}  {asked}")
    for kind, values in kinds.items():
        both, one = [value for value, _ in values], [value for _, value in values]
        gain = paired_difference_interval(both, one)
        print(
            f"{kind:<17} {len(values):>3}  {bootstrap_interval(both)}  without {bootstrap_interval(one)}  gain {gain}"
        )


if __name__ == "__main__":
    main()
