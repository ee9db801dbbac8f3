"""Why a match: the regions named are those that matter, exactly for pixels, by the encoder's own answer otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import entries_of, photo
from PIL import Image

from imgret_tools import ImageTools, Query
from imgret_tools.engine.explain import GRID, Explanation, covered, explain, overlay, overlays
from imgret_tools.errors import BadInput, NotFound
from imgret_tools.metrics import METRICS

CHEETAH = photo("gradio/media_assets/images/cheetah.jpg")


def entry_id(tools: ImageTools, label: str) -> str:
    return next(entry.id for entry in entries_of(tools.runtime) if entry.label == label)


def cells_of(explanation: Explanation, side: str) -> np.ndarray:
    return next(np.array(regions.cells) for regions in explanation.regions if regions.side == side)


@pytest.mark.parametrize("measure", METRICS)
def test_parts_of_pixels_sum_to_what_they_are_parts_of(indexed: ImageTools, measure: str) -> None:
    query = Query(image=photo("sklearn/datasets/images/china.jpg"))
    found = explain(indexed.runtime, query, entry_id(indexed, "tower"), space="pixels", measure=measure)
    with indexed.runtime.view() as view:
        rows = [indexed.runtime.pixel_row(view, image) for image in (query.image, view.entry(found.id))]
    assert found.value == pytest.approx(METRICS[measure].value(*rows))
    total = found.value if METRICS[measure].higher_is_better else 0.0
    for side in ("query", "hit"):
        assert cells_of(found, side).shape == (GRID, GRID)
        assert cells_of(found, side).sum() == pytest.approx(total, abs=1e-4)


def test_pixels_that_differ_in_one_corner_speak_against_it_there(indexed: ImageTools, tmp_path: Path) -> None:
    entry = indexed.runtime.entry(entry_id(indexed, "coffee"))
    with Image.open(entry.path) as picture:
        changed = picture.convert("RGB")
    changed.paste((0, 255, 0), (0, 0, changed.width // GRID, changed.height // GRID))
    for measure in ("l1", "l2"):
        cells = cells_of(
            explain(indexed.runtime, Query(image=changed), entry.id, space="pixels", measure=measure), "hit"
        )
        assert np.unravel_index(cells.argmin(), cells.shape) == (0, 0)
        assert cells[0, 0] < 0 < cells[3, 3]


def test_occlusion_points_at_the_cell_that_holds_the_match(indexed: ImageTools) -> None:
    """A cheetah pasted into one corner of a grey wall: what speaks for the match lies in that corner."""
    with Image.open(CHEETAH) as picture:
        small = picture.convert("RGB").resize((120, 120))
    wall = Image.new("RGB", (336, 336), (128, 128, 128))
    wall.paste(small, (40, 40))
    found = explain(indexed.runtime, Query(image=wall), entry_id(indexed, "cheetah"))
    cells = cells_of(found, "query")
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    assert max(row, column) <= 3
    assert cells[:4, :4].sum() > cells[4:, 4:].sum()
    assert "occlusion" in found.method


def test_occlusion_is_what_covering_and_encoding_gives(indexed: ImageTools) -> None:
    runtime = indexed.runtime
    with runtime.view() as view:
        with Image.open(CHEETAH) as picture:
            query = picture.convert("RGB").resize((240, 240))
        id_ = entry_id(indexed, "lion")
        found = explain(runtime, Query(image=query), id_, measure="l2")
        hit = view.row(id_)
        full = -np.linalg.norm(runtime.encode_image(view, query) - hit)
        for number in (0, 24, 48):
            part = runtime.encode_image(view, covered(query, GRID)[number])
            expected = full + np.linalg.norm(part - hit)
            assert cells_of(found, "query").flat[number] == pytest.approx(expected, abs=1e-4)


def test_a_picture_is_covered_once_everywhere() -> None:
    picture = Image.effect_noise((50, 31), 60).convert("RGB")
    pixels = np.asarray(picture).astype(int)
    mean = pixels.reshape(-1, 3).mean(axis=0).round()
    changed = sum((np.asarray(copy) != pixels).any(axis=2).astype(int) for copy in covered(picture, 7))
    assert (changed[(pixels != mean).any(axis=2)] == 1).all()


def test_a_texts_hit_names_the_classes_that_carried_it(indexed: ImageTools) -> None:
    found = explain(indexed.runtime, Query(text="a cheetah"), entry_id(indexed, "cheetah"))
    assert [regions.side for regions in found.regions] == ["hit"]
    assert found.classes["text"][0].name == "cheetah"
    assert found.classes["text"][0].share > 0.5
    assert "cheetah" in str(found)


def test_an_images_hit_names_what_both_are_taken_for(indexed: ImageTools) -> None:
    found = explain(indexed.runtime, Query(image=CHEETAH), entry_id(indexed, "cheetah"))
    assert set(found.classes) == {"query", "hit"}
    assert found.classes["hit"][0].name == "cheetah"
    hits = {hit.id: hit.value for hit in indexed.runtime.search(Query(image=CHEETAH), k=12).hits}
    assert found.value == pytest.approx(hits[found.id], abs=1e-5)


def test_picture_and_text_together_are_explained_on_the_hit(indexed: ImageTools) -> None:
    found = explain(indexed.runtime, Query(text="at night", image=CHEETAH), entry_id(indexed, "lion"))
    assert [regions.side for regions in found.regions] == ["hit"]


def test_overlays_are_drawn_on_both_pictures(indexed: ImageTools) -> None:
    query = Query(image=CHEETAH)
    found = explain(indexed.runtime, query, entry_id(indexed, "lion"))
    drawn = overlays(indexed.runtime, query, found)
    assert set(drawn) == {"query", "hit"}
    with Image.open(CHEETAH) as picture:
        assert drawn["query"].width / drawn["query"].height == pytest.approx(picture.width / picture.height, rel=0.02)
    json.dumps(found.to_dict())


def test_an_overlay_is_warm_for_and_cold_against() -> None:
    cells = np.zeros((7, 7))
    cells[0, 0], cells[6, 6] = 1.0, -1.0
    drawn = np.asarray(overlay(Image.new("RGB", (70, 70), (90, 90, 90)), cells)).astype(int)
    assert drawn[2, 2, 0] > drawn[2, 2, 2] + 50
    assert drawn[67, 67, 2] > drawn[67, 67, 0] + 50
    assert drawn[35, 35].tolist() == [90, 90, 90]


def test_what_cannot_be_explained_is_refused(indexed: ImageTools) -> None:
    id_ = entry_id(indexed, "lion")
    with pytest.raises(BadInput, match="Pixels"):
        explain(indexed.runtime, Query(text="a lion"), id_, space="pixels")
    with pytest.raises(BadInput, match="nothing to explain"):
        explain(indexed.runtime, Query(), id_)
    with pytest.raises(NotFound):
        explain(indexed.runtime, Query(text="a lion"), "0" * 12)
