"""Cleaned pictures as `train/<class>` and `test/<class>`, the layout that imagefolder loaders and `imgret index` read.

The order within a class comes from a hash of seed and path, not from a shuffle: the same pictures always go the same
way, and a few new ones move few old ones. Near-duplicates, of one class or of several, are never on both sides.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import zipfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from imgret_tools.collect.spec import Classes, write_json
from imgret_tools.collect.steps.duplicates import NEAR, NEAR_COSINE, Rows, groups, matrix_of, signature, stack
from imgret_tools.collect.steps.meter import Cancelled, Meter, OnProgress
from imgret_tools.collect.steps.names import short_hash
from imgret_tools.errors import BadInput, CollectError, ImageError
from imgret_tools.pictures.find import find_images
from imgret_tools.pictures.open import open_picture
from imgret_tools.records import Failure, Record, quoted

PLAN = "split.json"
Side = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class SplitReport(Record):
    """A split: pictures a class and side. `left_out` were over the number, `near_left_out` too like a test picture."""

    out: str
    classes: dict[str, dict[str, int]]
    train: int
    test: int
    left_out: int
    near_left_out: int
    failed: list[Failure]
    seed: int
    near: int
    seconds: float
    zip: str = ""
    notices: list[str] = field(default_factory=list)
    cancelled: bool = False

    def __str__(self) -> str:
        lines = [
            f"{len(self.classes)} classes in {quoted(self.out)}: {self.train} train and {self.test} test pictures, "
            f"{self.left_out} left out, {self.near_left_out} too like a test picture, {len(self.failed)} unreadable "
            f"(seed {self.seed}, near-duplicates up to hash distance {self.near}); {self.seconds:.1f} s.",
        ]
        if self.zip:
            lines.append(f"Packed into {quoted(self.zip)}.")
        if self.cancelled:
            lines.append("Stopped before anything was written; run it again.")
        return "\n".join([*lines, *self.notices])


def split(
    folder: Path,
    out: Path,
    *,
    test: int = 1,
    train: int = 19,
    seed: int = 0,
    classes: Classes = "term",
    near: int = NEAR,
    rows: Rows | None = None,
    cosine: float = NEAR_COSINE,
    link: bool = False,
    pack: bool = False,
    progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> SplitReport:
    """Copies up to `train` and `test` pictures a class into `out/train/<class>` and `out/test/<class>`.

    Args:
        folder: pictures in `<category>/<term>/` or simply `<class>/`.
        out: a new or empty folder, or one of an earlier split, which is then brought up to date.
        test: test pictures a class; a class never loses its last group of train pictures to them.
        train: train pictures a class.
        seed: another seed, another choice.
        classes: `term` takes the folder a picture lies in, `category` the first folder below `folder`. Two terms of one
            name become `<category>_<term>`.
        near: largest hash distance of near-duplicates in bits of 64; -1 lets only identical files hang together.
        rows: embedding rows (d,) by path relative to `folder`; a cosine of at least `cosine` is near too.
        link: hard links instead of copies, where the file system can.
        pack: also write `<out>.zip`.

    Raises:
        NotFound: there is no such folder. BadInput: a number out of range. CollectError: no classes, or `out` is taken.
    """
    started = time.monotonic()
    folder, out = Path(folder), Path(out)
    if test < 0 or train < 1 or not -1 <= near <= 32:
        raise BadInput("test must be at least 0, train at least 1, near between -1 and 32.")
    inside, outside = out.resolve(), folder.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise BadInput(
            "{out} and {folder} lie inside each other; choose an output folder beside the pictures.",
            out=out,
            folder=folder,
        )
    earlier = _earlier(out)
    found = [Path(image.path).relative_to(folder).as_posix() for image in find_images(folder).images]
    if not (label := _labels(found, classes)):
        raise CollectError(
            "{folder} has no pictures in sub-folders; expected <class>/picture.jpg or <category>/<term>/....",
            folder=folder,
        )
    meter = Meter("split", len(label), progress)
    failed: list[Failure] = []
    paths: list[str] = []
    signatures = []
    for path in label:
        if cancelled is not None and cancelled():
            return SplitReport(str(out), {}, 0, 0, 0, 0, failed, seed, near, time.monotonic() - started, cancelled=True)
        try:
            signatures.append(signature(open_picture(folder / path, at_least=64).image))
            paths.append(path)
        except ImageError as error:
            failed.append(Failure(path, str(error)))
        meter.tick(path)
    # Identical pictures have equal signatures, so a threshold of 0 always holds copies together.
    group = dict(
        zip(paths, groups(stack(signatures), matrix_of(rows, paths), near=max(near, 0), cosine=cosine), strict=True)
    )
    sides, near_left_out = _sides({p: label[p] for p in paths}, group, test=test, train=train, seed=seed)
    names = _names(sides, label)
    try:
        _write(folder, out, names, earlier, link=link)
        write_json(
            out / PLAN,
            {
                "seed": seed,
                "test": test,
                "train": train,
                "near": near,
                "files": [
                    {"path": names[path], "source": path, "class": label[path], "split": side}
                    for path, side in sides.items()
                ],
            },
        )
        packed = _pack(out, sorted(names.values())) if pack else ""
    except OSError as error:
        raise CollectError(
            "{out} cannot be written ({error}); free some space and run it again.", out=out, error=error
        ) from error
    counts: dict[str, dict[str, int]] = {name: {"train": 0, "test": 0} for name in sorted(set(label.values()))}
    for path, side in sides.items():
        counts[label[path]][side] += 1
    return SplitReport(
        out=str(out),
        classes=counts,
        train=sum(count["train"] for count in counts.values()),
        test=sum(count["test"] for count in counts.values()),
        left_out=len(paths) - len(sides) - near_left_out,
        near_left_out=near_left_out,
        failed=failed,
        seed=seed,
        near=near,
        seconds=time.monotonic() - started,
        zip=packed,
        notices=[
            f"Class {quoted(name)} has {count['test']} test pictures of {test}: too few that are not near-duplicates."
            for name, count in counts.items()
            if count["test"] < test
        ],
    )


def _labels(paths: list[str], classes: Classes) -> dict[str, str]:
    """The class of every picture in a sub-folder; folders that share a name, letter case aside, are told apart."""
    parents = {path: PurePosixPath(path).parent.parts for path in paths if "/" in path}
    if classes == "category":
        return {path: parts[0] for path, parts in parents.items()}
    owners: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for parts in parents.values():
        owners[parts[-1].casefold()].add(parts)
    return {
        path: parts[-1] if len(owners[parts[-1].casefold()]) == 1 else "_".join(parts)
        for path, parts in parents.items()
    }


def _sides(
    label: dict[str, str], group: dict[str, int], *, test: int, train: int, seed: int
) -> tuple[dict[str, Side], int]:
    """The side of every chosen picture, and how many were left out because a test picture is nearly the same."""
    members: dict[int, list[str]] = defaultdict(list)
    for path, index in group.items():
        members[index].append(path)
    by_class: dict[str, list[str]] = defaultdict(list)
    for path in sorted(
        label, key=lambda path: hashlib.sha256(f"{seed}:{path}".encode("utf-8", "surrogateescape")).digest()
    ):
        by_class[label[path]].append(path)
    sides: dict[str, Side] = {}
    tested: set[int] = set()
    for name in sorted(by_class):
        free, wanted = {group[path] for path in by_class[name]} - tested, test
        # Pictures without a double first: a test picture costs the train side its whole group.
        for path in sorted(by_class[name], key=lambda path: len(members[group[path]])):
            if not wanted or len(free) <= 1:
                break
            if group[path] in free:
                sides[path] = "test"
                tested.add(group[path])
                free.discard(group[path])
                wanted -= 1
    near = 0
    for name in sorted(by_class):
        rest = [path for path in by_class[name] if path not in sides]
        allowed = [path for path in rest if group[path] not in tested]
        near += len(rest) - len(allowed)
        sides.update(dict.fromkeys(allowed[:train], "train"))
    return dict(sorted(sides.items())), near


def _names(sides: dict[str, Side], label: dict[str, str]) -> dict[str, str]:
    """Where each picture goes below the output folder; a name taken by another gets a hash of its old path."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for path, side in sides.items():
        old = PurePosixPath(path)
        name = f"{side}/{label[path]}/{old.name}"
        if name.casefold() in taken:
            name = f"{side}/{label[path]}/{old.stem}-{short_hash(path)}{old.suffix}"
        taken.add(name.casefold())
        names[path] = name
    return names


def _earlier(out: Path) -> list[str]:
    """The files an earlier split put into `out`; CollectError when something else is in there."""
    if not out.exists() or not any(out.iterdir()):
        return []
    try:
        plan = json.loads((out / PLAN).read_text(encoding="utf-8"))
        return [str(file["path"]) for file in plan["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise CollectError("{out} holds files that no split made; choose a new or an empty folder.", out=out) from None


def _write(folder: Path, out: Path, names: dict[str, str], earlier: list[str], *, link: bool) -> None:
    """Brings `out` up to date: an earlier split's copies that are no longer wanted go, the others are written anew."""
    root = out.resolve()
    for stale in earlier:
        path = (root / stale).resolve()
        if path.is_relative_to(root) and path.is_file():
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    for source, name in names.items():
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            try:
                os.link(folder / source, target)
                continue
            except OSError:
                pass  # another file system, or one without links: a copy does the same
        shutil.copy2(folder / source, target)


def _pack(out: Path, names: list[str]) -> str:
    """`<out>.zip` with the pictures as they are, stored: the same split gives the same bytes."""
    target = out.with_name(f"{out.name}.zip")
    partial = out.with_name(f".{out.name}.zip.tmp")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            with (out / name).open("rb") as source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                shutil.copyfileobj(source, entry)
    partial.replace(target)
    return str(target)
