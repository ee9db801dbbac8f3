"""One encoder used by many threads: whoever asks the model something waits for its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from imgret_tools.encoders.protocol import Encoder

_P = ParamSpec("_P")
_R = TypeVar("_R")

MODEL_CALLS = ("encode_images", "encode_texts", "classify", "why_text")
"""What runs the model; `prepare` does not, and decoding threads call it side by side."""


def one_at_a_time(encoder: Encoder) -> Encoder:
    """`encoder`, its model calls made to run one at a time, whoever makes them."""
    turn = threading.RLock()
    for name in MODEL_CALLS:
        if (method := getattr(encoder, name, None)) is not None:
            setattr(encoder, name, _in_turn(method, turn))
    return encoder


def _in_turn(method: Callable[_P, _R], turn: threading.RLock) -> Callable[_P, _R]:
    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with turn:
            return method(*args, **kwargs)

    return call
