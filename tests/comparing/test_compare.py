"""Comparing: every row against a plain loop, quality against ranking.py, and every odd input the issue names."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import PHOTOS, copy_photos, entries_of, photo, rows_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.comparing.assemble import judge
from imgret_tools.comparing.judge import average_precision, average_precision_at_k, precision_at_k
from imgret_tools.comparing.ranker import Ranker, Ranking, best_first
from imgret_tools.comparing.report import DEFINITIONS, NOTES, Comparison, QuerySetComparison, note
from imgret_tools.comparing.run import compare_folder, compare_picture
from imgret_tools.errors import BadInput, ImgretError, NotFound, PathRefused
from imgret_tools.metrics import METRICS, top_k
from imgret_tools.pictures.pixels import resize_pixels

EXACT = [(space, measure, "exact") for space in ("embedding", "pixels") for measure in METRICS]
HNSW = [("embedding", measure, "hnsw") for measure in ("cosine", "l2")]
RERANKED = [("embedding", measure, "reranked") for measure in METRICS]


def kinds(comparison: Comparison | QuerySetComparison) -> set[str]:
    return {one.kind for one in (*comparison.notes, *comparison.by_construction, *comparison.findings)}


def ways(comparison: Comparison | QuerySetComparison) -> list[tuple[str, str, str]]:
    return [(row.space, row.measure, row.search) for row in comparison.rows]


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory, indexed: ImageTools) -> Path:
    """Crops of the library's photos as labelled queries, inside the roots: other files, same classes."""
    folder = indexed.runtime.settings.roots[0] / "test"
    for label, names in PHOTOS.items():
        (folder / label).mkdir(parents=True)
        with Image.open(photo(names[0])) as picture:
            width, height = picture.size
            picture.convert("RGB").crop((width // 8, 0, width, height)).save(folder / label / "query.png")
    return folder


@pytest.fixture(scope="module")
def one(indexed: ImageTools, queries: Path) -> Comparison:
    return indexed.compare_metrics(str(queries / "cheetah" / "query.png"))


@pytest.fixture(scope="module")
def many(indexed: ImageTools, queries: Path) -> QuerySetComparison:
    return indexed.compare_queries(str(queries), k=2)


def test_there_is_a_row_for_every_space_measure_and_search(one: Comparison, many: QuerySetComparison) -> None:
    assert sorted(ways(one)) == sorted(EXACT + HNSW + RERANKED)
    assert ways(many) == ways(one)


def test_exact_rows_are_what_a_plain_loop_finds(indexed: ImageTools, one: Comparison, queries: Path) -> None:
    query = indexed.runtime.open_query(queries / "cheetah" / "query.png", 224)
    pictures = entries_of(indexed.runtime)
    ids = [entry.id for entry in pictures]
    rows = {
        "embedding": rows_of(indexed.runtime),
        "pixels": np.stack([resize_pixels(indexed.runtime.open_query(entry, 224), 64) for entry in pictures]),
    }
    with indexed.runtime.view() as view:
        asked = {"embedding": indexed.runtime.encode_image(view, query), "pixels": resize_pixels(query, 64)}
    for row in one.rows:
        if row.search != "exact":
            continue
        metric = METRICS[row.measure]
        values = np.array(
            [metric.value(asked[row.space].astype(float), other.astype(float)) for other in rows[row.space]]
        )
        best = top_k(values, ids, 5, higher_is_better=metric.higher_is_better)
        assert [hit.id for hit in row.hits] == [ids[number] for number in best], row.name
        np.testing.assert_allclose([hit.value for hit in row.hits], values[best], rtol=1e-5)
        assert [hit.rank for hit in row.hits] == [1, 2, 3, 4, 5]


def test_pixel_rankings_at_448_are_those_of_the_courses_loops(runtime: Runtime, photos: Path) -> None:
    """Open, resize and measure every file anew for each measure, as the course does: the same order in the end."""
    shutil.rmtree(photos / "rocket")  # its colour profile is not sRGB: the course's loop would show wrong colours
    runtime.index(photos, pixel_size=448)
    files = {entry.id: Path(entry.path) for entry in entries_of(runtime)}

    def opened(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((448, 448)), dtype=np.float64)

    loops = {
        "l1": lambda a, b: -np.sum(np.abs(a - b)),
        "l2": lambda a, b: -np.mean((a - b) ** 2),
        "cosine": lambda a, b: np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b) + np.finfo(float).eps),
        "pearson": lambda a, b: loops["cosine"](a - a.mean(), b - b.mean()),
    }
    for query in (photo("sklearn/datasets/images/china.jpg"), photos / "people" / "astronaut.png"):
        found = compare_picture(runtime, query, k=11)
        asked = opened(query)
        for row in found.rows:
            if row.space == "pixels":
                scores = {id_: loops[row.measure](asked, opened(path)) for id_, path in files.items()}
                order = [
                    id_ for id_ in sorted(scores, key=lambda id_: (-scores[id_], id_)) if id_ not in found.left_out
                ]
                assert [hit.id for hit in row.hits] == order, (query.name, row.name)


def test_hnsw_rows_show_chromas_distance_for_what_it_is(one: Comparison) -> None:
    l2 = next(row for row in one.rows if (row.measure, row.search) == ("l2", "hnsw"))
    cosine = next(row for row in one.rows if (row.measure, row.search) == ("cosine", "hnsw"))
    assert (l2.distance, cosine.distance) == ("squared l2", "1 - cosine")
    for hit in l2.hits:
        assert hit.metadata["chroma_distance"] == pytest.approx(hit.value**2, abs=1e-5)
    for hit in cosine.hits:
        assert hit.metadata["chroma_distance"] == pytest.approx(1 - hit.value, abs=1e-5)
    assert all("chroma_distance" not in hit.metadata for row in one.rows if row.search != "hnsw" for hit in row.hits)


def test_recall_of_the_index_is_told_for_its_rows_alone(one: Comparison, many: QuerySetComparison) -> None:
    for row in (*one.rows, *many.rows):
        assert row.recall_at_k == (None if row.search == "exact" else 1.0)  # twelve images: the index finds them all
    assert "all_candidates" in kinds(one)
    reranked = {row.measure: row for row in one.rows if row.search == "reranked"}
    for row in one.rows:
        if (row.space, row.search) == ("embedding", "exact"):
            assert [hit.id for hit in row.hits] == [hit.id for hit in reranked[row.measure].hits]


def test_quality_and_agreement_are_those_of_ranking(indexed: ImageTools, one: Comparison) -> None:
    labels = {entry.id: entry.label for entry in entries_of(indexed.runtime)}
    relevant = {id_ for id_, label in labels.items() if label == "cheetah"}
    full = compare_picture(indexed.runtime, Path(str(one.query["image"])), k=12)
    for short, row in zip(one.rows, full.rows, strict=True):
        ranking = [hit.id for hit in row.hits]
        assert short.precision_at_k == precision_at_k(ranking, relevant, 5)
        assert short.average_precision == pytest.approx(average_precision(ranking, relevant))
        assert short.average_precision_at_k == pytest.approx(average_precision_at_k(ranking, relevant, 5))
    names = one.agreement.rows
    assert names == [row.name for row in one.rows]
    first, other = set_of(one, 0), set_of(one, len(names) - 1)
    assert one.agreement.overlap_at_k[0][-1] == pytest.approx(len(first & other) / 5)
    for matrix in (one.agreement.overlap_at_k, one.agreement.rank_biased_overlap):
        np.testing.assert_allclose(np.diag(np.array(matrix, float)), 1.0)
        np.testing.assert_allclose(np.array(matrix, float), np.array(matrix, float).T)


def set_of(comparison: Comparison, way: int) -> set[str]:
    return {hit.id for hit in comparison.rows[way].hits}


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000))
def test_a_judgement_on_arrays_is_the_one_on_ids(size: int, k: int, seed: int) -> None:
    chance = random.Random(seed)
    values = np.array([chance.randrange(4) for _ in range(size)], float)  # many ties
    relevant = np.array([chance.random() < 0.3 for _ in range(size)])
    ids = [f"{number:04d}" for number in range(size)]
    order = best_first(values, "cosine")
    ranked = [ids[number] for number in order]
    assert ranked == [ids[number] for number in top_k(values, ids, size, higher_is_better=True)]
    right = {ids[number] for number in np.flatnonzero(relevant)}
    judged = judge(Ranking("embedding", "cosine", "exact", order, values[order], 0.0), relevant, k)
    assert judged.average_precision == pytest.approx(average_precision(ranked, right))
    assert judged.average_precision_at_k == pytest.approx(average_precision_at_k(ranked, right, k))
    assert judged.precision_at_k == pytest.approx(precision_at_k(ranked, right, k))
    assert judged.precision_at_1 == pytest.approx(precision_at_k(ranked, right, 1))


def test_l2_and_cosine_on_unit_rows_are_said_to_rank_alike_and_do(one: Comparison) -> None:
    assert "unit_rows" in kinds(one)
    cosine, l2 = (
        next(r for r in one.rows if (r.space, r.measure, r.search) == ("embedding", m, "exact"))
        for m in ("cosine", "l2")
    )
    assert [hit.id for hit in cosine.hits] == [hit.id for hit in l2.hits]


def test_what_is_so_by_construction_is_checked_on_the_rows(indexed: ImageTools) -> None:
    rows = rows_of(indexed.runtime)
    means = np.abs(rows.mean(axis=1)) * np.sqrt(rows.shape[1])
    with indexed.runtime.view() as view:
        ranker = Ranker(view, k=3, pixel_stats=indexed.runtime.pixel_stats(view))
        assert ranker.unit_rows
        assert ranker.mean_share == pytest.approx(float(means.max()), rel=1e-5)


def test_a_set_has_the_means_of_its_queries(indexed: ImageTools, many: QuerySetComparison, queries: Path) -> None:
    singles = [indexed.compare_metrics(str(path), k=2) for path in sorted(queries.glob("*/*.png"))]
    assert (many.queries, many.judged, len(many.failed)) == (8, 8, 0)
    for way, row in enumerate(many.rows):
        found = [single.rows[way] for single in singles]
        assert row.precision_at_k == pytest.approx(np.mean([one.precision_at_k for one in found]))
        assert row.map == pytest.approx(np.mean([one.average_precision for one in found]))
        assert row.map_at_k == pytest.approx(np.mean([one.average_precision_at_k for one in found]))
        interval = row.intervals["precision_at_k"]
        assert interval.low <= interval.mean <= interval.high
        assert interval.count == 8
        assert {label: quality.queries for label, quality in row.classes.items()} == dict.fromkeys(PHOTOS, 1)
        assert row.seconds > 0
    best = max((row for row in many.rows if row.search == "exact"), key=lambda row: row.precision_at_k or 0)
    assert best.against_best is None
    assert many.example is not None


def test_a_difference_that_chance_could_make_is_no_winner(many: QuerySetComparison) -> None:
    said = {one.kind: one for one in many.findings}
    tied = str(said["tied"].facts["rows"])
    assert "embedding l2 exact" in tied or "embedding cosine exact" in tied  # the twins by construction
    for row in many.rows:
        difference = row.against_best
        if row.search == "exact" and difference is not None and difference.low <= 0 <= difference.high:
            assert row.name in tied
            assert row.name not in str(said.get("worse", ""))


def test_json_holds_what_the_contract_names(one: Comparison, many: QuerySetComparison) -> None:
    record = json.loads(json.dumps(one.to_dict()))
    assert {"k", "rows", "agreement"} <= set(record)
    row = {"space", "measure", "search", "hits", "precision_at_k", "average_precision", "seconds"}
    assert all(row <= set(each) for each in record["rows"])
    assert {"rank", "id", "path", "label", "score", "value", "metadata"} <= set(record["rows"][0]["hits"][0])
    record = json.loads(json.dumps(many.to_dict()))
    row = {"space", "measure", "search", "queries", "precision_at_1", "precision_at_k", "map", "recall_at_k"}
    assert all(row <= set(each) for each in record["rows"])
    assert record["definitions"] == DEFINITIONS


def test_the_text_is_short_and_carries_ids(one: Comparison, many: QuerySetComparison) -> None:
    assert len(str(one)) < 6000
    assert one.rows[0].hits[0].id in str(one)
    assert "L2 and cosine rank identically" in str(one)
    assert len(str(many)) < 5000
    assert all(row.name in str(many) for row in many.rows)


def test_every_note_can_be_said() -> None:
    class Facts(dict[str, object]):
        def __missing__(self, key: str) -> object:
            return "fact"

    for kind, sentence in NOTES.items():
        assert "fact" in sentence.format_map(Facts()) or "{" not in sentence, kind
    assert (
        str(note("recall", l2=1.0, cosine=0.98765, k=5))
        == "The index found 1 (l2) and 0.988 (cosine) of the exact first 5."
    )


def test_a_query_that_is_in_the_library_is_left_out_and_said_so(indexed: ImageTools) -> None:
    entry = next(entry for entry in entries_of(indexed.runtime) if entry.label == "lion")
    for image in (entry.id, entry.path):
        found = indexed.compare_metrics(image)
        assert found.left_out == [entry.id]
        assert found.images == 11
        assert {"left_out", "only_itself"} <= kinds(found)
        assert all(entry.id != hit.id for row in found.rows for hit in row.hits)
        assert all(row.precision_at_k is None and row.average_precision is None for row in found.rows)


def test_copies_of_the_query_are_left_out_too(runtime: Runtime, photos: Path) -> None:
    shutil.copyfile(photos / "coffee" / "coffee.png", photos / "coffee" / "copy.png")
    runtime.index(photos)
    found = compare_picture(runtime, photos / "coffee" / "coffee.png")
    assert len(found.left_out) == 2
    assert found.images == 11
    assert found.label == "coffee"


def test_a_class_the_library_lacks_leaves_quality_unknown(indexed: ImageTools, queries: Path) -> None:
    image = str(queries / "cat" / "query.png")
    found = indexed.compare_metrics(image, label="zebra")
    assert "label_absent" in kinds(found)
    assert "zebra" in str(found)
    assert all(row.precision_at_k is None for row in found.rows)
    assert all(len(row.hits) == 5 for row in found.rows)
    assert indexed.compare_metrics(image, label="people").relevant == 2


def test_a_folder_that_is_no_class_leaves_quality_unknown(indexed: ImageTools, queries: Path) -> None:
    elsewhere = queries.parent / "downloads"
    elsewhere.mkdir()
    shutil.copyfile(queries / "cat" / "query.png", elsewhere / "x.png")
    found = indexed.compare_metrics(str(elsewhere / "x.png"))
    assert (found.label, found.relevant) == ("", 0)
    assert "query_label_unknown" in kinds(found)


def test_k_above_the_library_and_few_relevant_say_the_ceiling(indexed: ImageTools, queries: Path) -> None:
    image = str(queries / "cheetah" / "query.png")
    found = indexed.compare_metrics(image, k=50)
    assert "fewer_than_k" in kinds(found)
    assert {"same_images"} <= kinds(found)
    assert all(row.precision_at_k == 3 / 50 for row in found.rows)
    assert all(len(row.hits) == 12 for row in found.rows)
    assert "few_relevant" in kinds(indexed.compare_metrics(image, k=5))


@pytest.fixture
def unlabelled(tmp_path: Path) -> Iterator[ImageTools]:
    """Tools on a library of three pictures in no sub-folder."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for name in ("skimage/data/coffee.png", "skimage/data/rocket.jpg", "skimage/data/chelsea.png"):
        shutil.copyfile(photo(name), folder / Path(name).name)
    with Runtime.open(Settings(data_dir=tmp_path / "flat-data", encoder="mini", roots=(tmp_path,))) as opened:
        opened.index(folder)
        yield ImageTools(opened)


def test_a_library_without_labels_still_ranks_and_agrees(unlabelled: ImageTools, tmp_path: Path) -> None:
    copy_photos(tmp_path / "test")
    found = unlabelled.compare_metrics(str(tmp_path / "test" / "lion" / "lion.jpg"))
    assert "no_labels" in kinds(found)
    assert len(found.rows[0].hits) == 3
    assert found.agreement.overlap_at_k[0][1] == 1.0
    assert found.agreement.rank_biased_overlap[0][-1] is not None
    many = unlabelled.compare_queries(str(tmp_path / "test"))
    assert {"no_labels", "absent_labels"} <= kinds(many)
    assert many.judged == 0
    assert all(row.map is None and row.precision_at_1 is None for row in many.rows)
    assert all(row.recall_at_k == 1.0 for row in many.rows if row.search == "hnsw")


def test_one_image_that_is_the_query_leaves_nothing_to_rank(runtime: Runtime, tmp_path: Path) -> None:
    folder = tmp_path / "one" / "cat"
    folder.mkdir(parents=True)
    shutil.copyfile(photo("skimage/data/chelsea.png"), folder / "chelsea.png")
    runtime.index(folder.parent)
    alone = compare_picture(runtime, folder / "chelsea.png")
    assert {"nothing_left", "left_out"} <= kinds(alone)
    assert all(row.hits == [] for row in alone.rows)
    assert alone.agreement.overlap_at_k[0][1] is None
    other = compare_picture(runtime, photo("skimage/data/coffee.png"))
    assert all(len(row.hits) == 1 for row in other.rows)
    assert "same_images" in kinds(other)


def test_query_folders_without_classes_or_with_others(indexed: ImageTools, queries: Path) -> None:
    flat = queries.parent / "flat"
    (flat / "zebra").mkdir(parents=True)
    shutil.copyfile(queries / "cat" / "query.png", flat / "a.png")
    shutil.copyfile(queries / "lion" / "query.png", flat / "zebra" / "b.png")
    found = indexed.compare_queries(str(flat))
    assert (found.queries, found.judged) == (2, 0)
    assert {"unlabelled_queries", "absent_labels", "no_quality"} <= kinds(found)
    assert "zebra" in str(found)
    assert all(row.precision_at_k is None for row in found.rows)


def test_queries_that_cannot_be_opened_are_reported_and_the_others_count(indexed: ImageTools, queries: Path) -> None:
    folder = queries.parent / "half"
    (folder / "cat").mkdir(parents=True)
    shutil.copyfile(queries / "cat" / "query.png", folder / "cat" / "a.png")
    (folder / "cat" / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    found = indexed.compare_queries(str(folder))
    assert found.queries == 1
    assert [Path(failure.path).name for failure in found.failed] == ["b.jpg"]
    assert "failed_queries" in kinds(found)
    (folder / "cat" / "a.png").unlink()
    with pytest.raises(BadInput, match="no query picture"):
        indexed.compare_queries(str(folder))


def test_a_labelled_folder_of_the_library_itself_leaves_each_out(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    found = compare_folder(runtime, photos, k=1)
    assert found.queries == 12
    assert {"queries_left_out", "alone_labels"} <= kinds(found)
    assert found.judged == 7  # cheetah 3, motorcycle 2, people 2; the others are alone in their label


def test_pixels_not_made_yet_are_said_and_embeddings_compared(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    for file in runtime.library().home.glob("pixels-*"):
        file.unlink()
    runtime.close()
    found = compare_picture(runtime, photo("sklearn/datasets/images/china.jpg"))
    assert "pixels_missing" in kinds(found)
    assert {row.space for row in found.rows} == {"embedding"}
    report = runtime.index(photos)
    assert report.unchanged == 12
    assert {row.space for row in compare_picture(runtime, photo("sklearn/datasets/images/china.jpg")).rows} == {
        "embedding",
        "pixels",
    }


def test_pictures_without_a_pixel_row_count_as_not_found(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    (file,) = runtime.library().home.glob("pixels-*")
    os.truncate(file, file.stat().st_size - 64 * 64 * 3)
    found = compare_picture(runtime, photo("sklearn/datasets/images/china.jpg"), k=12)
    assert "pixels_partial" in kinds(found)
    assert [len(row.hits) for row in found.rows] == [12] * 10 + [11] * 4


def test_another_pixel_size_changes_the_pixel_rows_alone(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    small = compare_picture(runtime, photo("sklearn/datasets/images/china.jpg"))
    runtime.index(photos, pixel_size=448)
    large = compare_picture(runtime, photo("sklearn/datasets/images/china.jpg"))
    assert (small.pixel_size, large.pixel_size) == (64, 448)
    for before, after in zip(small.rows, large.rows, strict=True):
        same = [hit.value for hit in before.hits] == [hit.value for hit in after.hits]
        assert same == (before.space == "embedding")


@pytest.mark.slow
def test_kept_pixel_statistics_follow_the_library(runtime: Runtime, photos: Path) -> None:
    """Statistics of the rows are kept between comparisons; a library that grew must not be measured with old ones."""
    query = photo("sklearn/datasets/images/china.jpg")
    runtime.index(photos)
    compare_picture(runtime, query)
    shutil.copyfile(photo("sklearn/datasets/images/flower.jpg"), photos / "flower.jpg")
    runtime.index(photos)
    warm = compare_picture(runtime, query)
    with Runtime.open(runtime.settings) as fresh:
        cold = compare_picture(fresh, query)
    assert [row.hits for row in warm.rows if row.space == "pixels"] == [
        row.hits for row in cold.rows if row.space == "pixels"
    ]
    assert warm.images == 13


@pytest.mark.slow
def test_who_else_holds_chroma_takes_only_the_hnsw_rows(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    query = photo("sklearn/datasets/images/china.jpg")
    library = runtime.library()
    with library.index.opened(library.card, "a test", wait=0), Runtime.open(runtime.settings) as other:
        found = compare_picture(other, query)
    assert {row.search for row in found.rows} == {"exact"}
    assert "hnsw_missing" in kinds(found)


def test_an_interrupted_set_says_what_it_covers(indexed: ImageTools, queries: Path, tmp_path: Path) -> None:
    folder = queries.parent / "long"
    for number in range(40):
        target = folder / "cat" / f"{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((24, 24), 40 + number).convert("RGB").save(target)
    seen: list[int] = []
    found = indexed.compare_queries(
        str(folder), progress=lambda state: seen.append(state.done), cancelled=lambda: bool(seen)
    )
    assert found.queries == 32
    assert seen == list(range(1, 33))
    assert "cancelled" in kinds(found)


@pytest.mark.parametrize("k", [0, -1, True, 2.5])
def test_an_impossible_k_is_refused(indexed: ImageTools, queries: Path, k: int) -> None:
    with pytest.raises(BadInput, match="k"):
        indexed.compare_metrics(str(queries / "cat" / "query.png"), k=k)
    with pytest.raises(BadInput, match="k"):
        indexed.compare_queries(str(queries), k=k)


def test_what_is_not_there_or_not_allowed_is_refused(indexed: ImageTools, queries: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        indexed.compare_metrics(str(queries / "nothing.png"))
    with pytest.raises(NotFound):
        indexed.compare_metrics(str(queries / "cat" / "query.png"), library="nowhere")
    with pytest.raises(PathRefused):
        indexed.compare_metrics("/etc/passwd")
    with pytest.raises(PathRefused):
        indexed.compare_queries("/etc")
    empty = queries.parent / "empty"
    empty.mkdir()
    with pytest.raises(ImgretError, match="no picture"):
        indexed.compare_queries(str(empty))
    before = [file.stat().st_mtime_ns for file in sorted(indexed.runtime.library().home.glob("*.*"))]
    with pytest.raises(BadInput):
        indexed.compare_metrics(str(queries / "cat" / "query.png"), label=" ")
    assert before == [file.stat().st_mtime_ns for file in sorted(indexed.runtime.library().home.glob("*.*"))]
