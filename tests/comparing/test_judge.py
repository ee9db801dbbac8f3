"""Rankings judged: against trec_eval and scipy on random rankings with ties, and by hand at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from imgret_tools.comparing.judge import (
    average_precision,
    average_precision_at_k,
    bootstrap_interval,
    kendall_tau,
    ndcg_at_k,
    overlap_at_k,
    paired_difference_interval,
    precision_at_k,
    rank_biased_overlap,
    recall_at_k,
    reciprocal_rank,
)
from imgret_tools.errors import BadInput
from imgret_tools.metrics import top_k

CUTS = (1, 5, 10, 20)
rankings = st.lists(st.sampled_from("abcdefghijkl"), unique=True, max_size=12)


def judged_by_trec(names: list[str], scores: np.ndarray, relevant: set[str]) -> dict[str, float]:
    cuts = ",".join(map(str, CUTS))
    wanted = {"map", "recip_rank", f"P.{cuts}", f"recall.{cuts}", f"ndcg_cut.{cuts}", f"map_cut.{cuts}"}
    judge = pytrec_eval.RelevanceEvaluator({"q": {name: int(name in relevant) for name in names}}, wanted)
    return judge.evaluate({"q": dict(zip(names, scores.tolist(), strict=True))})["q"]


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_trec_eval_on_rankings_with_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(3, 60))
    # trec_eval breaks ties by id descending, this package ascending: one name order turned round makes them comparable.
    names = [f"{1000 - index:04d}" for index in range(count)]
    turned = [f"{index:04d}" for index in range(count)]
    scores = random.integers(0, 6, count).astype(np.float64)
    relevant = {name for name in names if random.random() < 0.3} or {names[0]}
    ranking = [names[index] for index in top_k(scores, turned, count, higher_is_better=True)]
    trec = judged_by_trec(names, scores, relevant)
    assert average_precision(ranking, relevant) == pytest.approx(trec["map"], abs=1e-6)
    assert reciprocal_rank(ranking, relevant) == pytest.approx(trec["recip_rank"], abs=1e-6)
    for k in CUTS:
        assert precision_at_k(ranking, relevant, k) == pytest.approx(trec[f"P_{k}"], abs=1e-6)
        assert recall_at_k(ranking, relevant, k) == pytest.approx(trec[f"recall_{k}"], abs=1e-6)
        assert ndcg_at_k(ranking, relevant, k) == pytest.approx(trec[f"ndcg_cut_{k}"], abs=1e-6)
        cut = average_precision_at_k(ranking, relevant, k)
        assert cut is not None
        assert cut * min(k, len(relevant)) / len(relevant) == pytest.approx(trec[f"map_cut_{k}"], abs=1e-6)


def test_the_two_average_precisions_by_hand() -> None:
    ranking, relevant = ["a", "x", "b", "y"], {"a", "b", "c", "d"}
    assert average_precision(ranking, relevant) == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert average_precision_at_k(ranking, relevant, 2) == pytest.approx(1 / 2)
    assert average_precision_at_k(ranking, relevant, 3) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision_at_k(["a", "b"], relevant, 2) == 1


QUALITIES = {
    "precision": lambda ranking, relevant: precision_at_k(ranking, relevant, 3),
    "recall": lambda ranking, relevant: recall_at_k(ranking, relevant, 3),
    "ap": average_precision,
    "ap_at_k": lambda ranking, relevant: average_precision_at_k(ranking, relevant, 3),
    "ndcg": lambda ranking, relevant: ndcg_at_k(ranking, relevant, 3),
    "rr": reciprocal_rank,
}


@pytest.mark.parametrize("quality", QUALITIES.values(), ids=QUALITIES)
class TestQuality:
    def test_unknown_where_nothing_is_relevant(self, quality) -> None:
        assert quality(["a", "b"], set()) is None
        assert quality([], []) is None

    def test_an_empty_ranking_finds_nothing(self, quality) -> None:
        assert quality([], {"a"}) == 0

    def test_nothing_right_is_0_and_all_right_is_1(self, quality) -> None:
        assert quality(["x", "y", "z"], {"a"}) == 0
        assert quality(["a", "b", "c"], ["a", "b", "c"]) == pytest.approx(1)

    def test_an_id_twice_is_refused(self, quality) -> None:
        with pytest.raises(BadInput, match="twice"):
            quality(["a", "a"], {"a"})

    def test_a_better_order_is_never_worse(self, quality) -> None:
        relevant = {"a", "b"}
        for ranking in itertools.permutations("abxy"):
            for place in range(3):
                if ranking[place] not in relevant and ranking[place + 1] in relevant:
                    better = [*ranking]
                    better[place], better[place + 1] = better[place + 1], better[place]
                    assert quality(better, relevant) >= quality(ranking, relevant)


def test_places_beyond_the_ranking_count_as_wrong() -> None:
    assert precision_at_k(["a"], {"a"}, 5) == pytest.approx(1 / 5)
    assert recall_at_k(["a"], {"a"}, 5) == 1
    assert ndcg_at_k(["a"], {"a"}, 5) == 1
    assert average_precision_at_k(["a"], {"a", "b"}, 5) == pytest.approx(1 / 2)


@pytest.mark.parametrize("function", [precision_at_k, recall_at_k, ndcg_at_k, average_precision_at_k, overlap_at_k])
@pytest.mark.parametrize("k", [0, -1])
def test_k_below_1_is_refused(function, k: int) -> None:
    with pytest.raises(BadInput, match="k is"):
        function(["a"], ["a"], k)


# ---- agreement ----


def rbo_by_definition(first: list[str], second: list[str], p: float) -> float:
    """Webber et al., equation 32, term by term."""
    short, long = sorted((first, second), key=len)
    s, l = len(short), len(long)  # noqa: E741 the paper's names
    shared = [len(set(short[:d]) & set(long[:d])) for d in range(l + 1)]
    head = sum(shared[d] / d * p**d for d in range(1, l + 1))
    tail = sum(shared[s] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * (head + tail) + ((shared[l] - shared[s]) / l + shared[s] / s) * p**l


@given(first=rankings.filter(bool), second=rankings.filter(bool), p=st.sampled_from([0.5, 0.9, 0.98]))
def test_rank_biased_overlap_is_the_papers(first: list[str], second: list[str], p: float) -> None:
    value = rank_biased_overlap(first, second, p=p)
    assert value == pytest.approx(rbo_by_definition(first, second, p), abs=1e-12)
    assert value == rank_biased_overlap(second, first, p=p)
    assert 0 <= value <= 1


def test_rank_biased_overlap_knows_its_limits() -> None:
    assert rank_biased_overlap(list("abc"), list("abc")) == pytest.approx(1)
    assert rank_biased_overlap(list("abc"), list("xyz")) == 0
    assert rank_biased_overlap([], list("abc")) is None
    # Infinite depth with p: agreement 0 at place 1 and full from 2 on leaves 1 - (1 - p).
    assert rank_biased_overlap(list("bacd"), list("abcd"), p=0.9) == pytest.approx(0.9)
    for p in (0, 1, -1, math.nan):
        with pytest.raises(BadInput, match="p is"):
            rank_biased_overlap(["a"], ["a"], p=p)
    with pytest.raises(BadInput, match="twice"):
        rank_biased_overlap(["a", "a"], ["a"])


@given(first=rankings, second=rankings)
def test_kendall_tau_is_scipys_on_the_common_ids(first: list[str], second: list[str]) -> None:
    common = [name for name in first if name in second]
    value = kendall_tau(first, second)
    if len(common) < 2:
        assert value is None
    else:
        oracle = kendalltau(range(len(common)), [second.index(name) for name in common], variant="b").statistic
        assert value == pytest.approx(oracle, abs=1e-12)


def test_kendall_tau_of_a_long_ranking_is_quick_and_right() -> None:
    order = np.random.default_rng(0).permutation(20_000)
    names = [str(number) for number in order]
    value = kendall_tau(names, [str(number) for number in range(20_000)])
    assert value == pytest.approx(kendalltau(range(20_000), order).statistic, abs=1e-12)
    assert kendall_tau(names, names) == 1
    assert kendall_tau(names, names[::-1]) == -1


def test_overlap() -> None:
    assert overlap_at_k(list("abcd"), list("badc"), 2) == 1
    assert overlap_at_k(list("abcd"), list("cdab"), 2) == 0
    assert overlap_at_k(list("abcd"), list("axyz"), 4) == pytest.approx(1 / 4)
    assert overlap_at_k(["a"], ["a"], 10) == 1, "a library of one image agrees with itself"
    assert overlap_at_k(["a"], ["a", "b"], 10) == pytest.approx(1 / 2)
    assert overlap_at_k([], [], 3) is None
    with pytest.raises(BadInput, match="twice"):
        overlap_at_k(["a", "a"], ["a", "b"], 2)


# ---- intervals ----


def test_the_interval_is_reproducible_and_holds_the_mean() -> None:
    values = np.random.default_rng(3).random(40).tolist()
    interval = bootstrap_interval(values)
    assert interval == bootstrap_interval(values)
    assert interval != bootstrap_interval(values, seed=1)
    assert interval is not None
    assert interval.count == 40
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(np.mean(values))
    narrow = bootstrap_interval(values, confidence=0.5)
    assert narrow is not None
    assert narrow.high - narrow.low < interval.high - interval.low
    assert str(interval) == f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        interval = bootstrap_interval(random.normal(0.5, 0.1, 50).tolist(), samples=400, seed=seed)
        assert interval is not None
        hits += interval.low <= 0.5 <= interval.high
    assert 0.90 <= hits / 300 <= 0.98


def test_unknown_values_are_left_out() -> None:
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([None, None]) is None
    alone = bootstrap_interval([None, 0.4])
    assert alone is not None
    assert (alone.mean, alone.low, alone.high, alone.count) == (0.4, 0.4, 0.4, 1)


def test_many_queries_are_resampled_in_pieces() -> None:
    interval = bootstrap_interval([0.0, 1.0] * 300_000, samples=3)
    assert interval is not None
    assert interval.mean == 0.5
    assert abs(interval.low - 0.5) < 0.01


def test_noise_has_no_winner_and_a_steady_gain_has_one() -> None:
    random = np.random.default_rng(1)
    hard = random.random(30)
    noise = paired_difference_interval((hard + random.normal(0, 0.2, 30)).tolist(), hard.tolist())
    assert noise is not None
    assert noise.low < 0 < noise.high
    gain = paired_difference_interval((hard + 0.05 + random.normal(0, 0.01, 30)).tolist(), hard.tolist())
    assert gain is not None
    assert gain.low > 0
    apart = bootstrap_interval(hard.tolist())
    assert apart is not None
    assert gain.high - gain.low < apart.high - apart.low, "pairing takes out what is hard for both"


def test_only_queries_with_both_values_are_paired() -> None:
    difference = paired_difference_interval([0.5, None, 1.0], [0.25, 0.5, None])
    assert difference is not None
    assert (difference.mean, difference.count) == (0.25, 1)
    assert paired_difference_interval([None], [1.0]) is None
    with pytest.raises(BadInput, match="one a query on both sides"):
        paired_difference_interval([0.1], [0.1, 0.2])


@pytest.mark.parametrize("options", [{"confidence": 0}, {"confidence": 1}, {"samples": 0}])
def test_senseless_intervals_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="confidence"):
        bootstrap_interval([0.1], **options)
