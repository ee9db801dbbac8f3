"""The grammar of a query's parts, and what they find together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools import ImageTools, Query
from imgret_tools.engine.query import QueryPart, common, parse_part, weighted
from imgret_tools.errors import BadInput


@pytest.fixture(scope="module")
def coffee(indexed: ImageTools) -> str:
    return str(indexed.runtime.settings.roots[0] / "photos" / "coffee" / "coffee.png")


@pytest.mark.parametrize(
    ("line", "kind", "what", "weight"),
    [
        ("image=a.jpg", "image", "a.jpg", 1.0),
        ("image=b.jpg:0.5", "image", "b.jpg", 0.5),
        ("image=0123456789ab:.25", "image", "0123456789ab", 0.25),
        ("not-image = c.jpg", "not_image", " c.jpg", 0.5),
        ("not_text=snow:1", "not_text", "snow", 1.0),
        ("text=red: 2", "text", "red: 2", 1.0),
        ("text=red :2e0", "text", "red", 2.0),
        ("text=at 10:30", "text", "at 10:30", 1.0),
        ("text=a = b:0", "text", "a = b", 0.0),
        ("image=https://host:8080", "image", "https://host:8080", 1.0),
        ("image=https://host:80/a.jpg:3", "image", "https://host:80/a.jpg", 3.0),
        (r"image=C:\a.jpg", "image", r"C:\a.jpg", 1.0),
    ],
)
def test_a_part_is_read(line: str, kind: str, what: str, weight: float) -> None:
    part = parse_part(line)
    assert (part.kind, part.what, part.weight) == (kind, what, weight)


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "-inf", "101", "1e9"])
@pytest.mark.parametrize("kind", ["image", "text", "not_image"])
def test_a_weight_that_cannot_be_used_is_named(kind: str, weight: str) -> None:
    with pytest.raises(BadInput, match=rf"{weight}.*expected 0 to 100"):
        parse_part(f"{kind}=thing:{weight}")


def test_what_is_no_part_is_refused_with_what_is() -> None:
    for line in ("", "red", "colour=red", "=red"):
        with pytest.raises(BadInput, match="image, text, not_image, not_text"):
            parse_part(line)
    with pytest.raises(BadInput, match="empty"):
        parse_part("text= ")


def test_lines_of_the_shell_become_the_tools_arguments_and_the_same_parts_again() -> None:
    parts = [
        weighted("image", "a.jpg:0.5"),
        weighted("image", "b.jpg"),
        weighted("text", "red"),
        weighted("text", "at 10:30"),
        weighted("not_text", "text:1"),
        weighted("not_image", "c.jpg"),
    ]
    image, text, not_text, also = common(parts)
    assert (image, text, not_text) == ("b.jpg", "red", None)
    assert [parse_part(line) for line in also] == [parts[0], *parts[3:]]


def test_a_file_whose_name_ends_like_a_weight_is_meant_whole() -> None:
    for kind, usual in (("image", 1.0), ("not_image", 0.5)):
        part = parse_part(f"{kind}=odd:0.7", is_file=lambda name: name == "odd:0.7")
        assert part == QueryPart(kind, "odd:0.7", usual)
        assert parse_part(f"{kind}=odd:0.7") == QueryPart(kind, "odd", 0.7)
    assert parse_part("text=http://host:80", is_file=lambda name: True) == QueryPart("text", "http://host:80")


def test_a_picture_is_alone_where_nothing_else_is_asked_for() -> None:
    picture = Image.new("RGB", (2, 2))
    assert Query(image=picture).lone_image is picture
    for other in (
        Query(text="a", image=picture),
        Query(image=picture, not_text="a"),
        Query(image=picture, also=(QueryPart("not_image", picture),)),
        Query(text="a"),
    ):
        assert other.lone_image is None


def test_parts_move_the_order_by_their_weight(indexed: ImageTools, coffee: str) -> None:
    def best(*also: str, **more: str) -> str:
        return indexed.search_similar_image(also=list(also), k=1, **more).hits[0].label  # type: ignore[arg-type]

    assert best("text=a cheetah") == "cheetah"
    assert best("text=a cheetah:0.1", "text=a motorcycle") == "motorcycle"
    assert best("text=a cheetah", "text=a motorcycle:0") == "cheetah"
    assert best(f"image={coffee}") == "coffee"
    assert best(f"image={coffee}:0.2", text="a motorcycle") == "motorcycle"
    cheetah = indexed.search_similar_image(text="a cheetah", k=1).hits[0].id
    against = indexed.search_similar_image(text="a big cat", also=[f"not_image={cheetah}:1"], k=12).hits
    plain = indexed.search_similar_image(text="a big cat", k=12).hits
    rank = {name: [hit.id for hit in hits].index(cheetah) for name, hits in (("against", against), ("plain", plain))}
    assert rank["against"] > rank["plain"]


def test_a_report_names_every_part(indexed: ImageTools, coffee: str) -> None:
    report = indexed.search_similar_image(text="red", also=[f"image={coffee}:0.5", "not_text=a lion"])
    assert report.query["also"] == f"image={coffee}:0.5\nnot_text=a lion"
    assert "not_text=a lion" in str(report)
    assert indexed.search_similar_image(text="red").query.keys() == {"text", "image", "not_text"}


def test_fifty_pictures_are_one_query(indexed: ImageTools, coffee: str) -> None:
    one, fifty = (
        indexed.search_similar_image(also=[f"image={coffee}"] * count, k=3, measure="l2") for count in (1, 50)
    )
    assert [hit.id for hit in one.hits] == [hit.id for hit in fifty.hits]
    assert np.allclose([hit.value for hit in one.hits], [hit.value for hit in fifty.hits], atol=1e-4)
    with pytest.raises(BadInput, match="at most 64"):
        indexed.search_similar_image(also=["text=red"] * 65)


def test_nothing_asked_for_and_parts_that_cancel_are_refused(indexed: ImageTools, coffee: str) -> None:
    with pytest.raises(BadInput, match="Nothing is asked for"):
        indexed.search_similar_image(also=["not_text=red", "text=red:0"])
    with pytest.raises(BadInput, match="cancel each other"):
        indexed.search_similar_image(text="red", also=["not_text=red:1"])
    with pytest.raises(BadInput, match="one picture alone"):
        indexed.search_similar_image(image=coffee, also=["text=red"], space="pixels")
    with pytest.raises(BadInput, match="-100 to 100"):
        indexed.search(Query(also=(QueryPart("text", "red", float("nan")),)))


def test_a_file_that_is_called_like_a_weight_is_that_file(indexed: ImageTools, coffee: str) -> None:
    folder = indexed.runtime.settings.roots[0]
    named = folder / "photos" / "twice.png:2"
    try:
        named.write_bytes(Path(coffee).read_bytes())
        report = indexed.search_similar_image(also=[f"image={named}"], k=1)
        assert report.hits[0].value == pytest.approx(1, abs=1e-4)
    finally:
        named.unlink(missing_ok=True)
