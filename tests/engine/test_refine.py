"""The refined order: it helps where neighbourhoods are real, is off elsewhere, and small changes give what all does."""

from __future__ import annotations

import numpy as np
import pytest

from imgret_tools.engine import refine as module
from imgret_tools.engine.compose import compose
from imgret_tools.engine.refine import Refined, refine
from imgret_tools.errors import BadInput

Rows = np.ndarray


def unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def classes(count: int, each: int, *, noise: float, dim: int = 64, seed: int = 0) -> tuple[Rows, Rows]:
    """`each` noisy rows around each of `count` directions, and their classes."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(count, dim)) + 2  # a common part, as photo embeddings have
    labels = np.repeat(np.arange(count), each)
    return unit(middles[labels] + noise * random.normal(size=(count * each, dim))), labels


def mean_average_precision(scores: Rows, wanted: Rows, labels: Rows) -> float:
    found = []
    for row, label in zip(scores, wanted, strict=True):
        places = np.flatnonzero(labels[np.argsort(-row, kind="stable")] == label)
        found.append(float(((np.arange(len(places)) + 1) / (places + 1)).mean()))
    return float(np.mean(found))


def made(rows: Rows) -> Refined:
    refined = refine(rows)
    assert refined is not None
    return refined


def test_noisy_classes_are_found_better_than_by_the_exact_rows() -> None:
    rows, labels = classes(20, 12, noise=1.3)
    library, queries = np.arange(240) % 12 > 1, np.arange(240) % 12 <= 1
    refined = made(rows[library])
    scores = np.array([refined.scores(query, rows[library]) for query in rows[queries]])
    plain = mean_average_precision(rows[queries] @ rows[library].T, labels[queries], labels[library])
    assert mean_average_precision(scores, labels[queries], labels[library]) > plain + 0.05


@pytest.mark.parametrize(
    "rows",
    [
        unit(np.random.default_rng(0).normal(size=(300, 64))),  # neighbours are noise
        classes(3, 6, noise=0.5)[0],  # too few
        np.ones((40, 64), np.float32) / 8,  # all equal
        np.zeros((40, 64), np.float32),
        np.zeros((0, 64), np.float32),
        np.ones((1, 64), np.float32),
    ],
    ids=["noise", "small", "equal", "zero", "empty", "one"],
)
def test_it_is_off_where_it_could_only_harm(rows: Rows) -> None:
    assert refine(rows) is None


def test_blocks_give_what_one_matrix_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = classes(10, 12, noise=1.0)
    centred = unit(rows - rows.mean(axis=0))
    likeness = centred @ centred.T
    np.fill_diagonal(likeness, -2)
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :6]
    weights = np.maximum(np.take_along_axis(likeness, order, 1), 0) ** 3
    expected = unit(centred + np.einsum("nk,nkd->nd", weights, centred[order]))
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 11)
    refined = made(rows)
    assert np.array_equal(refined.neighbours, order)
    assert np.allclose(refined.rows, expected, atol=1e-5)


def test_rows_that_came_went_and_changed_give_what_the_whole_gives() -> None:
    rows, _ = classes(20, 12, noise=1.0)
    before = made(rows[:230])
    kept = np.array([number for number in range(230) if number not in (3, 77)] + [-1] * 10)  # two went, ten came
    kept[50] = -1  # one was changed
    now = rows[[*[number for number in range(230) if number not in (3, 77)], *range(230, 240)]].copy()
    now[50] = rows[0]
    changed = refine(now, before=before, kept=kept)
    assert changed is not None
    assert changed.changes == 14
    neighbours, likeness = module._all_neighbours(now, None, before.centre, np.arange(len(now)))
    whole = Refined(before.rows, before.centre, neighbours, likeness)
    assert np.allclose(changed.likeness, likeness, atol=1e-5)
    assert np.allclose(changed.rows, module._smoothed(whole, now, None, np.arange(len(now))), atol=1e-4)


def test_a_change_of_more_than_a_tenth_measures_the_centre_anew() -> None:
    rows, _ = classes(20, 12, noise=1.0)
    kept = np.concatenate([np.arange(200), np.full(40, -1)])
    changed = refine(rows, before=made(rows[:200]), kept=kept)
    assert changed is not None
    assert changed.changes == 0
    assert np.array_equal(changed.rows, made(rows).rows)


def test_dead_rows_of_the_matrix_have_no_say() -> None:
    rows, _ = classes(10, 12, noise=1.0)
    matrix = np.vstack([rows[:60], np.full((5, 64), 9, np.float32), rows[60:]])
    numbers = np.concatenate([np.arange(60), np.arange(65, 125)])
    refined = refine(matrix, numbers=numbers)
    assert refined is not None
    assert np.array_equal(refined.rows, made(rows).rows)
    assert np.array_equal(refined.scores(rows[3], matrix, numbers=numbers), made(rows).scores(rows[3], rows))


def test_rows_and_queries_that_cannot_be_are_refused() -> None:
    rows, _ = classes(10, 12, noise=1.0)
    refined = made(rows)
    for query in (np.full(64, np.nan, np.float32), np.ones(63, np.float32)):
        with pytest.raises(BadInput, match="finite"):
            refined.scores(query, rows)
    with pytest.raises(BadInput, match="again"):
        refined.scores(rows[0], rows[1:])
    with pytest.raises(BadInput, match="finite"):
        refine(np.vstack([rows, np.full((1, 64), np.nan, np.float32)]))
    assert np.isfinite(refined.scores(np.zeros(64, np.float32), rows)).all()


def test_a_composed_query_is_the_weighted_sum_of_its_parts() -> None:
    a, b, c = np.eye(3, dtype=np.float32)
    row = compose([(5 * a, 1.0), (b, 0.5), (c, -0.5)])  # the length of a part says nothing
    assert np.allclose(row, unit(np.array([1, 0.5, -0.5])))
    assert np.array_equal(compose([(a, 1.0), (b, 0.0)]), a)
    assert np.allclose(compose([(a, 1.0)] * 50), a)


@pytest.mark.parametrize(
    "weights", [[], [0.0], [-1.0], [1.0, float("nan")], [float("inf")], [1e9], [1.0] * 65, [1.0, -1.0]]
)
def test_queries_that_ask_for_nothing_are_refused(weights: list[float]) -> None:
    with pytest.raises(BadInput):
        compose([(np.ones(4, np.float32), weight) for weight in weights])


@pytest.mark.parametrize("row", [np.full(4, np.nan), np.ones(3), np.ones((1, 4))])
def test_parts_that_do_not_fit_are_refused(row: Rows) -> None:
    with pytest.raises(BadInput, match="Part 2"):
        compose([(np.ones(4, np.float32), 1.0), (row.astype(np.float32), 1.0)])
