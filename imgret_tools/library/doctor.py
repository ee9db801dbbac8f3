"""The doctor: is a library well, and what can be done when it is not.

It looks at every layer: the catalogue's pages, the rows' number and length, Chroma against the catalogue, and a sample of
the pictures against their files. Looking needs no lock; Chroma is asked when nobody else has it open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import ImgretError, IndexUnavailable, LibraryDamaged
from imgret_tools.library import catalogue, derived
from imgret_tools.library.catalogue import Card
from imgret_tools.library.chroma import HNSW_SPACES, HnswSpace
from imgret_tools.library.feeding import CATCHES_UP, feed_waiting
from imgret_tools.library.library import Library
from imgret_tools.library.rows import row_file
from imgret_tools.library.view import View
from imgret_tools.library.writer import Picture, Writer
from imgret_tools.records import Entry

SAMPLE = 200
_BLOCK = 8192
_SAME = 1e-3

Judge = Callable[[Sequence[Entry], NDArray[np.float32]], list[str]]
"""Looks at the files of some entries and says which rows (n, dim) are not theirs, one sentence each; given from above,
since a library knows neither decoders nor encoders."""


def check(library: Library, *, sample: int = SAMPLE, judge: Judge | None = None) -> list[str]:
    """What is wrong with a library, one sentence each; empty when all is well.

    Args:
        library: which.
        sample: how many rows have to find themselves by HNSW, or a twin with the very same row.
        judge: looks at files against rows.
    """
    problems = _catalogue_problems(library.home)
    if problems:
        return problems
    with library.view() as view:
        problems += _row_problems(view)
        problems += _index_problems(library, view, sample)
        if judge is not None and not problems and len(view):
            chosen = np.random.default_rng(0).permutation(view.numbers)[: min(sample, 20)]
            problems += judge(view.entries(chosen), np.asarray(view.matrix[chosen]))
    return problems


def _catalogue_problems(home: Path) -> list[str]:
    with closing(catalogue.connect(home)) as connection:
        try:
            found = [words for (words,) in connection.execute("PRAGMA quick_check(5)")]
            card = catalogue.read_card(connection)
            (images,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        except sqlite3.DatabaseError as error:
            return [f"The catalogue is damaged ({error})."]
    if found != ["ok"]:
        return [f"The catalogue is damaged ({'; '.join(found)})."]
    if images != card.images:
        return [f"The catalogue counts {card.images} images and holds {images}."]
    return []


def _row_problems(view: View) -> list[str]:
    bad = 0
    for start in range(0, len(view.numbers), _BLOCK):
        rows = np.asarray(view.matrix[view.numbers[start : start + _BLOCK]])
        lengths = np.linalg.norm(rows, axis=1)
        bad += int((~np.isfinite(lengths) | (np.abs(lengths - 1) > _SAME) & (lengths != 0)).sum())
    return [f"{bad} of {len(view)} rows are no unit rows: their file was changed."] if bad else []


def _index_problems(library: Library, view: View, sample: int) -> list[str]:
    problems: list[str] = []
    if not library.index.is_server and len(view.waiting()) > CATCHES_UP:
        return problems  # left behind on purpose, and not asked by any search
    try:
        with library.index.opened(view.card, "checking", wait=3):
            feed_waiting(library.home, library.index)
            _, ids = view.in_order_of_ids()
            for space in HNSW_SPACES:
                held = library.index.ids(space)
                if missing := set(ids) - held:
                    problems.append(
                        f"{len(missing)} of {len(ids)} images are missing from Chroma's {space} collection."
                    )
                if extra := held - set(ids):
                    problems.append(f"Chroma's {space} collection holds {len(extra)} images that the catalogue lacks.")
                lost = _unreachable(library, view, space, sample)
                if lost:
                    problems.append(
                        f"{lost} sampled images do not find themselves by HNSW in Chroma's {space} collection."
                    )
    except IndexUnavailable as error:
        problems.append(str(error))
    return problems


def _unreachable(library: Library, view: View, space: HnswSpace, sample: int) -> int:
    """How many of a sample of the rows HNSW does not find when asked for them; Chroma has to be open."""
    chosen = view.numbers[np.linspace(0, len(view) - 1, min(sample, len(view))).astype(int)]
    lost = 0
    for row in np.asarray(view.matrix[chosen]):
        found = [view.find(id_) for id_, _ in library.index.nearest(row, 3, space=space)]
        rows = view.matrix[[number for number in found if number is not None]]
        lost += not bool((np.abs(rows - row).max(axis=1, initial=0) < 1e-5).any())
    return lost


def heal_index(library: Library, writer: Writer, *, sample: int = SAMPLE) -> None:
    """Make Chroma anew if a writer that died while it had Chroma open left rows that HNSW cannot reach any more."""
    with library.view() as view:
        if not any(_unreachable(library, view, space, sample) for space in HNSW_SPACES):
            return
    writer.close_index()
    writer.wipe_index()
    if not writer.open_index("mending Chroma"):
        writer.feed()


def rebuild(library: Library) -> int:
    """Make a library whole again out of what is left of it; returns how many pictures it holds.

    Chroma's files are made anew from the catalogue and the rows. Where those are damaged, they are made anew from Chroma.
    Pictures of which neither has a row leave; indexing their folders again brings them back.

    Raises:
        LibraryDamaged: neither can be read.
    """
    try:
        damaged = bool(_catalogue_problems(library.home))
    except LibraryDamaged:
        damaged = True
    if damaged:
        _catalogue_from_chroma(library)
    with library.writing("rebuilding") as writer:
        _mend_rows(library, writer)
        derived.wipe(library.home)
        writer.wipe_index()
        if reason := writer.open_index("rebuilding"):
            raise IndexUnavailable(reason)
        writer.feed()
        writer.sweep()
        return writer.card.images


def _mend_rows(library: Library, writer: Writer) -> None:
    """Rows that the file lacks or that are no unit rows come back from Chroma where it has them; else their pictures leave."""
    card = writer.card
    file = row_file(library.home, card)
    with closing(catalogue.connect(library.home, write=True)) as connection:
        there = file.whole()
        if there < card.stored:
            file.append(np.zeros((card.stored - there, card.dim), np.float32), after=there)
        lost: dict[str, Entry] = {}
        matrix = file.matrix(card.stored)
        for start in range(0, card.stored, _BLOCK):
            lengths = np.linalg.norm(matrix[start : start + _BLOCK], axis=1)
            wrong = start + np.flatnonzero(~np.isfinite(lengths) | (np.abs(lengths - 1) > _SAME))
            for found in connection.execute(
                f"SELECT {', '.join(catalogue.ENTRY)} FROM entries WHERE row IN ({','.join(map(str, wrong))})"
            ):
                lost[str(found[0])] = catalogue.entry_of(found)
    if not lost:
        return
    pictures: list[Picture] = []
    with suppress(IndexUnavailable), library.index.opened(card, "rebuilding", wait=10, writer=True):
        for ids, facts, rows in library.index.contents():
            for id_, fact, row in zip(ids, facts, rows, strict=True):
                if id_ in lost and fact.get("sha256") == lost[id_].sha256:
                    pictures.append(Picture(lost.pop(id_), np.asarray(row), None))
    writer.store(pictures)
    writer.remove(lost)


def _catalogue_from_chroma(library: Library) -> None:
    home = library.home
    card = Card(name=home.name, encoder="", fingerprint="", dim=1, pixel_size=64)
    pictures: list[Picture] = []
    try:
        with library.index.opened(card, "rebuilding", wait=10, writer=True, any_encoder=True):
            known = library.index.identity()
            for ids, facts, rows in library.index.contents():
                card = replace(card, dim=rows.shape[1])
                for id_, fact, row in zip(ids, facts, rows, strict=True):
                    named = {name: value for name, value in fact.items() if name in catalogue.ENTRY}
                    pictures.append(Picture(Entry(id=id_, **named), np.asarray(row), None))  # type: ignore[arg-type]
    except ImgretError as error:
        raise LibraryDamaged(
            "The library at {home} cannot be repaired: neither its catalogue nor Chroma's files can be read "
            "({error}). `imgret delete {name}` takes it away; then index its folders again.",
            home=home,
            error=error,
            name=home.name,
        ) from error
    if not pictures:
        raise LibraryDamaged(
            "The library at {home} cannot be repaired: its catalogue is damaged and Chroma holds no picture. "
            "`imgret delete {name}` takes it away; then index its folders again.",
            home=home,
            name=home.name,
        )
    card = replace(
        card,
        name=str(known.get("library") or home.name),
        encoder=str(known.get("encoder", "")),
        fingerprint=str(known.get("fingerprint", "")),
        pixel_size=int(str(known.get("pixel_size", 64))),
        folders=tuple(sorted({picture.entry.folder for picture in pictures})),
    )
    library.forget_connections()
    for file in (*home.glob(f"{catalogue.FILE}*"), *home.glob("rows-*.f32"), *home.glob("pixels-*.u8")):
        file.unlink()
    catalogue.create(home, card)
    with library.writing("rebuilding") as writer:
        for start in range(0, len(pictures), _BLOCK):
            writer.store(pictures[start : start + _BLOCK])
