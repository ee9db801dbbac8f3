"""The measures: by hand, against scipy, against the course's own loops on real photos, and by what they claim."""

from __future__ import annotations

import importlib.util
import math
import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.distance import cdist

from imgret_tools import metrics
from imgret_tools.errors import BadInput
from imgret_tools.metrics import METRICS, all_values, row_stats, top_k
from imgret_tools.records import Measure

NAMES = list(METRICS)
SCIPY = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine", "pearson": "correlation"}
every_measure = pytest.mark.parametrize("name", NAMES)


def by_scipy(name: str, query: NDArray, rows: NDArray) -> NDArray[np.float64]:
    distances = cdist(query[None].astype(np.float64), rows.astype(np.float64), SCIPY[name])[0]
    return 1 - distances if METRICS[name].higher_is_better else distances


# ---- values ----


@pytest.mark.parametrize(
    ("name", "a", "b", "value"),
    [
        ("l1", [1, 2, 3], [4, 5, 6], 9),
        ("l2", [1, 2, 3], [4, 5, 6], math.sqrt(27)),
        ("cosine", [1, 0, 1], [1, 1, 0], 0.5),
        ("pearson", [2, 4], [1, 2], 1),
        ("l1", [1.5, 20], [2, 15], 5.5),
        ("l2", [1.5, 20], [2, 15], 5.0249),
        ("cosine", [1.5, 1.5], [2, 1], 0.9487),
        ("cosine", [1.5, 1.5], [-1, -0.5], -0.9487),
    ],
)
def test_values_checked_by_hand(name: Measure, a: list[float], b: list[float], value: float) -> None:
    assert METRICS[name].value(a, b) == pytest.approx(value, abs=5e-5)
    if all(number >= 0 and number == int(number) for number in (*a, *b)):
        assert METRICS[name].value(np.array(a, np.uint8), np.array(b, np.uint8)) == pytest.approx(value, abs=1e-12)


@every_measure
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(("count", "dim"), [(40, 12288), (33, 301), (3, 70001), (200, 512), (7, 2), (2100, 256)])
def test_agrees_with_scipy_in_float64(name: Measure, kind: type, count: int, dim: int) -> None:
    random = np.random.default_rng(count)
    rows = random.integers(0, 256, (count, dim)) if kind == np.uint8 else random.normal(0.3, 1, (count, dim))
    rows = rows.astype(kind)
    query = random.integers(0, 256, dim).astype(kind) if kind == np.uint8 else random.normal(0, 1, dim).astype(kind)
    expected = by_scipy(name, query, rows)
    for stats in (None, row_stats(rows)):
        # scipy's likeness is 1 - distance: it has an absolute error of some 1e-16 that no relative one can excuse.
        values = METRICS[name].values(query, rows, stats=stats)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)


def test_pixels_do_not_overflow() -> None:
    white, black = np.full(602_112, 255, np.uint8), np.zeros(602_112, np.uint8)
    assert METRICS["l1"].value(white, black) == 255 * 602_112
    assert METRICS["l2"].value(white, black) == math.sqrt(255**2 * 602_112)
    assert METRICS["cosine"].value(white, white) == 1
    one = white.copy()
    one[0] = 254
    assert METRICS["l2"].value(one, white) == 1, "one step in one of 602,112 bytes is still seen"
    assert METRICS["pearson"].value(one, one) == 1, "nearly constant is not constant"


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 3, 768, 12288])
def test_zero_and_constant_vectors_score_0(kind: type, dim: int) -> None:
    random = np.random.default_rng(0)
    zero, photo = np.zeros(dim, kind), random.integers(1, 256, dim).astype(kind)
    for value in (7, 255) if kind == np.uint8 else (0.1, 1e-3, 1 / 3, 255.0):
        constant = np.full(dim, value, kind)
        assert METRICS["cosine"].value(zero, constant) == 0
        assert METRICS["pearson"].value(constant, photo) == 0
        assert METRICS["pearson"].value(photo, constant) == 0
        assert METRICS["pearson"].value(constant, constant) == 0
        assert METRICS["cosine"].value(constant, constant) == pytest.approx(1, abs=1e-12)
        assert METRICS["l1"].value(constant, constant) == METRICS["l2"].value(constant, constant) == 0
    assert METRICS["cosine"].value(zero, zero) == METRICS["pearson"].value(zero, zero) == 0


@every_measure
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_identical_rows_have_identical_values(name: Measure, kind: type) -> None:
    row = np.random.default_rng(5).integers(0, 256, 515).astype(kind)
    values = METRICS[name].values(row[::-1].copy(), np.tile(row, (1000, 1)))
    assert len(set(values.tolist())) == 1, "copies of a picture must tie, so that the id decides"


@every_measure
def test_a_float_query_on_pixels_is_measured_as_it_is(name: Measure) -> None:
    random = np.random.default_rng(2)
    rows, query = random.integers(0, 256, (30, 300)).astype(np.uint8), random.random(300) * 255
    np.testing.assert_allclose(METRICS[name].values(query, rows), by_scipy(name, query, rows), rtol=1e-9)


@every_measure
def test_a_spoilt_row_spoils_no_other_and_comes_last(name: Measure) -> None:
    rows = np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    clean = METRICS[name].values(rows[0], rows)
    rows[1, 3], rows[3, 2] = np.nan, np.inf
    values = METRICS[name].values(rows[0], rows)
    np.testing.assert_array_equal(values[[0, 2, 4]], clean[[0, 2, 4]])
    best = top_k(values, list("abcde"), 5, higher_is_better=METRICS[name].higher_is_better)
    assert set(best[-2:]) == {1, 3}
    assert METRICS[name].values(rows[1], rows).shape == (5,), "nor does a spoilt query raise or warn"
    assert METRICS[name].values(rows[3], rows).shape == (5,)


# ---- one pass, blocks, subsets, memory ----


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (5, 7), (9, 70_001)])
def test_bytes_are_exact_however_they_lie_in_memory(shape: tuple[int, int]) -> None:
    """NumKong answers wrongly, without an error, for a row that is read backwards, and 255 * 255 * 70,001 overflows 32 bits."""
    random = np.random.default_rng(0)
    whole, numbers = (random.integers(0, 256, size, dtype=np.uint8) for size in (shape, shape[1]))
    views = [whole, whole[::-1], whole[:, ::-1], np.asfortranarray(whole), whole[:, :1], np.full_like(whole, 255)]
    for rows in [*views, np.broadcast_to(whole[:1], shape), whole[:, ::2]]:
        part = numbers[: rows.shape[1]]
        for query in (part, part[::-1], np.broadcast_to(np.uint8(255), part.shape), np.zeros_like(part)):
            difference = rows.astype(np.int64) - query.astype(np.int64)
            found = all_values(query, rows, ["l1", "l2"])
            np.testing.assert_array_equal(found["l1"], np.abs(difference).sum(axis=1))
            np.testing.assert_array_equal(found["l2"], np.sqrt((difference**2).sum(axis=1)))
        np.testing.assert_array_equal(row_stats(rows).squares, (rows.astype(np.int64) ** 2).sum(axis=1))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_values_do_not_depend_on_blocks_threads_stats_or_company(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows = random.integers(0, 256, (301, 5003)).astype(kind)
    query = random.integers(0, 256, 5003).astype(kind)
    expected = all_values(query, rows, NAMES)
    for pixels, width, floats, workers in [(4096, 256, 1, 1), (8192, 512, 20_000, 3), (1 << 20, 1 << 14, 1 << 18, 2)]:
        monkeypatch.setattr(metrics, "_BYTES", pixels)
        monkeypatch.setattr(metrics, "_WIDTH", width)
        monkeypatch.setattr(metrics, "_FLOATS", floats)
        monkeypatch.setattr(metrics, "_WORKERS", workers)
        for name in NAMES:
            np.testing.assert_array_equal(METRICS[name].values(query, rows, stats=row_stats(rows)), expected[name])


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("with_stats", [False, True])
def test_a_subset_is_measured_in_its_own_order(kind: type, with_stats: bool) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (50, 300)).astype(kind)
    subset = np.array([40, 3, 3, 17], np.intp)
    stats = row_stats(rows) if with_stats else None
    whole, part = (all_values(rows[9], rows, NAMES, stats=stats, subset=chosen) for chosen in (None, subset))
    for name in NAMES:
        np.testing.assert_array_equal(part[name], whole[name][subset])
    assert all_values(rows[9], rows, NAMES, stats=stats, subset=subset[:0])["l1"].shape == (0,)


def test_row_stats_are_exact() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (20, 70_003)).astype(np.uint8)
    rows[3] = 255
    stats = row_stats(rows)
    assert stats.sums.dtype == stats.squares.dtype == np.int64
    np.testing.assert_array_equal(stats.sums, rows.sum(axis=1, dtype=np.int64))
    np.testing.assert_array_equal(stats.squares, (rows.astype(np.int64) ** 2).sum(axis=1))
    reals = row_stats(rows.astype(np.float32))
    np.testing.assert_array_equal(reals.squares, stats.squares)


def test_a_memory_mapped_matrix_is_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "pixels.u8"
    written = np.memmap(path, np.uint8, "w+", shape=(4000, 12288))
    written[:] = np.random.default_rng(0).integers(0, 256, 12288, np.uint8)
    written[1234] = 9
    written.flush()
    rows = np.memmap(path, np.uint8, "r", shape=(4000, 12288))
    query, subset = np.full(12288, 9, np.uint8), np.arange(0, 4000, 2)
    tracemalloc.start()
    try:
        values = all_values(query, rows, NAMES, stats=row_stats(rows))
        all_values(query, rows, NAMES, subset=subset)
        all_values(query.astype(np.float32), rows, NAMES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values["l1"].argmin() == 1234
    assert peak < 24e6, f"{peak / 1e6:.0f} MB on top of a matrix of {rows.nbytes / 1e6:.0f} MB"


@every_measure
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_empty_matrices_have_no_values(name: Measure, kind: type) -> None:
    assert METRICS[name].values(np.zeros(5, kind), np.zeros((0, 5), kind)).shape == (0,)
    assert METRICS[name].values(np.zeros(0, kind), np.zeros((3, 0), kind)).tolist() == [0, 0, 0]


def test_shapes_that_do_not_fit_are_refused_in_words() -> None:
    rows = np.zeros((4, 7), np.float32)
    with pytest.raises(BadInput, match=r"\(5,\).*\(4, 7\)"):
        METRICS["l1"].values(np.zeros(5), rows)
    with pytest.raises(BadInput, match="expected"):
        METRICS["l1"].values(np.zeros((1, 7)), rows)
    with pytest.raises(BadInput, match="3 rows came with 4"):
        METRICS["l1"].values(np.zeros(7), rows, stats=row_stats(rows[:3]))


# ---- what the table claims ----


def test_the_table_names_each_measure_once() -> None:
    assert set(NAMES) == set(get_args(Measure))
    assert all(metric.name == name and metric.formula and metric.source for name, metric in METRICS.items())


# Which measures have a property; `test_what_is_not_claimed_is_not_so` has to catch each of the others breaking it.
ALL = set(NAMES)
PROPERTIES: dict[str, set[str]] = {
    "permutation of the dimensions changes nothing": ALL,
    "symmetric": ALL,
    "within bounds": ALL,
    "no row is better than the query itself": ALL,
    "stretching one side changes nothing": {"cosine", "pearson"},
    "shifting one side changes nothing": {"pearson"},
    "shifting both sides changes nothing": {"l1", "l2", "pearson"},
    "stretching both sides stretches the value": {"l1", "l2"},
    "triangle inequality": {"l1", "l2"},
    "negating one side negates the value": {"cosine", "pearson"},
}
HOLDS = {
    "permutation of the dimensions changes nothing": lambda f, a, b, c: (f(a[::-1], b[::-1]), f(a, b)),
    "symmetric": lambda f, a, b, c: (f(a, b), f(b, a)),
    "stretching one side changes nothing": lambda f, a, b, c: (f(3 * a, b), f(a, b)),
    "shifting one side changes nothing": lambda f, a, b, c: (f(a + 50, b), f(a, b)),
    "shifting both sides changes nothing": lambda f, a, b, c: (f(a + 50, b + 50), f(a, b)),
    "stretching both sides stretches the value": lambda f, a, b, c: (f(3 * a, 3 * b), 3 * f(a, b)),
    "triangle inequality": lambda f, a, b, c: (max(f(a, b) - f(a, c) - f(c, b), 0), 0),
    "negating one side negates the value": lambda f, a, b, c: (f(-a, b), -f(a, b)),
}
CLAIMS = [(claim, name) for claim, names in PROPERTIES.items() for name in sorted(names)]
NOT_CLAIMED = [(claim, name) for claim, names in PROPERTIES.items() for name in sorted(ALL - names)]
triples = st.integers(2, 12).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 255), min_size=size, max_size=size) for _ in range(3)])
)


def test_every_property_is_about_measures_of_the_table() -> None:
    assert all(names and names <= ALL for names in PROPERTIES.values())
    assert {name for _, name in CLAIMS} == ALL
    assert len(CLAIMS) + len(NOT_CLAIMED) == len(PROPERTIES) * len(ALL)
    assert set(HOLDS) | {"within bounds", "no row is better than the query itself"} == set(PROPERTIES)


@pytest.mark.parametrize(("claim", "name"), CLAIMS)
@settings(max_examples=60, deadline=None)
@given(vectors=triples)
def test_what_is_claimed_holds(claim: str, name: Measure, vectors: tuple[list[int], ...]) -> None:
    metric = METRICS[name]
    for kind in (np.uint8, np.float64):
        a, b, c = (np.array(vector, kind) for vector in vectors)
        if claim == "within bounds":
            low, high = metric.bounds
            assert low <= metric.value(a, b) <= high
        elif claim == "no row is better than the query itself":
            if name in ("cosine", "pearson") and not np.ptp(a):
                continue  # a zero or constant vector scores 0 against everything, itself included
            own, others = metric.score(metric.values(a, np.stack([a, b, c])))[0], metric.values(a, np.stack([b, c]))
            assert (metric.score(others) <= own + 1e-12).all()
        elif kind is np.float64 or claim in ("permutation of the dimensions changes nothing", "symmetric"):
            left, right = HOLDS[claim](metric.value, a, b, c)
            assert left == pytest.approx(right, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("claim", "name"), NOT_CLAIMED)
def test_what_is_not_claimed_is_not_so(claim: str, name: Measure) -> None:
    random = np.random.default_rng(0)
    triple = [random.normal(0, 100, (3, 4)) for _ in range(50)]
    pairs = [HOLDS[claim](METRICS[name].value, *vectors) for vectors in triple]
    assert any(abs(left - right) > 1e-3 for left, right in pairs), f"{name} does have it: claim it"


@every_measure
def test_scores_are_higher_for_better(name: Measure) -> None:
    metric = METRICS[name]
    values = np.array([3.0, -1.0, 0.5]) if metric.higher_is_better else np.array([3.0, 0.0, 0.5])
    ids = ["a", "b", "c"]
    by_value = top_k(values, ids, 3, higher_is_better=metric.higher_is_better)
    assert by_value.tolist() == top_k(metric.score(values), ids, 3, higher_is_better=True).tolist()


def test_l2_and_cosine_rank_unit_vectors_alike() -> None:
    rows = np.random.default_rng(4).normal(size=(200, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    l2, cosine = (METRICS[name].values(rows[0], rows) for name in ("l2", "cosine"))
    np.testing.assert_allclose(l2**2, 2 - 2 * cosine, atol=1e-12)


# ---- the course's own way, on real photos at its own size ----


def photo_paths() -> list[Path]:
    """The larger pictures that installed packages bring along."""
    found = []
    for package, folder in (("skimage", "data"), ("sklearn", "datasets/images"), ("gradio", "media_assets/images")):
        origin = importlib.util.find_spec(package).origin
        found += [path for path in sorted((Path(origin).parent / folder).iterdir()) if path.suffix in (".jpg", ".png")]
    return [path for path in found if min(opened(path, None).shape[:2]) >= 200]


def opened(path: Path, size: tuple[int, int] | None = (448, 448)) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize(size or image.size))


EPSILON = np.finfo(np.float64).eps


def course_l1(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    return np.sum(np.abs(query.astype(np.float64) - image))


def course_l2(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    return np.mean((query.astype(np.float64) - image) ** 2)


def course_cosine(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    wrapped = np.sqrt(np.sum(query**2))  # eight-bit squares wrap, and every image of the query is divided by the same
    return np.sum(query.astype(np.float64) * image) / (
        wrapped * np.sqrt(np.sum(image.astype(np.float64) ** 2)) + EPSILON
    )


def course_pearson(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    a, b = query - np.mean(query), image - np.mean(image)
    return np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)) + EPSILON)


@pytest.fixture(scope="module")
def photos() -> tuple[list[str], NDArray[np.uint8]]:
    paths = photo_paths()
    assert len(paths) >= 15, "the installed packages no longer bring enough photos"
    return [path.name for path in paths], np.stack([opened(path) for path in paths])


@pytest.mark.parametrize(
    ("name", "course"),
    [("l1", course_l1), ("l2", course_l2), ("cosine", course_cosine), ("pearson", course_pearson)],
)
def test_ranks_photos_as_the_course_does(name: Measure, course, photos: tuple[list[str], NDArray[np.uint8]]) -> None:
    ids, images = photos
    rows = images.reshape(len(images), -1)
    stats = row_stats(rows)
    metric = METRICS[name]
    for query in images[::6]:
        theirs = sorted(zip([course(query, image) for image in images], ids, strict=True))
        if metric.higher_is_better:
            theirs = sorted(theirs, key=lambda pair: (-pair[0], pair[1]))
        values = metric.values(query.reshape(-1), rows, stats=stats)
        ours = top_k(values, ids, len(ids), higher_is_better=metric.higher_is_better)
        assert [ids[index] for index in ours] == [name for _, name in theirs]


# ---- selecting ----


def by_sorting(values: list[float], ids: list[str], k: int, higher_is_better: bool) -> list[int]:
    sign = -1 if higher_is_better else 1
    keys = [(math.isnan(value), 0 if math.isnan(value) else sign * value) for value in values]
    return sorted(range(len(values)), key=lambda place: (keys[place], ids[place]))[:k]


@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.5, math.nan, math.inf, -math.inf]), max_size=30),
    k=st.integers(0, 35),
    higher_is_better=st.booleans(),
    seed=st.integers(0, 99),
)
def test_top_k_is_a_full_sort_cut_off(values: list[float], k: int, higher_is_better: bool, seed: int) -> None:
    ids = [f"{number:02d}" for number in np.random.default_rng(seed).permutation(len(values))]
    chosen = top_k(np.array(values, np.float64), ids, k, higher_is_better=higher_is_better)
    assert chosen.dtype == np.intp
    assert chosen.tolist() == by_sorting(values, ids, k, higher_is_better)


def test_top_k_refuses_what_makes_no_sense() -> None:
    with pytest.raises(BadInput, match="one id a value"):
        top_k(np.zeros(3), ["a"], 1, higher_is_better=True)
    with pytest.raises(BadInput, match="k >= 0"):
        top_k(np.zeros(1), ["a"], -1, higher_is_better=True)
