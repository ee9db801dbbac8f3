"""One encoder used by many threads: whoever asks the model something waits for its turn, texts together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

from imgret_tools.encoders.protocol import Encoder, Rows

_P = ParamSpec("_P")
_R = TypeVar("_R")

MODEL_CALLS = ("encode_images", "encode_texts", "classify", "why_text")
"""What runs the model; `prepare` does not, and decoding threads call it side by side."""

_KEPT = 512
"""Texts whose rows are kept: the next page of a search, or the same words behind another filter, run no model."""


def one_at_a_time(encoder: Encoder) -> Encoder:
    """`encoder`, its model calls made to run one at a time, whoever makes them.

    Texts that wait for the same turn are encoded in one call: fifty visitors who search while a folder is indexed wait
    for one batch of pictures, not for one batch each.
    """
    turn = threading.RLock()
    for name in MODEL_CALLS:
        if (method := getattr(encoder, name, None)) is not None:
            setattr(encoder, name, _Texts(method, turn) if name == "encode_texts" else _in_turn(method, turn))
    return encoder


def _in_turn(method: Callable[_P, _R], turn: threading.RLock) -> Callable[_P, _R]:
    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with turn:
            return method(*args, **kwargs)

    return call


class _Texts:
    """`encode_texts` of an encoder, for many threads: what waits is encoded together, and the latest rows are kept."""

    def __init__(self, encode: Callable[[Sequence[str]], Rows], turn: threading.RLock) -> None:
        self._encode = encode
        self._turn = turn
        self._lock = threading.Lock()
        self._rows: dict[str, Future[Rows]] = {}  # the latest last
        self._waiting: dict[str, Future[Rows]] = {}

    def __call__(self, texts: Sequence[str]) -> Rows:
        if not len(texts):
            return self._encode(texts)
        with self._lock:
            rows = [self._row(text) for text in texts]
        if not all(row.done() for row in rows):
            with self._turn:
                if not all(row.done() for row in rows):  # else another thread encoded ours with its own
                    self._fill()
        return np.stack([row.result() for row in rows])

    def _row(self, text: str) -> Future[Rows]:
        row = self._rows.pop(text, None) or self._waiting.get(text)
        if row is None:
            row = self._waiting[text] = Future()
            while len(self._rows) >= _KEPT:
                del self._rows[next(iter(self._rows))]
        self._rows[text] = row
        return row

    def _fill(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        try:
            encoded = self._encode(list(waiting))
        except BaseException as error:  # whoever waits for one of them gets it, and nobody hangs
            with self._lock:
                for text, row in waiting.items():
                    self._rows.pop(text, None)
                    row.set_exception(error)
        else:
            for row, one in zip(waiting.values(), encoded, strict=True):
                row.set_result(one)
