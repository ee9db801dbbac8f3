"""Work on blocks by as many threads as there are cores; numpy leaves them the interpreter meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from imgret_tools.encoders.device import cores

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def each(work: Callable[[_Item], _Found], items: Iterable[_Item], *, stop: Callable[[], bool]) -> Iterator[_Found]:
    """`work` of each item, in their order, until `stop` says so; a few items ahead of what was taken are worked on."""
    workers = cores()
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Found]] = deque()
        for item in items:
            if stop():
                break
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting and not stop():
            yield waiting.popleft().result()
