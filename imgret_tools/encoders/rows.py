"""Rows of numbers as encoders handle them: scaled to length 1, and those that this package ships as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgret_tools.encoders.protocol import Rows
from imgret_tools.errors import EncoderError


def unit(rows: Rows) -> Rows:
    """`rows` (n, d) scaled to length 1, float32; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def shipped(file: Path, shape: tuple[int, ...]) -> Rows:
    """The array of a .npy file that lies beside the code, float32, of the shape it has to have.

    Raises:
        EncoderError: it is not there, broken, or another one.
    """
    try:
        array = np.load(file).astype(np.float32)
    except (OSError, ValueError) as error:
        raise EncoderError(
            "{file} cannot be read ({error}); it is part of imgret-tools: install that again", file=file, error=error
        ) from error
    if array.shape != shape:
        raise EncoderError(
            "{file} holds {shape}, expected {expected}: install imgret-tools again",
            file=file,
            shape=array.shape,
            expected=shape,
        )
    return np.asarray(array, dtype=np.float32)
