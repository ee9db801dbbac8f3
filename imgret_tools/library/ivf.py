"""An inverted file (Faiss, IVF with 8-bit rows) over a library's embedding rows: a quarter of their bytes, memory-mapped.

It covers the rows of one generation up to a number. Rows are append-only and a number never gets another content, so that
an index which lags behind is still right about what it covers: what came later is scanned, what left is passed over. It is
written beside the old one and takes its place when the JSON file that names it does; a kill leaves the old one.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret_tools.files import atomic_write
from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.view import View

_CARD = "ivf.json"
_BLOCK = 20_000
_TRAINED_ON = 64
"""Rows a list that the centres are trained on."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IvfCard:
    """What is known of an index.

    Attributes:
        generation: of the library's rows.
        covered: the rows below that number are in it.
        file: its name.
        probes: how many lists a search looks into.
        recall: recall@10 against the exact scan on a sample of the rows, by measure.
    """

    generation: int
    covered: int
    file: str
    probes: int
    recall: Mapping[str, float]


class Ivf:
    """An index that can be asked."""

    def __init__(self, index: Any, covered: int) -> None:
        self._index, self._covered = index, covered

    @property
    def lists(self) -> int:
        """How many lists the rows are parted into."""
        return int(self._index.nlist)

    def nearest(self, query: NDArray[np.float32], n: int, *, probes: int, among: NDArray[np.bool_] | None) -> Numbers:
        """Up to n row numbers likely near a unit row `query` (dim,), unordered.

        Args:
            query: whose neighbours.
            n: how many.
            probes: how many lists to look into.
            among: for each row number (at least the covered ones) whether it counts; None: all do.
        """
        faiss = _faiss()
        chosen = {}
        if among is not None:
            bits = np.packbits(among[: self._covered], bitorder="little")
            chosen["sel"] = faiss.IDSelectorBitmap(bits)
        parameters = faiss.SearchParametersIVF(nprobe=min(probes, self.lists), **chosen)
        _, found = self._index.search(query[None].astype(np.float32), min(n, self._covered), params=parameters)
        return np.asarray(found[0][found[0] >= 0], np.intp)


def build(view: View) -> Ivf:
    """An index of the rows of `view`, in memory; dead ones are in it too. About sqrt(n) lists."""
    faiss = _faiss()
    matrix, count = view.matrix, len(view.matrix)
    lists = 2 ** round(np.log2(max(np.sqrt(count), 8)))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(view.card.dim),
        view.card.dim,
        lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    numbers = view.numbers
    sample = np.random.default_rng(0).permutation(len(numbers))[: _TRAINED_ON * lists]
    index.train(np.asarray(matrix[numbers[np.sort(sample)]], np.float32))
    for start in range(0, count, _BLOCK):
        index.add(np.ascontiguousarray(matrix[start : start + _BLOCK], np.float32))
    return Ivf(index, count)


def save(view: View, ivf: Ivf, *, probes: int, recall: Mapping[str, float]) -> None:
    """Keep `ivf`, made of the rows of `view`, in place of what was kept before.

    Raises:
        StorageError: the library's folder cannot be written to.
    """
    faiss = _faiss()
    with said_plainly(view.home):
        handle = tempfile.NamedTemporaryFile(prefix="ivf-", suffix=".faiss", dir=view.home, delete=False)  # noqa: SIM115
        handle.close()
        path = Path(handle.name)
        try:
            faiss.write_index(ivf._index, str(path))
            card = IvfCard(view.card.generation, len(view.matrix), path.name, probes, dict(recall))
            with atomic_write(view.home / _CARD) as file:
                file.write(json.dumps(asdict(card), indent=1).encode())
        except RuntimeError as error:  # of Faiss: it could not write
            path.unlink(missing_ok=True)
            raise OSError(str(error)) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        for old in view.home.glob("ivf-*.faiss"):
            if old != path:
                old.unlink(missing_ok=True)


def read_card(view: View) -> IvfCard | None:
    """What is known of the index of the rows of `view`, None where there is none."""
    try:
        card = IvfCard(**json.loads((view.home / _CARD).read_bytes()))
        fits = card.generation == view.card.generation and 0 < card.covered <= len(view.matrix)
        return card if fits and Path(card.file).name == card.file else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        _log.warning("the index of %s is not used: %s", view.home, error)
        return None


def load(view: View, card: IvfCard) -> Ivf | None:
    """The index of `card`, memory-mapped; None where it was replaced this moment or is damaged."""
    faiss = _faiss()
    try:
        index = faiss.read_index(str(view.home / card.file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        _log.warning("the index of %s is not used: %s", view.home, error)
        return None
    if index.d != view.card.dim or index.ntotal != card.covered:
        _log.warning("the index of %s is not used: it is of %d rows of %d numbers", view.home, index.ntotal, index.d)
        return None
    return Ivf(index, card.covered)


def _faiss() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SWIG, on Python 3.12 and later
        import faiss
    return faiss
