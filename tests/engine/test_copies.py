"""Pictures with the same content are one hit with a count, and places count such hits."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from conftest import copy_photos
from fake_encoder import FakeEncoder

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as engine
from imgret_tools.export import to_csv, to_html
from imgret_tools.records import Hit
from imgret_tools.schemas import essence
from imgret_tools.ui.tabs.search import SearchTab


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    """Twelve photos, of which one stands there four times and another twice."""
    folder = tmp_path_factory.mktemp("copies")
    photos = copy_photos(folder / "photos")
    first, second, *_ = sorted(path for path in photos.rglob("*.*"))
    for number in range(3):
        (photos / "elsewhere").mkdir(exist_ok=True)
        shutil.copyfile(first, photos / "elsewhere" / f"{number}{first.suffix}")
    shutil.copyfile(second, photos / "elsewhere" / f"second{second.suffix}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "make_encoder", lambda spec, **_: FakeEncoder())
        with Runtime.open(Settings(data_dir=folder / "data", roots=(folder,))) as runtime:
            runtime.index(photos)
            yield ImageTools(runtime)


def _counts(hits: list[Hit]) -> dict[str, int]:
    return {str(hit.metadata["sha256"]): hit.copies for hit in hits}


@pytest.mark.parametrize("how", [{}, {"measure": "l1"}, {"space": "pixels"}, {"search": "hnsw"}], ids=str)
def test_a_content_is_one_hit_and_every_page_has_its_share(tools: ImageTools, how: dict[str, str]) -> None:
    photo = _entries(tools)[0].path
    whole = tools.search_similar_image(image=photo, k=12, **how)  # type: ignore[arg-type]
    assert len(_counts(whole.hits)) == len(whole.hits) == 12
    assert sorted(hit.copies for hit in whole.hits) == [1] * 10 + [2, 4]
    assert (whole.matching, whole.searched) == (16, 12)
    assert sum(hit.copies for hit in whole.hits) == whole.matching
    pages = [
        hit.id
        for offset in range(0, 12, 5)
        for hit in tools.search_similar_image(image=photo, k=5, offset=offset, **how).hits  # type: ignore[arg-type]
    ]
    assert pages == [hit.id for hit in whole.hits]
    assert [hit.rank for hit in whole.hits] == list(range(1, 13))


def _entries(tools: ImageTools) -> list:  # type: ignore[type-arg]
    with tools.runtime.view() as view:
        return view.entries()


def test_only_what_satisfies_the_filters_counts_and_a_query_does_not_count_itself(tools: ImageTools) -> None:
    elsewhere = tools.search_similar_image(text="x", k=5, where=["label=elsewhere"])
    assert sorted(hit.copies for hit in elsewhere.hits) == [1, 3]
    assert (elsewhere.matching, elsewhere.searched) == (4, 2)
    assert "2 more are copies of these" in elsewhere.notice
    four = max(tools.search_similar_image(text="x", k=12).hits, key=lambda hit: hit.copies)
    own = tools.search_similar_image(image=four.id, k=1).hits[0]
    assert (own.copies, own.metadata["sha256"]) == (3, four.metadata["sha256"])
    assert own.id != four.id
    assert own.value == pytest.approx(1)


def test_a_look_through_the_library_shows_every_file(tools: ImageTools) -> None:
    looked = tools.search_similar_image(sort="name", k=50)
    assert (len(looked.hits), looked.matching) == (16, 16)
    assert {hit.copies for hit in looked.hits} == {1}


def test_the_count_is_told_in_text_json_csv_and_html(tools: ImageTools) -> None:
    report = tools.search_similar_image(text="x", k=12)
    assert str(report).count("(4 copies)") == str(report).count("(2 copies)") == 1
    assert str(report).count(" copies)") == 2
    hits = essence(report)["hits"]
    assert isinstance(hits, list)
    assert sorted(hit["copies"] for hit in hits if "copies" in hit) == [2, 4]
    lines = list(csv.DictReader(io.StringIO(to_csv(report).lstrip("\ufeff"))))
    assert sorted(line["copies"] for line in lines) == ["1"] * 10 + ["2", "4"]
    assert "4 copies" in to_html(report, tools.runtime)


def test_a_library_of_one_content_has_one_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "make_encoder", lambda spec, **_: FakeEncoder())
    photo = next(copy_photos(tmp_path / "once").rglob("*.*"))
    (tmp_path / "same").mkdir()
    for number in range(5):
        shutil.copyfile(photo, tmp_path / "same" / f"{number}{photo.suffix}")
    with Runtime.open(Settings(data_dir=tmp_path / "data", roots=(tmp_path,))) as runtime:
        runtime.index(tmp_path / "same")
        report = ImageTools(runtime).search_similar_image(text="x", k=5)
        with runtime.view() as view:
            twins, groups = view.twins
    assert [hit.copies for hit in report.hits] == [5]
    assert (len(twins), np.unique(groups).tolist()) == (5, [0])


def test_the_page_tells_the_count_and_ends_where_the_contents_do(tools: ImageTools) -> None:
    with gr.Blocks():
        tab = SearchTab(tools, "default")
    answer = tab.find("vi", {"state": {"library": "default", "text": "x"}})
    assert sorted(hit["copies"] for hit in answer["hits"] if "copies" in hit) == [
        "2 bản giống nhau",
        "4 bản giống nhau",
    ]
    assert (len(answer["hits"]), answer["more"]) == (12, False)
    assert not [note for note in answer["notes"] if "could be searched" in note]
    assert answer["status"].startswith("16 ")
    assert [hit for hit in tab.find("en", {"state": {"library": "default"}})["hits"] if "copies" in hit] == []
