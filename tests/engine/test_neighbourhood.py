"""Smoothed rows kept beside a library: made by a run, for its very rows, and never in place of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import numpy as np
import pytest
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import neighbourhood
from imgret_tools.engine.query import Query
from imgret_tools.engine.refine import Refined, refine
from imgret_tools.errors import BadInput
from imgret_tools.library import doctor
from imgret_tools.records import SearchReport
from imgret_tools.ui.link import Asked

CLASSES, EACH = 12, 6


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime with the fake encoder."""
    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="fake", roots=(tmp_path,))) as opened:
        yield opened


def drawn(folder: Path, *, first: int = 0, last: int = EACH, seed: int = 0) -> Path:
    """Noisy 8 x 8 pictures around one of each class, the numbers `first` to `last`."""
    middles = np.random.default_rng(seed).uniform(60, 200, (CLASSES, 8, 8, 3))
    for label in range(CLASSES):
        for number in range(first, last):
            noise = np.random.default_rng(1000 * label + number).normal(0, 45, (8, 8, 3))
            path = folder / f"class-{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(middles[label] + noise, 0, 255).astype(np.uint8)).save(path)
    return folder


def smoothed(runtime: Runtime) -> Refined | None:
    with runtime.view() as view:
        return neighbourhood.refined_rows(view)


def from_scratch(runtime: Runtime) -> Refined | None:
    with runtime.view() as view:
        return refine(view.matrix, numbers=view.numbers)


def like(runtime: Runtime, path: Path, **more: object) -> SearchReport:
    return runtime.search(Query(image=path), k=20, **more)  # type: ignore[arg-type]


def test_a_run_makes_them_and_a_picture_search_is_in_their_order(runtime: Runtime, tmp_path: Path) -> None:
    runtime.index(drawn(tmp_path / "photos"))
    kept, expected = smoothed(runtime), from_scratch(runtime)
    assert kept is not None
    assert expected is not None
    assert np.array_equal(kept.rows, expected.rows)
    query = drawn(tmp_path / "queries", first=EACH, last=EACH + 1) / "class-3" / f"{EACH}.png"
    refined, exact = like(runtime, query), like(runtime, query, refine="off")
    assert (refined.refined, exact.refined) == (True, False)
    assert [hit.id for hit in refined.hits] != [hit.id for hit in exact.hits]
    scores = [hit.score for hit in refined.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)
    assert [hit.value for hit in exact.hits] == [hit.score for hit in exact.hits]
    values = {hit.id: hit.value for hit in exact.hits}
    assert all(hit.value == pytest.approx(values[hit.id]) for hit in refined.hits if hit.id in values)
    assert "order refined" in str(refined)
    assert "order refined" not in str(exact)


def test_what_asks_for_another_order_gets_that(runtime: Runtime, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "photos")
    runtime.index(folder)
    path = folder / "class-0" / "0.png"
    assert like(runtime, path, measure="l2").refined
    for more in (
        {"measure": "l1"},
        {"measure": "pearson"},
        {"space": "pixels"},
        {"search": "exact"},
        {"refine": "off"},
    ):
        report = like(runtime, path, **more)
        assert not report.refined
        assert [hit.score for hit in report.hits] == sorted((hit.score for hit in report.hits), reverse=True)
    assert not runtime.search(Query(text="red")).refined
    assert not runtime.search(Query(text="red", image=path)).refined
    with pytest.raises(BadInput, match="refine"):
        ImageTools(runtime).search_similar_image(str(path), refine="on")  # type: ignore[arg-type]


def test_pages_filters_and_the_query_itself(runtime: Runtime, tmp_path: Path) -> None:
    runtime.index(drawn(tmp_path / "photos"))
    with runtime.view() as view:
        own = view.entries()[7]
    whole = runtime.search(Query(image=own), k=CLASSES * EACH)
    assert whole.refined
    assert len(whole.hits) == CLASSES * EACH - 1
    assert own.id not in {hit.id for hit in whole.hits}
    page = runtime.search(Query(image=own), k=4, offset=3)
    assert [hit.id for hit in page.hits] == [hit.id for hit in whole.hits[3:7]]
    tools = ImageTools(runtime)
    some = tools.search_similar_image(own.id, where=["label!=class-1"], k=5)
    assert [hit.id for hit in some.hits] == [hit.id for hit in whole.hits if hit.label != "class-1"][:5]
    assert not tools.search_similar_image(own.id, where=["label=nothing"]).hits


def test_small_changes_are_followed_and_relabelling_changes_nothing(runtime: Runtime, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "photos")
    runtime.index(folder)
    (folder / "class-2" / "1.png").unlink()
    Image.effect_noise((8, 8), 90).convert("RGB").save(folder / "class-4" / "new.png")
    runtime.index(folder)
    kept = smoothed(runtime)
    assert kept is not None
    assert kept.changes == 2
    assert len(kept.rows) == CLASSES * EACH
    with runtime.view() as view:
        one = view.entries()[0]
        home = view.home
    ImageTools(runtime).label(one.id, "mine")
    again = smoothed(runtime)
    assert again is not None
    assert np.array_equal(again.rows, kept.rows)
    runtime.forget([one.id])
    kept = smoothed(runtime)
    assert kept is not None
    assert len(kept.rows) == CLASSES * EACH - 1
    assert len(list(home.glob("refined-*"))) == 1


def test_rows_that_lag_are_not_used(runtime: Runtime, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "photos")
    runtime.index(folder)
    path = folder / "class-0" / "0.png"
    with runtime.library().writing() as writer, runtime.view() as view:
        writer.remove([view.entries()[-1].id])  # as a run that is killed before its end leaves it
    assert smoothed(runtime) is None
    assert not like(runtime, path).refined
    runtime.index(folder)
    assert like(runtime, path).refined


@pytest.mark.parametrize("harm", ["cut", "empty", "gone", "half a folder"])
def test_damaged_files_are_made_again(runtime: Runtime, tmp_path: Path, harm: str) -> None:
    folder = drawn(tmp_path / "photos")
    runtime.index(folder)
    home = runtime.library().home
    (kept,) = home.glob("refined-*")
    rows = kept / "rows.npy"
    if harm == "cut":
        rows.write_bytes(rows.read_bytes()[:-100])
    elif harm == "empty":
        rows.write_bytes(b"")
    elif harm == "gone":
        rows.unlink()
    else:
        kept.rename(home / ".refined-1.abc")
    runtime.close()
    assert smoothed(runtime) is None
    runtime.index(folder)
    assert smoothed(runtime) is not None
    assert not list(home.glob(".refined-*"))
    doctor.rebuild(runtime.library())
    assert not list(home.glob("refined-*"))


def test_libraries_that_cannot_be_smoothed_are_searched_exactly(runtime: Runtime, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for count in (1, 5, 30):
        photos.mkdir(exist_ok=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (90, 120, 30)).save(photos / f"{number}.png")
        runtime.index(photos)
        report = like(runtime, photos / "0.png")
        assert not report.refined
        assert [hit.copies for hit in report.hits] == [count]
    with runtime.view() as view:  # that it would not help is kept too
        assert neighbourhood.derived.load(view, neighbourhood._NAME) == {}


def test_a_comparison_has_a_row_of_the_refined_order(runtime: Runtime, tmp_path: Path) -> None:
    runtime.index(drawn(tmp_path / "photos"))
    queries = drawn(tmp_path / "queries", first=EACH, last=EACH + 1)
    path, tools = queries / "class-3" / f"{EACH}.png", ImageTools(runtime)
    (row,) = [row for row in tools.compare(path).rows if row.search == "refined"]
    assert [hit.id for hit in row.hits] == [hit.id for hit in like(runtime, path).hits[:5]]
    assert row.precision_at_k is not None
    assert not [row for row in tools.compare(path, refine="off").rows if row.search == "refined"]
    found = {row.name: row.precision_at_1 for row in tools.compare_queries(str(queries)).rows}
    assert found["embedding cosine refined"] is not None


def test_a_link_says_when_the_order_is_not_to_be_refined() -> None:
    asked = Asked("photos", image="abc", refine="off")
    assert asked.link()["refine"] == "off"
    assert Asked.of_link({key: str(value) for key, value in asked.link().items()}, "photos") == asked
    assert "refine" not in Asked("photos", image="abc").link()
