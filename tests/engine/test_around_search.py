"""What stands around a search: the meaning of a score, labels given by hand, the map, counts and filters in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_photos, entries_of, labels_of
from sklearn.decomposition import PCA

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import projection
from imgret_tools.engine.labels import suggest_labels
from imgret_tools.engine.projection import neighbour_map, neighbours_kept, principal_plane
from imgret_tools.errors import BadInput, NotFound, ReadOnly
from imgret_tools.library.filters import parse_where, split_where


def test_the_plane_is_the_one_scikit_learn_finds() -> None:
    rows = np.random.default_rng(1).normal(size=(5000, 24)).astype(np.float32) * np.linspace(
        3, 0.1, 24, dtype=np.float32
    )
    places, shares = principal_plane(rows)
    oracle = PCA(2, svd_solver="full").fit(rows)
    np.testing.assert_allclose(np.abs(places), np.abs(oracle.transform(rows)), atol=1e-3)
    np.testing.assert_allclose(shares, oracle.explained_variance_ratio_, rtol=1e-5)


def test_a_plane_of_too_few_or_equal_rows_is_a_point() -> None:
    for rows in (np.ones((0, 4), np.float32), np.ones((1, 4), np.float32), np.ones((3, 4), np.float32)):
        places, shares = principal_plane(rows)
        assert places.shape == (len(rows), 2)
        assert not places.any()
        assert shares == (0.0, 0.0)


def test_a_look_through_a_library_keeps_groups_together(indexed: ImageTools) -> None:
    found = indexed.browse(group="label", sort="largest", k=12)
    labels = [hit.label for hit in found.hits]
    assert labels == sorted(labels)
    assert indexed.browse(group="label", sort="largest", k=4, offset=5).hits == found.hits[5:9]
    areas = [hit.metadata["width"] * hit.metadata["height"] for hit in found.hits if hit.label == "cheetah"]  # type: ignore[operator]
    assert areas == sorted(areas, reverse=True)
    with indexed.runtime.view() as view:
        assert view.groups("label", parse_where(["label=cheetah|lion"])) == {"cheetah": 3, "lion": 1}
        assert view.groups("month", ()).keys() >= {""}
        assert sum(view.groups("month", ()).values()) == 12
    with pytest.raises(BadInput, match="month"):
        indexed.browse(group="camera")  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_map_keeps_far_more_neighbours_than_the_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(random.normal(size=(40, 64)), 12, axis=0) + 0.3 * random.normal(size=(480, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    places = neighbour_map(rows)
    assert places is not None
    np.testing.assert_array_equal(places, neighbour_map(rows))  # the same on every call
    mapped, plane = neighbours_kept(rows, places), neighbours_kept(rows, principal_plane(rows)[0])
    assert mapped > plane + 0.3
    assert neighbours_kept(rows, rows[:, :]) == 1.0
    monkeypatch.setattr(projection, "_LANDMARKS", 240)
    fewer = neighbour_map(rows)
    assert fewer is not None
    assert np.isfinite(fewer).all()
    group = np.repeat(np.arange(40), 12)  # also rows that are no landmarks lie in their own group
    far = ((fewer[:, None] - fewer[None]) ** 2).sum(axis=2)
    np.fill_diagonal(far, np.inf)
    assert (group[far.argmin(axis=1)] == group).mean() > 0.95


def test_too_few_or_equal_rows_have_no_map() -> None:
    for rows in (np.ones((0, 4), np.float32), np.eye(7, dtype=np.float32), np.ones((30, 4), np.float32)):
        assert neighbour_map(rows) is None
    assert neighbours_kept(np.ones((1, 4), np.float32), np.zeros((1, 2), np.float32)) == 1.0


def test_a_label_by_hand_is_found_kept_and_taken_back(tmp_path: Path) -> None:
    photos = copy_photos(tmp_path / "photos")
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="mini", roots=(tmp_path,))) as runtime:
        runtime.index(photos)
        tools = ImageTools(runtime)
        hit = tools.search_similar_image(text="a cup of coffee", k=1).hits[0]
        assert tools.label(hit.id, "  cà phê ").label == "cà phê"
        assert runtime.index(photos).unchanged == 12
        assert tools.search_similar_image(text="coffee", where=["label=cà phê"]).hits[0].id == hit.id
        assert labels_of(runtime)["cà phê"] == 1
        assert runtime.check() == []
        revision = runtime.library().card.revision
        tools.label(hit.id, "cà phê")
        assert runtime.library().card.revision == revision
        assert tools.label(hit.id, "").label == "coffee"
        assert "cà phê" not in labels_of(runtime)
        with pytest.raises(NotFound, match="0123456789ab"):
            tools.label("0123456789ab", "x")
        with pytest.raises(BadInput, match="80 printable"):
            tools.label(hit.id, "x\ny")
        two = [hit.id, tools.search_similar_image(text="a lion", k=1).hits[0].id]
        with pytest.raises(NotFound, match="0123456789ab"):
            tools.label_all([*two, "0123456789ab"], "both")
        assert "both" not in labels_of(runtime), "all are labelled or none"
        tools.label_all(two, "both")
        assert labels_of(runtime)["both"] == 2
        assert [entry.label for entry in tools.label_all(two, "")] == ["coffee", "lion"]
        assert [path.name for path in tools.originals(two)] == ["coffee.png", "lion.jpg"]
        runtime.settings = replace(runtime.settings, read_only=True)
        with pytest.raises(ReadOnly):
            tools.label(hit.id, "x")
        with pytest.raises(ReadOnly):
            tools.originals([hit.id])
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="mini", roots=(tmp_path,))) as again:
        assert "coffee" in labels_of(again)


def test_suggestions_come_from_the_neighbours_and_the_encoder(indexed: ImageTools) -> None:
    cheetah = next(entry for entry in entries_of(indexed.runtime) if entry.label == "cheetah")
    found = suggest_labels(indexed.runtime, cheetah.id)
    assert found[0].label == "cheetah"
    assert sum(one.share for one in found if one.source == "neighbours") <= 1.001
    rocket = next(entry for entry in entries_of(indexed.runtime) if entry.label == "rocket")
    assert "missile" in [one.label for one in suggest_labels(indexed.runtime, rocket.id) if one.source == "classes"]


def test_conditions_in_one_line_keep_commas_of_values() -> None:
    assert split_where("label=salt, pepper, width>=100,taken<=2024") == [
        "label=salt, pepper",
        "width>=100",
        "taken<=2024",
    ]
    assert split_where(" label=dog, ") == ["label=dog"]
    assert split_where("") == []


def test_counts_leave_out_what_is_missing(indexed: ImageTools) -> None:
    with indexed.runtime.view() as view:
        assert view.counts("label")["cheetah"] == 3
        assert view.counts("camera") == {}
        assert sum(view.counts("width").values()) == 12
