"""What searches use beside a library's rows, brought up to date where its rows have changed."""

from __future__ import annotations

from collections.abc import Callable

from imgret_tools.engine.approximate import keep_index
from imgret_tools.engine.neighbourhood import keep_refined
from imgret_tools.library.view import View


def keep_up(view: View, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Make what is missing for the rows of `view`: the refined order, and the index of a large library.

    The library has to be held for writing. Until it is made, and where it cannot be, searches scan exactly.
    """
    keep_refined(view, stop=stop)
    keep_index(view, stop=stop)
