"""A small encoder for tests that are not about encoders: 8 x 8 colours, centred and of length 1; texts by their letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from imgret_tools.encoders.unread import Reading
from imgret_tools.engine import runtime


class FakeEncoder:
    """Rows (192,) that tell pictures apart and load nothing."""

    name, fingerprint, dim, side, translates = "fake", "f0", 192, 32, False
    reading = Reading(longest=1000, pieces=str.split, scripts=frozenset())

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32).reshape(-1)

    def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        rows = np.array(prepared, np.float32).reshape(len(prepared), self.dim) - 127.3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.encode_images([np.random.default_rng(len(text)).uniform(0, 255, self.dim) for text in texts])


def make(spec: str, **_: object) -> FakeEncoder:
    """What `make_encoder` is replaced by: this encoder, whatever is asked for."""
    return FakeEncoder()


def use() -> None:
    """Let every runtime of this process make this encoder."""
    runtime.make_encoder = make  # type: ignore[assignment]
