"""Many threads and one encoder: texts that wait go together, words asked again run no model, and an error hangs nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import fake_encoder
import numpy as np
import pytest

from imgret_tools.encoders.protocol import Encoder, Rows
from imgret_tools.engine import turns

WORDS = [f"word {number}" for number in range(8)]


def counted(failing: Sequence[str] = ()) -> tuple[Encoder, list[list[str]], threading.Event]:
    """An encoder in turns, the texts of each of its calls, and what its first call waits for."""
    encoder, calls, free = fake_encoder.FakeEncoder(), [], threading.Event()
    inner = encoder.encode_texts

    def encode(texts: Sequence[str]) -> Rows:
        calls.append(list(texts))
        if len(calls) == 1:
            assert free.wait(30)
        if set(failing) & set(texts):
            raise ValueError("no such word")
        return inner(texts)

    encoder.encode_texts = encode  # type: ignore[method-assign]
    return turns.one_at_a_time(encoder), calls, free


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_texts_that_wait_for_one_turn_are_encoded_in_one_call() -> None:
    """Fifty visitors waited for one batch of an index run each, seven seconds at the slowest."""
    encoder, calls, free = counted()
    with ThreadPoolExecutor(len(WORDS)) as threads:
        found = [threads.submit(encoder.encode_texts, [WORDS[0]])]
        until(lambda: bool(calls))
        found += [threads.submit(encoder.encode_texts, [word, WORDS[0]]) for word in WORDS[1:]]
        waiting = encoder.encode_texts._waiting  # type: ignore[attr-defined]
        until(lambda: len(waiting) == len(WORDS) - 1)
        free.set()
        rows = [each.result()[0] for each in found]
    assert [len(call) for call in calls] == [1, len(WORDS) - 1]
    assert np.array_equal(rows, fake_encoder.FakeEncoder().encode_texts(WORDS))


def test_words_asked_again_run_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next page, or another filter, encoded the same words anew."""
    monkeypatch.setattr(turns, "_KEPT", 2)
    encoder, calls, free = counted()
    free.set()
    for words in (["a", "b"], ["b", "a", "a"], ["c"], ["a"], ["b"]):
        rows = encoder.encode_texts(words)
        assert np.array_equal(rows, fake_encoder.FakeEncoder().encode_texts(words))
    assert calls == [["a", "b"], ["c"], ["b"]], "the one that was asked longest ago goes"
    assert encoder.encode_texts([]).shape == (0, rows.shape[1])


def test_an_error_reaches_who_asked_and_is_not_kept() -> None:
    encoder, calls, free = counted(failing=["b"])
    free.set()
    for _ in range(2):
        with pytest.raises(ValueError, match="no such word"):
            encoder.encode_texts(["a", "b"])
    assert len(encoder.encode_texts(["a"])) == 1
    assert calls == [["a", "b"], ["a", "b"], ["a"]]
