"""Arrays worked out from a library's rows and kept beside them: a folder `NAME.REVISION` of .npy files.

They say of which rows they were made, by generation and row numbers, and whoever has other rows gets None: what lags
behind the catalogue is never used in its place. A folder is written whole under another name and then renamed; what a
kill leaves is removed by the next `save`. Reading maps the files, so that they stay readable when they are replaced.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.view import View

Arrays = dict[str, NDArray[np.generic]]

_NUMBERS, _ABOUT = "row-numbers", "generation-and-count"
_log = logging.getLogger(__name__)


def save(view: View, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Keep `arrays` as what `name` works out of the rows of `view`, in place of what was kept before.

    The library has to be held for writing.

    Raises:
        StorageError: the library's folder cannot be written to.
    """
    with said_plainly(view.home):
        made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=view.home))
        try:
            about = np.array([view.card.generation, len(arrays)])
            for key, array in {**arrays, _NUMBERS: view.numbers, _ABOUT: about}.items():
                np.save(made / f"{key}.npy", array)
            home = view.home / f"{name}.{view.card.revision}"
            shutil.rmtree(home, ignore_errors=True)
            made.rename(home)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        for old in (*_kept(view.home, name), *view.home.glob(f".{name}.*")):
            if old != home:
                shutil.rmtree(old, ignore_errors=True)


def load(view: View, name: str) -> Arrays | None:
    """What was kept under `name` for the very rows of `view`, memory-mapped; None where there is nothing for them."""
    for numbers, arrays in _of_generation(view, name):
        if np.array_equal(numbers, view.numbers):
            return arrays
    return None


def load_older(view: View, name: str) -> tuple[Numbers, Arrays] | None:
    """What was kept under `name` last for rows of the same generation, and their numbers: what still stands of it is
    what has the same number."""
    return next(iter(_of_generation(view, name)), None)


def wipe(home: Path) -> None:
    """Throw away all that is kept: the rows it was made of are not to be trusted."""
    for folder in home.glob("*.*"):
        if (folder / f"{_ABOUT}.npy").is_file():
            shutil.rmtree(folder, ignore_errors=True)


def _of_generation(view: View, name: str) -> list[tuple[Numbers, Arrays]]:
    found = []
    for folder in _kept(view.home, name):
        try:
            arrays = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")}
            numbers, (generation, count) = arrays.pop(_NUMBERS), arrays.pop(_ABOUT).tolist()
            if len(arrays) != count:
                raise ValueError(f"{len(arrays)} arrays of {count}")
        except (OSError, ValueError, EOFError, KeyError) as error:  # replaced this moment, or damaged
            _log.warning("%s is not used: %s", folder, error)
            continue
        if generation == view.card.generation:
            found.append((np.asarray(numbers, np.intp), arrays))
    return found


def _kept(home: Path, name: str) -> list[Path]:
    """The folders of that name, the latest first."""
    folders = [folder for folder in home.glob(f"{name}.*") if folder.suffix[1:].isdigit()]
    return sorted(folders, key=lambda folder: int(folder.suffix[1:]), reverse=True)
