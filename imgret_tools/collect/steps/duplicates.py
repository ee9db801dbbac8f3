"""Pictures that are nearly the same: a 64-bit difference hash, checked against coarse colours.

The hash (dHash, Krawetz 2013, "Kind of Like That") says for each of 8 x 8 cells whether the grey level rises to the
right. It stays when a picture is resized, re-compressed or brightened, and moves by a few bits when it is cropped a
little. Flat pictures all hash alike, so two pictures also need the same 8 x 8 colours, to a tenth of the range on
average: a grey copy of a coloured picture is not its near-duplicate. Callers with an encoder may give embedding rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Signatures = NDArray[np.uint8]
Rows = Mapping[str, NDArray[np.float32]]

NEAR = 6
"""Bits of 64 by which two near-duplicates may differ."""
NEAR_COSINE = 0.95
"""Cosine from which two embedding rows are those of near-duplicates."""

_HASH_BYTES = 8
_COLOUR_LIMIT = 25.5
_APART = 65


def signature(image: Image.Image) -> Signatures:
    """The (200,) uint8 signature of an upright RGB picture: 8 bytes of hash, then 8 x 8 x 3 colours."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    colours = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.uint8)
    return np.concatenate([bits, colours.ravel()])


def stack(signatures: Sequence[Signatures | None]) -> Signatures:
    """(n, 200) of n signatures, also of none."""
    return np.array(list(signatures), dtype=np.uint8).reshape(len(signatures), _HASH_BYTES + 8 * 8 * 3)


def distances(one: Signatures, many: Signatures) -> NDArray[np.int64]:
    """How many bits (0 to 64) each of (n, 200) signatures differs from one (200,); 65 where the colours differ."""
    found: NDArray[np.int64] = np.bitwise_count(many[:, :_HASH_BYTES] ^ one[:_HASH_BYTES]).sum(axis=1, dtype=np.int64)
    colours = np.abs(many[:, _HASH_BYTES:].astype(np.int16) - one[_HASH_BYTES:]).mean(axis=1)
    found[colours > _COLOUR_LIMIT] = _APART
    return found


def matrix_of(rows: Rows | None, paths: Sequence[str]) -> NDArray[np.float32] | None:
    """The unit rows of `paths` as (n, d); a zero row, like nothing else, for a path that has none."""
    if not rows:
        return None
    dim = len(next(iter(rows.values())))
    matrix = np.stack([np.asarray(rows.get(path, np.zeros(dim)), dtype=np.float32) for path in paths])
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms == 0, 1, norms), dtype=np.float32)


def first_alike(
    index: int,
    before: Sequence[int],
    signatures: Signatures,
    matrix: NDArray[np.float32] | None,
    *,
    near: int,
    cosine: float,
) -> tuple[int, str] | None:
    """The nearest of the pictures `before` that picture `index` is a near-duplicate of, and how near; None if none."""
    if not before:
        return None
    if near >= 0:
        bits = distances(signatures[index], signatures[before])
        if bits[best := int(bits.argmin())] <= near:
            return before[best], f"hash distance {bits[best]} of at most {near}"
    if matrix is not None:
        cosines = matrix[before] @ matrix[index]
        if cosines[best := int(cosines.argmax())] >= cosine:
            return before[best], f"embedding cosine {cosines[best]:.3f} of at least {cosine}"
    return None


def groups(signatures: Signatures, matrix: NDArray[np.float32] | None, *, near: int, cosine: float) -> list[int]:
    """For each of n pictures the lowest index it hangs together with through near-duplicates (itself if alone)."""
    parent = list(range(len(signatures)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index in range(1, len(signatures)):
        alike = np.zeros(index, dtype=bool)
        if near >= 0:
            alike |= distances(signatures[index], signatures[:index]) <= near
        if matrix is not None:
            alike |= matrix[:index] @ matrix[index] >= cosine
        for other in np.flatnonzero(alike):
            a, b = root(int(other)), root(index)
            parent[max(a, b)] = min(a, b)
    return [root(index) for index in range(len(signatures))]
