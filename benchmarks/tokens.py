"""What the tools cost a model, in tokens: schemas, answers, and structured content beside its text.

python benchmarks/tokens.py            as a table, on photos that installed packages ship

Counted with tiktoken's o200k_base, whose file llama-index-core ships; nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def encoding() -> object:
    """o200k_base from the file that llama-index-core ships."""
    spec = importlib.util.find_spec("llama_index.core")
    assert spec is not None
    assert spec.origin is not None
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(spec.origin).parent / "_static" / "tiktoken_cache")
    import tiktoken

    return tiktoken.get_encoding("o200k_base")


def main() -> None:
    """Print both tables."""
    from conftest import copy_photos

    from imgret_tools import ImageTools, Runtime, Settings
    from imgret_tools.schemas import essence, published

    counter = encoding()

    def tokens(text: str) -> int:
        return len(counter.encode(text))  # type: ignore[attr-defined]

    sizes = {
        tool.name: tokens(
            json.dumps(
                {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.arguments.model_json_schema(),
                }
            )
        )
        for tool in published()
    }
    print("| tool | schema, tokens |\n|---|---|")
    for name, size in sizes.items():
        print(f"| `{name}` | {size} |")
    print(f"| the first three | {sum(list(sizes.values())[:3])} |\n| all | {sum(sizes.values())} |\n")
    with tempfile.TemporaryDirectory() as folder:
        photos = copy_photos(Path(folder) / "photos")
        settings = Settings(data_dir=Path(folder) / "data", encoder="mini", roots=(Path(folder),))
        with Runtime.open(settings) as runtime:
            tools = ImageTools(runtime)
            answers = [("index_folder", tools.index_folder(str(photos)))]
            answers += [(f"search, k = {k}", tools.search_similar_image(text="a big cat", k=k)) for k in (5, 10)]  # type: ignore[misc]
            lion = tools.search_similar_image(text="a lion", k=1).hits[0].id
            answers += [
                ("browse, k = 5", tools.search_similar_image(where=["width>=100"], k=5)),  # type: ignore[list-item]
                ("compare_metrics, k = 5", tools.compare_metrics(lion)),  # type: ignore[list-item]
                ("list_libraries", tools.list_libraries()),  # type: ignore[list-item]
                ("describe_library", tools.describe_library()),  # type: ignore[list-item]
                ("show_image", tools.show_image(lion)),  # type: ignore[list-item]
                ("find_duplicates", tools.find_duplicates()),  # type: ignore[list-item]
            ]
            print("| answer | text | structured | ratio | whole record |\n|---|---|---|---|---|")
            for name, report in answers:
                text, data = tokens(str(report)), tokens(json.dumps(essence(report), ensure_ascii=False))
                whole = tokens(json.dumps(report.to_dict(), default=float))
                print(f"| {name} | {text} | {data} | {data / text:.2f} | {whole} |")


if __name__ == "__main__":
    main()
