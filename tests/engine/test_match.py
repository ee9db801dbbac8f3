"""How well a hit fits: strong, fair or weak, on every library, measure and kind of query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from fake_encoder import FakeEncoder
from PIL import Image

from imgret_tools import ImageTools, Query, Runtime, Settings
from imgret_tools.engine import runtime as engine
from imgret_tools.engine.match import FAIR, STRONG, Anchors, Matcher, match_of
from imgret_tools.engine.query import QueryPart
from imgret_tools.metrics import METRICS
from imgret_tools.records import SearchReport

COFFEE = photo("skimage/data/coffee.png")
CHINA = photo("sklearn/datasets/images/china.jpg")


def matches(report: SearchReport) -> list[str | None]:
    return [hit.match for hit in report.hits]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageTools:
    monkeypatch.setattr(engine, "make_encoder", lambda spec, **_: FakeEncoder())
    opened = Runtime.open(Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", roots=(tmp_path,)))
    return ImageTools(opened)


def test_what_is_there_fits_and_what_is_not_does_not(indexed: ImageTools) -> None:
    there, absent = indexed.search(Query("a motorcycle"), k=12), indexed.search(Query("a jellyfish"), k=12)
    assert there.hits[0].match == "strong"
    assert there.hits[-1].match == "weak"
    assert there.verdict == ""
    assert set(matches(absent)) == {"weak"}
    assert absent.verdict in str(absent)
    assert "Nothing here fits" in absent.verdict
    assert set(matches(indexed.search(Query(image=CHINA), k=12, where=["label=cat"]))) == {"weak"}


@pytest.mark.parametrize("text", ["asdfgh", "qwrtp zxcv", "🦄", "😀😀", "1234567", "!!!"])
def test_what_means_nothing_fits_nothing(indexed: ImageTools, text: str) -> None:
    assert set(matches(indexed.search(Query(text), k=12))) == {"weak"}


@pytest.mark.parametrize("measure", METRICS)
def test_a_hit_has_the_same_match_by_every_measure_and_order(indexed: ImageTools, measure: str) -> None:
    for query in (Query(image=COFFEE), Query("a lion"), Query("a lion", COFFEE)):
        by_cosine = {hit.id: hit.closeness for hit in indexed.search(query, k=12).hits}
        found = indexed.search(query, k=12, measure=measure, search="hnsw")  # type: ignore[arg-type]
        assert {hit.id: hit.closeness for hit in found.hits} == pytest.approx(by_cosine, abs=2e-3)


def test_closeness_rises_with_the_cosine_and_names_its_match(indexed: ImageTools) -> None:
    for query in (Query(image=CHINA), Query("an animal"), Query("at night", CHINA), Query("a cat", not_text="a lion")):
        hits = indexed.search(query, k=12).hits
        closeness = [hit.closeness or 0.0 for hit in hits]
        assert closeness == sorted(closeness, reverse=True)
        assert all(0 <= one <= 1 and hit.match == match_of(one) for one, hit in zip(closeness, hits, strict=True))
    own = indexed.search(Query(image=COFFEE), k=1).hits[0]
    assert own.closeness == pytest.approx(1, abs=0.02)
    pixels = indexed.search(Query(image=COFFEE), k=12, space="pixels", measure="l1").hits
    assert pixels[0].match == "strong"
    assert pixels[-1].match == "weak"


def test_the_cut_leaves_what_is_good_enough_and_says_how_much_it_left_out(indexed: ImageTools) -> None:
    report = indexed.search_similar_image(text="a motorcycle", k=12, match="fair")
    assert 0 < len(report.hits) < 12
    assert set(matches(report)) <= {"strong", "fair"}
    assert f"{12 - len(report.hits)} weaker than fair are left out." in str(report)
    nothing = indexed.search_similar_image(text="a jellyfish", match="strong")
    assert nothing.hits == []
    assert nothing.verdict.startswith("Nothing here fits")
    assert nothing.matching == 12


def test_libraries_of_one_of_equal_and_of_flat_pictures(fake: ImageTools, tmp_path: Path) -> None:
    with Image.open(COFFEE) as picture:
        coffee = picture.convert("RGB").resize((64, 64))
    for name, pictures in {
        "one": [coffee],
        "equal": [coffee] * 5,
        "flat": [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "white", "black", "grey")],
    }.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            picture.save(tmp_path / name / f"{number}.png")
        fake.index_folder(str(tmp_path / name), library=name)
        for space in ("embedding", "pixels"):
            alike = fake.search(Query(image=coffee), library=name, space=space)  # type: ignore[arg-type]
            assert all(0 <= (hit.closeness or 0) <= 1 for hit in alike.hits)
            assert (alike.hits[0].match == "strong") is (name != "flat"), (name, space)
        noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
        assert set(matches(fake.search(Query(image=noise), library=name))) == {"weak"}
        assert fake.search(Query("a cat"), library=name).hits


def test_what_is_known_of_an_encoder_is_kept_and_made_anew_when_damaged(fake: ImageTools, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.open(COFFEE).save(tmp_path / "photos" / "a.png")
    fake.index_folder(str(tmp_path / "photos"))
    first = fake.search(Query("a cat")).hits[0].closeness
    (kept,) = (tmp_path / "cache").glob("names-*.npy")
    with fake.runtime.view() as view:
        for content in (kept.read_bytes(), kept.read_bytes()[:-9], b"", b"nonsense"):
            kept.write_bytes(content)
            matcher = Matcher(FakeEncoder(), tmp_path / "cache")  # type: ignore[arg-type]
            parts = fake.runtime.parts(view, Query("a cat"))
            found = matcher.closeness(view, parts, np.asarray(view.matrix[:1]))
            assert float(found[0]) == pytest.approx(first, abs=1e-4)
            assert np.load(kept).shape == (1000, FakeEncoder.dim)


def test_anchors_are_read_off_between(indexed: ImageTools) -> None:
    anchors = Anchors(0.1, 0.3, 0.5, 0.9)
    scores = np.array([-1, 0.1, 0.2, 0.3, 0.5, 0.9, 2.0, np.nan])
    assert anchors.closeness(scores).tolist() == pytest.approx([0, 0, 0.25, FAIR, STRONG, 1, 1, 0])


def test_parts_that_speak_against_ask_for_nothing_better_than_chance(indexed: ImageTools) -> None:
    plain = indexed.search(Query("a cat"), k=1).hits[0]
    without = indexed.search(Query("a cat", also=(QueryPart("not_text", "a motorcycle", 0.5),)), k=1).hits[0]
    assert (plain.id, plain.match) == (without.id, without.match)
    only_pictures = Query(also=(QueryPart("image", COFFEE), QueryPart("image", CHINA, 0.5)))
    assert indexed.search(only_pictures, k=1).hits[0].label == "coffee"
