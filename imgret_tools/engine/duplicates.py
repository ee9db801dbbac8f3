"""Pictures that a library holds more than once: the same file, or a copy of the same shot.

A copy may be re-encoded, resized, cropped by a tenth, mirrored, turned, watermarked or grey. Two shots of a burst and two
packs of one product are no copies, however alike: their details do not fall on each other. So rows only *propose* pairs
(`proposals`), and pixels decide: nearly all are refused by their pixel rows, the others laid on each other as thumbnails
(`registration`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from PIL import Image

from imgret_tools.engine.parallel import each
from imgret_tools.engine.proposals import Proposals, candidates, refused
from imgret_tools.engine.registration import AGREEING, FINE, Picture, Pixels, Placements, agreements, of_pixels
from imgret_tools.engine.runtime import Runtime, hit
from imgret_tools.errors import ImgretError, Message
from imgret_tools.library.view import View
from imgret_tools.records import DuplicateGroup, DuplicateReport, Entry, Progress

_KEPT = 1024  # thumbnails in memory, of 72 kB each
_AT_ONCE = 32  # pairs that are laid on each other together
_TOGETHER = 24  # groups of alike pictures that one thread decides on at a time
_MOST = 10  # ids that a notice names at most

Pair = tuple[int, int, float]
_Found = TypeVar("_Found")


def find_duplicates(
    runtime: Runtime,
    *,
    library: str,
    like: str,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> DuplicateReport:
    """Groups of pictures with the same content (`exact`), of copies of one shot (`near`), or of both (`any`).

    Nothing is deleted; each group says which picture to keep and why. Who cancels gets what was found so far.
    """
    started = time.perf_counter()
    with runtime.view(library) as view:
        search = _Search(runtime, view, progress, cancelled)
        pairs = search.same_content() if like != "near" else []
        if like != "exact":
            pairs += search.copies()
        entries = search.entries
        groups = [_group([entries[number] for number in members]) for members in _connected(pairs)]
        groups.sort(key=lambda group: (-len(group.hits), group.keep))
        unseen = sorted(entries[number].id for number in search.unseen)
        return DuplicateReport(
            view.card.name,
            groups,
            [(entries[one].id, entries[other].id, round(score, 4)) for one, other, score in pairs],
            round(time.perf_counter() - started, 4),
            notice=Message(
                "{count} pictures could not be opened to be compared ({named}).",
                count=len(unseen),
                named=", ".join(unseen[:_MOST]),
            )
            if unseen
            else "",
            cancelled=search.stopped,
        )


class _Search:
    """One search for the duplicates of a library; a picture is known by its place in `entries`."""

    def __init__(
        self,
        runtime: Runtime,
        view: View,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._runtime, self._view, self._progress, self._cancelled = runtime, view, progress, cancelled
        self._numbers = view.numbers
        self.entries = view.entries(self._numbers)
        self.unseen: set[int] = set()
        self.stopped = False
        self._opened = lru_cache(_KEPT)(self._open)

    def same_content(self) -> list[Pair]:
        """Pairs of the same content, each with the first of it."""
        first: dict[str, int] = {}
        return [
            (first[entry.sha256], place, 1.0)
            for place, entry in enumerate(self.entries)
            if first.setdefault(entry.sha256, place) != place
        ]

    def copies(self) -> list[Pair]:
        """Pairs of copies that differ in content, with the share of blocks that agree.

        Pairs that others hold together already are not laid on each other again: they count as the weakest of those.
        """
        contents: dict[str, int] = {}
        distinct = [n for n, entry in enumerate(self.entries) if contents.setdefault(entry.sha256, n) == n]
        numbers = self._numbers[np.array(distinct, np.intp)]
        looked = candidates(self._view, numbers, stop=self._stop)
        found = list(self._told("look for pairs", len(numbers), looked))
        if not found:
            return []
        pairs = np.unique(np.concatenate(found), axis=0)
        met = refused(self._view, pairs, plane=self._plane, stop=self._stop)
        meeting = list(self._told("compare pairs", len(pairs), met))
        if not meeting:
            return []
        parts = _parts(
            Proposals(
                np.searchsorted(self._numbers, np.concatenate([one.pairs for one in meeting])),
                Placements.joined([one.placements for one in meeting]),
            )
        )
        laid = each(self._laid, parts, stop=self._stop)
        copies = self._told("compare pictures", sum(map(len, parts)), laid)
        return sorted(pair for part in copies for pair in part)

    def _laid(self, part: Proposals) -> tuple[int, list[Pair]]:
        """The copies among pairs, in whose order they are laid on each other."""
        held, weakest = _Held(), dict[int, float]()
        found: list[Pair] = []
        implied: list[tuple[int, int]] = []
        waiting: list[int] = []
        for number in range(len(part)):
            one, other = map(int, part.pairs[number])
            if held.of(one) == held.of(other):
                implied.append((one, other))
            else:
                waiting.append(number)
            if len(waiting) < _AT_ONCE and number < len(part) - 1:
                continue
            if self._stop():
                break
            for one, other, share in self._agreeing(part.where(np.array(waiting, np.intp))):
                least = min(share, *(weakest.get(held.of(place), 1.0) for place in (one, other)))
                weakest[held.join(one, other)] = least
                found.append((one, other, share))
            waiting = []
        return len(part), found + [(one, other, weakest[held.of(one)]) for one, other in implied]

    def _agreeing(self, some: Proposals) -> list[Pair]:
        pictures = [(self._opened(int(one)), self._opened(int(other))) for one, other in some.pairs]
        there = np.array([one is not None and other is not None for one, other in pictures], bool)
        some, where = some.where(there), some.placements.where(there)
        if not len(some):
            return []
        first, second = [], []
        for pair, swapped, turn in zip(compress(pictures, there), where.swapped, where.turns, strict=True):
            one, other = cast("tuple[Picture, Picture]", pair[::-1] if swapped else pair)
            first.append(one.turned(int(turn)))
            second.append(other)
        shares = agreements(first, second, where.warps)
        return [
            (int(one), int(other), float(share))
            for (one, other), share in zip(some.pairs, shares, strict=True)
            if share >= AGREEING
        ]

    def _open(self, place: int) -> Picture | None:
        try:
            with Image.open(self._runtime.thumbnail(self.entries[place])) as image:
                return of_pixels(np.asarray(image.convert("RGB").resize((FINE, FINE), Image.Resampling.BOX)))
        except (ImgretError, OSError):
            self.unseen.add(place)
            return None

    def _plane(self, number: int) -> Pixels | None:
        """The grey plane of the picture of a row number, by its thumbnail."""
        picture = self._opened(int(np.searchsorted(self._numbers, number)))
        return None if picture is None else picture.plane()

    def _stop(self) -> bool:
        self.stopped = self.stopped or bool(self._cancelled and self._cancelled())
        return self.stopped

    def _told(self, stage: str, total: int, blocks: Iterator[tuple[int, _Found]]) -> Iterator[_Found]:
        """The results of blocks, and progress by how many items each has."""
        begun, done = time.perf_counter(), 0
        for count, found in blocks:
            done += count
            if self._progress is not None:
                rate = done / max(time.perf_counter() - begun, 1e-9)
                self._progress(Progress(stage, done, total, round(rate, 1), (total - done) / rate if rate else None))
            yield found


def _parts(proposals: Proposals) -> list[Proposals]:
    """Pairs in parts that have no picture in common; in each the likeliest pair of every group comes first, then the next."""
    held = _Held()
    for one, other in proposals.pairs:
        held.join(int(one), int(other))
    groups = np.unique([held.of(int(one)) for one in proposals.pairs[:, 0]], return_inverse=True)[1]
    order = np.lexsort((-proposals.placements.scores, groups))
    firsts = np.searchsorted(groups[order], groups[order])
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.arange(len(order)) - firsts
    parts = groups // _TOGETHER
    order = np.lexsort((groups, ranks, parts))
    ends = np.flatnonzero(np.diff(parts[order])) + 1
    return [proposals.where(chosen) for chosen in np.split(order, ends)]


class _Held:
    """Which numbers pairs hold together: a forest of disjoint sets."""

    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}

    def of(self, number: int) -> int:
        """The least number that `number` is held together with."""
        leaders = self._leaders
        while (leader := leaders.get(number, number)) != number:
            leaders[number] = number = leaders.get(leader, leader)
        return number

    def join(self, one: int, other: int) -> int:
        """Hold them together; the least of all that are now."""
        least, most = sorted((self.of(one), self.of(other)))
        self._leaders[most] = least
        return least


def _connected(pairs: Sequence[Pair]) -> list[list[int]]:
    """The members of each group that pairs hold together."""
    held = _Held()
    for one, other, _ in pairs:
        held.join(one, other)
    members: dict[int, list[int]] = {}
    for number in sorted({number for one, other, _ in pairs for number in (one, other)}):
        members.setdefault(held.of(number), []).append(number)
    return list(members.values())


def _group(alike: Sequence[Entry]) -> DuplicateGroup:
    largest = max(_area(entry) for entry in alike)
    most = max(entry.bytes for entry in alike if _area(entry) == largest)
    best = sorted(alike, key=lambda entry: _worth(entry, most))
    same = len({entry.sha256 for entry in alike}) == 1
    hits = [hit(entry, rank=rank, value=1.0, score=1.0) for rank, entry in enumerate(best, 1)]
    return DuplicateGroup("exact" if same else "near", best[0].id, hits, _reason(best[0], best[1], most))


def _area(entry: Entry) -> int:
    return entry.width * entry.height


def _packed(entry: Entry, most: int) -> bool:
    """Whether a file is clearly smaller than `most` bytes; a mirrored or watermarked copy's may be a little larger."""
    return entry.bytes < 0.8 * most


def _facts(entry: Entry) -> int:
    """How much is known of a picture besides its pixels."""
    known = (entry.taken, entry.camera, entry.latitude, entry.rating, entry.keywords, entry.caption)
    return sum(fact is not None for fact in known) + entry.label_by_user


def _worth(entry: Entry, most: int) -> tuple[object, ...]:
    """What to keep sorts first: there, larger, with metadata, not packed more than the one of `most` bytes, older."""
    shorter = len(Path(entry.path).name)
    return (entry.away, -_area(entry), -_facts(entry), _packed(entry, most), entry.mtime, shorter, entry.id)


def _reason(best: Entry, next_best: Entry, most: int) -> Message:
    """Why `best` is worth more than `next_best`."""
    if best.away != next_best.away:
        return Message("its file is there")
    if _area(best) != _area(next_best):
        return Message("larger: {width} x {height}", width=best.width, height=best.height)
    if _facts(best) != _facts(next_best):
        return Message("more metadata")
    if _packed(best, most) != _packed(next_best, most):
        return Message("sharper: less compressed")
    return Message("older") if best.mtime != next_best.mtime else Message("the first of equals")
