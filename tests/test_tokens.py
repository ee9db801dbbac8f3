"""What the tools cost a model: schemas, answers, and structured content beside its text; `benchmarks/tokens.py` shows all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imgret_tools import ImageTools
from imgret_tools.schemas import essence, published


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Counts by tiktoken's o200k_base, whose file llama-index-core ships."""
    spec = importlib.util.find_spec("llama_index.core")
    assert spec is not None
    assert spec.origin is not None
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(Path(spec.origin).parent / "_static" / "tiktoken_cache"))
    import tiktoken

    counter = tiktoken.get_encoding("o200k_base")
    return lambda text: len(counter.encode(text))


def test_the_schemas_fit_their_budget(tokens: Callable[[str], int]) -> None:
    sizes = [
        tokens(
            json.dumps(
                {"name": tool.name, "description": tool.description, "parameters": tool.arguments.model_json_schema()}
            )
        )
        for tool in published()
    ]
    assert sum(sizes[:3]) <= 1100
    assert sum(sizes) <= 2200


def test_answers_are_short_and_their_essence_not_longer_than_its_share(
    indexed: ImageTools, tokens: Callable[[str], int]
) -> None:
    lion = indexed.search_similar_image(text="a lion", k=1).hits[0].id
    five = indexed.search_similar_image(text="a big cat", k=5)
    assert tokens(str(five)) <= 200
    for report in (
        five,
        indexed.search_similar_image(text="animals", k=12),
        indexed.search_similar_image(sort="largest", k=5),
        indexed.search_similar_image(image=lion, k=5),
        indexed.compare_metrics(lion),
        indexed.describe_library(),
        indexed.list_libraries(),
        indexed.show_image(lion),
        indexed.find_duplicates(),
        indexed.index_folder(str(indexed.runtime.settings.roots[0] / "photos"), dry_run=True),
    ):
        text, data = tokens(str(report)), tokens(json.dumps(essence(report), ensure_ascii=False))
        assert data <= 1.5 * text, (type(report).__name__, text, data)
