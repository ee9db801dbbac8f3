"""The typed tools: paths stay inside the roots, strings become types, filters hold, a shared app tells no paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgret_tools import ImageTools, Runtime
from imgret_tools.errors import BadInput, NotFound, PathRefused, ReadOnly
from imgret_tools.library.filters import parse_where


def test_search_by_text_finds_the_subject(indexed: ImageTools) -> None:
    for text, label in (
        ("a cheetah", "cheetah"),
        ("a cup of coffee", "coffee"),
        ("báo săn", "cheetah"),
        ("a motorbike", "motorcycle"),
    ):
        assert indexed.search_similar_image(text=text, k=1).hits[0].label == label, text


def test_text_and_picture_together_and_a_negative(indexed: ImageTools) -> None:
    lion = next(hit for hit in indexed.search_similar_image(text="a lion", k=3).hits if hit.label == "lion")
    assert indexed.search_similar_image(image=lion.id, text="motorcycle", k=2).hits[0].label == "motorcycle"
    plain = [hit.label for hit in indexed.search_similar_image(text="animal", k=12).hits]
    without = [hit.label for hit in indexed.search_similar_image(text="animal", not_text="cheetah", k=12).hits]
    assert without.index("cheetah") > plain.index("cheetah")


@pytest.mark.parametrize("measure", ["cosine", "l2", "l1", "pearson"])
@pytest.mark.parametrize("space", ["embedding", "pixels"])
def test_a_library_picture_finds_itself_first_by_path_and_is_left_out_by_id(
    indexed: ImageTools, measure: str, space: str
) -> None:
    entry = next(indexed.runtime.library().snapshot.entries())
    by_path = indexed.search_similar_image(image=entry.path, measure=measure, space=space)  # type: ignore[arg-type]
    assert by_path.hits[0].id == entry.id
    assert [hit.score for hit in by_path.hits] == sorted((hit.score for hit in by_path.hits), reverse=True)
    by_id = indexed.search_similar_image(image=entry.id, measure=measure, space=space, k=50)  # type: ignore[arg-type]
    assert entry.id not in [hit.id for hit in by_id.hits]
    assert len(by_id.hits) == 11


def test_pages_follow_each_other(indexed: ImageTools) -> None:
    whole = indexed.search_similar_image(text="animal", k=10).hits
    pages = [
        hit for offset in (0, 4, 8) for hit in indexed.search_similar_image(text="animal", k=4, offset=offset).hits
    ]
    assert pages[:10] == whole


def test_filters(indexed: ImageTools) -> None:
    def labels(*where: str) -> set[str]:
        return {hit.label for hit in indexed.search_similar_image(text="animal", k=50, where=list(where)).hits}

    assert labels("label=Cheetah|lion") == {"cheetah", "lion"}
    assert "cheetah" not in labels("label!=cheetah")
    assert labels("path~rocket") == {"rocket"}
    wide = indexed.search_similar_image(text="animal", k=50, where=["width>=512", "height<1000"]).hits
    assert wide
    assert all(hit.metadata["width"] >= 512 for hit in wide)  # type: ignore[operator]
    assert indexed.search_similar_image(text="animal", where=["label=nothing"]).hits == []


@pytest.mark.parametrize("bad", ["label", "colour=red", "width>=wide", "; drop table"])
def test_bad_filters_say_how(indexed: ImageTools, bad: str) -> None:
    with pytest.raises(BadInput, match=r"[Ff]ilter"):
        indexed.search_similar_image(text="cat", where=[bad])


def test_taken_compares_as_iso_text() -> None:
    (condition,) = parse_where("taken<=2024")
    assert condition.mask(["2024-12-31T10:00:00", "2025-01-01", None]).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "~root",
        "file:///etc/passwd",
        "a\0b",
        "x" * 5000,
    ],
)
def test_paths_outside_the_roots_are_refused(indexed: ImageTools, path: str) -> None:
    with pytest.raises(PathRefused):
        indexed.search_similar_image(image=path)
    with pytest.raises(PathRefused):
        indexed.index_folder(path)


def test_a_link_that_leads_out_is_refused(indexed: ImageTools) -> None:
    link = indexed.runtime.settings.roots[0] / "out"
    if not link.exists():
        link.symlink_to("/etc")
    with pytest.raises(PathRefused):
        indexed.index_folder(str(link))


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.jpg", "https://example.org/a.jpg"])
def test_urls_are_refused_unless_allowed(indexed: ImageTools, url: str) -> None:
    with pytest.raises(PathRefused, match="--allow-urls"):
        indexed.search_similar_image(image=url)


def test_unknown_id_library_and_empty_query(indexed: ImageTools) -> None:
    with pytest.raises(NotFound, match="no image"):
        indexed.search_similar_image(image="0123456789ab")
    with pytest.raises(NotFound, match="'default'"):
        indexed.search_similar_image(text="cat", library="zoo")
    with pytest.raises(BadInput, match="Nothing to search for"):
        indexed.search_similar_image()
    with pytest.raises(BadInput, match="100000 characters"):
        indexed.search_similar_image(text="x" * 100_000)
    with pytest.raises(BadInput, match="whole number from 1 to 200"):
        indexed.search_similar_image(text="x", k=10**9)


def test_default_names_the_apps_library_only_while_there_is_no_other(indexed: ImageTools, tmp_path: Path) -> None:
    settings = replace(indexed.runtime.settings, data_dir=tmp_path, library="trip")
    with Runtime.open(settings) as runtime:
        with pytest.raises(NotFound, match="'default'; there is none yet"):
            runtime.library()
        photos = settings.roots[0] / "photos"
        runtime.index(photos, library="trip")
        assert ImageTools(runtime).search_similar_image(text="a lion").library == "trip"
        runtime.index(photos)
        assert ImageTools(runtime).search_similar_image(text="a lion").library == "default"


def test_a_shared_app_neither_writes_nor_tells_paths(indexed: ImageTools) -> None:
    settings = indexed.runtime.settings
    indexed.runtime.settings = replace(settings, read_only=True)
    try:
        with pytest.raises(ReadOnly):
            indexed.index_folder(str(settings.roots[0] / "photos"))
        report = indexed.search_similar_image(text="a lion")
        assert all(Path(hit.path).name == hit.path for hit in report.hits)
        assert str(settings.roots[0]) not in str(report.to_dict()["hits"])
        with pytest.raises(PathRefused, match="tells no folders"):
            indexed.search_similar_image(text="a lion", where=[f"path~{settings.roots[0]}"])
    finally:
        indexed.runtime.settings = settings
