"""What an encoder is: images or texts in, rows out.

An encoder is used from two sides at once: `prepare` runs in decoding threads (it must not touch the model),
`encode_images` and `encode_texts` run one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders.unread import Reading

Rows = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Turns images and texts into unit rows of one shared space."""

    @property
    def name(self) -> str:
        """What a library records and `make_encoder` accepts: `mini`, `openclip:ViT-B-32/laion2b_s34b_b79k`."""

    @property
    def fingerprint(self) -> str:
        """Short hex digest of the weights; two encoders of one name and two fingerprints do not share a space."""

    @property
    def dim(self) -> int:
        """Length of a row."""

    @property
    def side(self) -> int:
        """Pixels of the model's square input; pictures may be opened at reduced scale down to twice this."""

    @property
    def translates(self) -> bool:
        """Whether Vietnamese texts are put into English by the glossary first; `vietnamese.translate` shows how."""

    @property
    def reading(self) -> Reading:
        """How texts are read, so that `unread` can say what of one is left out; may load the text tower."""

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The model's own preprocessing of one upright RGB picture: (3, side, side) float32. Safe in threads."""

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, dim) float32 of n prepared pictures, in order."""

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, dim) float32 of n texts in the images' space, in order."""


@runtime_checkable
class SeesColours(Protocol):
    """An encoder whose rows hold a picture's colours apart from what it shows."""

    def coloured(self, text: str, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """`row` (dim,) of `text` with the colours that the text names, unit; `row` itself where it names none."""
