"""The figure and the page of a comparison hold what they must; nothing that comes from files runs or breaks them."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_photos, photo
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.comparing import figure
from imgret_tools.comparing.html import WORDS, fragment, page
from imgret_tools.comparing.report import Comparison, QuerySetComparison, telling
from imgret_tools.comparing.run import compare_folder, compare_picture
from imgret_tools.errors import BadInput

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)>\"'&"


class Tags(html.parser.HTMLParser):
    """Every tag with its attributes, and the text, of a document; whether each was closed."""

    VOID = frozenset({"img", "meta", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    folder = tmp_path_factory.mktemp("plots")
    copy_photos(folder / "photos")
    with Runtime.open(
        Settings(data_dir=folder / "data", encoder="mini", roots=(folder, photo("sklearn/x").parent))
    ) as opened:
        opened.index(folder / "photos")
        yield ImageTools(opened)


@pytest.fixture(scope="module")
def one(tools: ImageTools) -> Comparison:
    return compare_picture(tools.runtime, photo("gradio/media_assets/images/cheetah.jpg"), k=3)


@pytest.fixture(scope="module")
def many(tools: ImageTools) -> QuerySetComparison:
    return compare_folder(tools.runtime, tools.runtime.settings.roots[0] / "photos", k=3)


@pytest.mark.parametrize("name", ["one", "many"])
def test_the_figure_is_a_png_with_the_hits_in_it(
    name: str, tools: ImageTools, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    comparison = request.getfixturevalue(name)
    figure.write_png(comparison, tmp_path / "figure.png", tools.runtime)
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((26, 152, 80), (215, 48, 39), (69, 117, 180)):  # right, wrong, bars
        assert (np.abs(pixels.astype(int) - colour).sum(axis=1) < 6).sum() > 200


def test_the_figure_shows_every_row_hit_and_interval(tools: ImageTools, many: QuerySetComparison) -> None:
    drawn = figure.figure_of(many, tools.runtime)
    assert many.example is not None
    rows = telling(many.example.rows)
    grid, middle, _ = drawn.subfigs
    assert len(grid.axes) == len(rows) * 4
    bars = middle.axes[0]
    assert [bar.get_width() for bar in bars.patches] == [row.precision_at_k for row in many.rows]
    (whiskers,) = bars.collections
    limits = [tuple(segment[:, 0]) for segment in whiskers.get_segments()]
    expected = [(row.intervals["precision_at_k"].low, row.intervals["precision_at_k"].high) for row in many.rows]
    np.testing.assert_allclose(limits, expected)
    shares = np.asarray(middle.axes[1].images[0].get_array())
    np.testing.assert_allclose(shares, np.array(many.agreement.overlap_at_k, float))


def test_labels_with_strange_letters_are_drawn_without_a_warning(
    tools: ImageTools, one: Comparison, tmp_path: Path
) -> None:
    strange = replace(one, label="quả cam 🍊 $x^2$ 橙", library="$\\frac{1}")
    figure.write_png(strange, tmp_path / "figure.png", tools.runtime)
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_page_is_whole_self_contained_and_accessible(
    tools: ImageTools, one: Comparison, many: QuerySetComparison
) -> None:
    for comparison in (one, many):
        text = page(comparison, figure.data_uris(comparison, tools.runtime))
        found = Tags(text)
        assert found.open == []
        assert not any(tag in ("script", "link", "iframe", "object") for tag, _ in found.tags)
        images = [attributes for tag, attributes in found.tags if tag == "img"]
        assert images
        assert all((attributes["src"] or "").startswith("data:image/") and attributes["alt"] for attributes in images)
        assert "http" not in re.sub(r"http-equiv|https?://host", "", text)
        for row in comparison.rows:
            assert row.name in found.text
        for sentence in (*comparison.findings, *comparison.by_construction, *comparison.notes):
            assert str(sentence) in found.text


def test_the_grid_marks_right_and_wrong_by_sign_and_class(tools: ImageTools, one: Comparison) -> None:
    found = Tags(fragment(one, {}))
    cells = [
        attributes["class"]
        for tag, attributes in found.tags
        if tag == "td" and "hit" in (attributes.get("class") or "")
    ]
    hits = [hit for row in telling(one.rows) for hit in row.hits]
    assert cells == [f"hit {'right' if hit.label == 'cheetah' else 'wrong'}" for hit in hits]
    assert found.text.count("✓") == sum(hit.label == "cheetah" for hit in hits)
    assert found.text.count("✗") == sum(hit.label != "cheetah" for hit in hits)
    assert all(f"{hit.value:.4g}" in found.text for hit in hits)
    assert "Chroma: squared l2" in found.text
    unknown = Tags(fragment(replace(one, relevant=0, label=""), {}))
    assert "✗" not in unknown.text


def test_what_files_are_called_is_never_markup(one: Comparison) -> None:
    rows = [replace(row, hits=[replace(hit, label=EVIL, path=EVIL) for hit in row.hits]) for row in one.rows]
    evil = replace(one, label=EVIL, query={"image": EVIL}, library=EVIL, rows=rows)
    found = Tags(page(evil, {}))
    assert EVIL in found.text
    assert all("onerror" not in attributes for _, attributes in found.tags)
    assert found.open == []


def test_captions_can_be_given_in_another_language(one: Comparison) -> None:
    words = {name: f"«{text}»" for name, text in WORDS.items()}
    found = Tags(page(one, {}, words=words, sentence=lambda note: f"[{note.kind}]", language="vi"))
    assert "«Quality»" in found.text
    assert "[unit_rows]" in found.text
    assert str(one.by_construction[0]) not in found.text
    assert ("html", {"lang": "vi"}) in found.tags


def test_pictures_that_are_gone_leave_an_empty_frame(runtime: Runtime, photos: Path, tmp_path: Path) -> None:
    runtime.index(photos)
    query = tmp_path / "query.png"
    with Image.open(photo("skimage/data/rocket.jpg")) as picture:
        picture.save(query)
    found = compare_picture(runtime, query, k=2)
    query.unlink()
    for file in (*photos.rglob("*.png"), *photos.rglob("*.jpg")):
        file.unlink()
    for file in (runtime.settings.data_dir / "thumbnails").rglob("*.jpg"):
        file.unlink()
    assert figure.data_uris(found, runtime) == {}
    figure.write_png(found, tmp_path / "figure.png", runtime)
    figure.write_html(found, tmp_path / "page.html", runtime)
    assert "data:image/gif" in (tmp_path / "page.html").read_text("utf-8")


def test_a_file_that_cannot_be_written_is_one_sentence(tools: ImageTools, one: Comparison, tmp_path: Path) -> None:
    for write in (figure.write_png, figure.write_html):
        with pytest.raises(BadInput, match="Cannot write"):
            write(one, tmp_path / "nowhere" / "file", tools.runtime)
