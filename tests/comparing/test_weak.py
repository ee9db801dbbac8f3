"""Where search is weak: classes, confusions and queries of a labelled set, in the record, the text and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.comparing import figure
from imgret_tools.comparing.report import QuerySetComparison
from imgret_tools.engine import runtime as engine
from imgret_tools.ui.texts.comparison import VIETNAMESE_WORDS


def _picture(path: Path, seed: int, noise: int) -> None:
    """One of the patterns that `seed` names, with its own noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3))
    grain = np.random.default_rng(noise).uniform(-20, 20, (8, 8, 3))
    Image.fromarray((pattern + grain).clip(0, 255).astype(np.uint8)).resize((32, 32), 0).save(path)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    """Three classes of three; one query of `lime` looks like a `lemon`, those of the others like their class."""
    folder = tmp_path_factory.mktemp("weak")
    for seed, label in enumerate(("lemon", "lime", "plum")):
        for number in range(3):
            _picture(folder / "photos" / label / f"{number}.png", seed, 10 * seed + number)
        _picture(folder / "test" / label / "good.png", seed, 100 + seed)
    _picture(folder / "test" / "lime" / "bad.png", 0, 200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "make_encoder", lambda spec, **_: FakeEncoder())
        with Runtime.open(Settings(data_dir=folder / "data", roots=(folder,))) as runtime:
            runtime.index(folder / "photos")
            yield ImageTools(runtime)


@pytest.fixture(scope="module")
def found(tools: ImageTools) -> QuerySetComparison:
    return tools.compare_queries(str(tools.runtime.settings.roots[0] / "test"), k=5)


def test_what_fails_and_what_it_is_taken_for(found: QuerySetComparison) -> None:
    weak = found.weak
    assert weak is not None
    assert weak.way == "embedding cosine exact"
    assert weak.classes == ["lime", "lemon", "plum"]
    assert [(one.label, one.taken_for, one.queries, one.places) for one in weak.confusions] == [("lime", "lemon", 1, 3)]
    (missed,) = weak.queries  # of five places three count: there are three right images
    assert Path(missed.query).name == "bad.png"
    assert (missed.label, missed.hit.label, missed.hit.rank) == ("lime", "lemon", 1)
    assert (weak.confusions[0].query, weak.confusions[0].hit) == (missed.query, missed.hit.id)
    assert found.classes_of(weak.way)["lime"].precision_at_1 == 0.5
    assert missed.average_precision < 1


def test_it_is_told_in_text_and_json(found: QuerySetComparison) -> None:
    text = str(found)
    assert 'Weakest classes by embedding cosine exact (P@1 P@5 mAP): "lime" 0.50' in text
    assert '"lime" for "lemon" 3.' in text
    assert '"lemon" 1' not in text
    record = json.loads(json.dumps(found.to_dict()))["weak"]
    assert record["confusions"][0]["taken_for"] == "lemon"
    assert record["queries"][0]["hit"]["label"] == "lemon"


def test_the_page_shows_query_and_wrong_hit_in_both_languages(tools: ImageTools, found: QuerySetComparison) -> None:
    page = figure.html_of(found, tools.runtime)
    assert "Where search is weak" in page
    assert "<td>lemon 3</td>" in page
    shown = page.split("Where search is weak")[1].split("</details>")[0]
    assert shown.count("<img src='data:image/jpeg") == 2
    assert VIETNAMESE_WORDS["weak_queries"] in figure.html_of(found, tools.runtime, words=VIETNAMESE_WORDS)


def test_a_set_without_a_fault_says_nothing_of_weakness(tools: ImageTools, tmp_path: Path) -> None:
    folder = tools.runtime.settings.roots[0] / "fine"
    _picture(folder / "plum" / "query.png", 2, 300)
    fine = tools.compare_queries(str(folder), k=2)
    assert fine.weak is not None
    assert (fine.weak.confusions, fine.weak.queries) == ([], [])
    assert "Weakest" not in str(fine)
    _picture(folder / "nothing" / "query.png", 2, 301)
    (folder / "plum" / "query.png").unlink()
    assert tools.compare_queries(str(folder), k=2).weak is None
