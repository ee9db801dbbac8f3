"""Pictures found in a folder, with what was passed over and why.

Every file seen is either a picture to index or passed over with its kind and its reason; of a folder that is left out
the folder alone is named, since nothing in it is looked at. What a file is, its content decides: the name settles only
what is called like a picture (opening it tells whether it is one) or like something that never is (`formats.OTHERS`);
of any other name the first 64 bytes are read.

What keeps a folder or a file out, in the order it is asked:

    hidden names            a leading dot (`.jpg` alone is a picture without a name)
    leave_out               our own data folder, wherever it lies
    system folders          trash, snapshots and thumbnails of systems, NAS and photo programs (`_SYSTEM`)
    .nomedia, CACHEDIR.TAG  a file of that name in the folder, as Android and backup programs read them
    exclude, .imgretignore  patterns in the syntax of .gitignore; a file's patterns count from its own folder down
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from imgret_tools.errors import BadInput, Message, NotFound, own_words
from imgret_tools.pictures.formats import (
    HEAD,
    OTHERS,
    SUFFIXES,
    SYSTEM_FILES,
    format_of,
    missing,
    other_kind,
    suffix_of,
)
from imgret_tools.pictures.open import kind_of_file
from imgret_tools.pictures.thumbnails import CACHE_SIGN
from imgret_tools.records import Failure, quoted

IGNORE_FILE = ".imgretignore"
_SYSTEM = re.compile(
    r"@eaDir|@tmp|@sharebin|@Recycle|@Recently-Snapshot|#recycle|#snapshot|~snapshot|\$RECYCLE\.BIN|\$WINDOWS\.~\w+"
    r"|RECYCLE[DR]|System Volume Information|FOUND\.\d{3}|__MACOSX|lost\+found|Network Trash Folder|Temporary Items"
    r"|TheVolumeSettingsFolder|iPod Photo Cache|_gsdata_|_vti_cnf|node_modules|bower_components|__pycache__"
    r"|.*\.(?:lrdata|lrcat-data|cocatalogdb|cosessiondb|photoslibrary-\w+|fcpcache|dtBase2)",
    re.IGNORECASE,
)
_PHOTO_LIBRARY = re.compile(r".*\.(?:photoslibrary|aplibrary|photolibrary|migratedphotolibrary)", re.IGNORECASE)
_ORIGINALS = frozenset({"originals", "masters"})
"""Where a photo library of macOS keeps the pictures themselves; all its other folders hold smaller copies."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A file to index: `bytes` long, its content last changed at `mtime` ns, its inode at `ctime` ns."""

    path: Path
    bytes: int
    mtime: int
    ctime: int = 0


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A file, or a whole folder, that is not indexed: `kind` is a short group name to count by, `reason` says why."""

    path: str
    reason: str
    folder: bool = False
    kind: str = "unknown"


@dataclass(slots=True)
class Skipped:
    """What a walk passed over, in little memory: every one counted by its kind, the first `most` of a kind kept.

    Attributes:
        counts: files (and folders left out whole) by kind.
        first: the first ones of each kind, with their reasons.
        unread: paths of folders and files that could not be read or followed this time; what a library knows of them
            is not gone.
    """

    most: int = 20
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[Failure]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, passed: PassedOver) -> None:
        """Count `passed`."""
        self.counts[passed.kind] += 1
        if self.counts[passed.kind] <= self.most:
            self.first.setdefault(passed.kind, []).append(Failure(path=passed.path, reason=passed.reason))
        if passed.kind == "unreadable":
            self.unread.append(passed.path)

    def unexpected(self) -> list[Failure]:
        """The first ones of the kinds that might have been expected to be indexed."""
        return [failure for kind, failures in self.first.items() if kind not in _EXPECTED for failure in failures]

    def others(self) -> int:
        """How many files are of another kind (text, video, ...)."""
        return sum(count for kind, count in self.counts.items() if kind in _EXPECTED)

    def __str__(self) -> str:
        return ", ".join(f"{kind} {count}" for kind, count in self.counts.most_common())


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, sorted by path; letter case decides only between equals.

    `kinds` counts all that was passed over by its kind, `skipped` lists what might have been expected to be indexed,
    `others` counts the rest: files of another kind (text, video, ...).
    """

    images: list[FoundImage]
    skipped: list[Failure]
    others: int
    kinds: dict[str, int] = field(default_factory=dict)


def walk(
    folder: Path, *, leave_out: Collection[Path] = (), exclude: Sequence[str] = ()
) -> Iterator[FoundImage | PassedOver]:
    """Every file under `folder`, one at a time in memory: pictures to index, and what is passed over with its reason.

    Folders and files come sorted by name; letter case decides only between equals.

    Empty files, pipes, sockets and devices are passed over. Links to files inside `folder` are followed, links that
    leave it are not; links to folders never are, so a cycle cannot trap the walk.

    Args:
        folder: where to look.
        leave_out: real paths of folders to leave out, such as our own data folder.
        exclude: patterns of what to leave out, in the syntax of .gitignore, from `folder` down.

    Raises:
        NotFound: there is no such folder.
        BadInput: it is a file, or may not be read, or a pattern cannot be understood.
    """
    if not os.path.lexists(folder):
        raise NotFound(
            "No folder at {folder}; give the path of an existing folder with pictures.", folder=quoted(str(folder))
        )
    if not folder.is_dir():
        raise BadInput("{folder} is not a folder; give the folder that holds the pictures.", folder=quoted(str(folder)))
    try:
        root, top = folder.resolve(), _listed(folder)
    except OSError as error:
        raise BadInput(
            "The folder {folder} cannot be read ({reason}); grant access or choose another.",
            folder=quoted(str(folder)),
            reason=own_words(error),
        ) from error
    rules = (_Rules(len(str(folder).rstrip(os.sep)) + 1, patterns(exclude), "exclude"),) if exclude else ()
    own = {str(path) for path in leave_out}
    frames: list[_Frame] = []
    found = _entered(str(folder), top, rules)
    if isinstance(found, PassedOver):
        yield found
    else:
        frames.append(found)
    while frames:
        frame = frames[-1]
        if not frame.entries:
            frames.pop()
            continue
        entry = frame.entries.pop()
        verdict = _judged(entry, root, frame.rules, frame.photo_library)
        if verdict is not None:
            yield verdict
        elif own and str(Path(entry.path).resolve()) in own:
            yield PassedOver(_printable(entry.path), "our own data folder", True, "own data")
        else:
            try:
                found = _entered(entry.path, _listed(Path(entry.path)), frame.rules)
            except OSError as error:
                reason = Message("unreadable folder: {reason}", reason=own_words(error))
                yield PassedOver(_printable(entry.path), reason, True, "unreadable")
                continue
            if isinstance(found, PassedOver):
                yield found
            else:
                frames.append(found)


def system_folder(name: str) -> bool:
    """Whether systems, NAS and photo programs call their own copies, caches or trash so."""
    return _SYSTEM.fullmatch(name) is not None


def find_images(folder: Path, *, leave_out: Collection[Path] = (), exclude: Sequence[str] = ()) -> Scan:
    """What `walk` finds, as lists; for folders that fit in memory."""
    images: list[FoundImage] = []
    skipped: list[Failure] = []
    kinds: Counter[str] = Counter()
    for found in walk(folder, leave_out=leave_out, exclude=exclude):
        if isinstance(found, FoundImage):
            images.append(found)
            continue
        kinds[found.kind] += 1
        if found.kind not in _EXPECTED:
            skipped.append(Failure(path=found.path, reason=found.reason))
    return Scan(images, skipped, sum(kinds.values()) - len(skipped), dict(kinds))


_EXPECTED = frozenset(OTHERS.values()) - {"picture format not read", "unfinished download"} | {
    "unknown",
    "text",
    "web page",
    "system file",
}
"""Kinds of files that nobody expects in a picture search."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """Patterns and how many letters of a path belong to the folder from which they count."""

    skip: int
    spec: GitIgnoreSpec
    source: str


@dataclass(slots=True)
class _Frame:
    """A folder under way: its entries still to judge, last first, and the patterns that hold in it."""

    entries: list[os.DirEntry[str]]
    rules: tuple[_Rules, ...]
    photo_library: bool


def _entered(path: str, entries: list[os.DirEntry[str]], rules: tuple[_Rules, ...]) -> _Frame | PassedOver:
    """The folder `path` ready to be walked, or why it is left out by a file in it."""
    names = {entry.name for entry in entries}
    if ".nomedia" in names:
        return PassedOver(
            _printable(path), "the folder holds a file .nomedia; delete that to index it", True, ".nomedia"
        )
    if "CACHEDIR.TAG" in names and _head(f"{path}{os.sep}CACHEDIR.TAG").startswith(CACHE_SIGN):
        return PassedOver(_printable(path), "the folder is marked as a cache by its CACHEDIR.TAG", True, "cache")
    if IGNORE_FILE in names:
        try:
            lines = Path(path, IGNORE_FILE).read_text(encoding="utf-8-sig").splitlines()
            rules = (*rules, _Rules(len(path.rstrip(os.sep)) + 1, patterns(lines), IGNORE_FILE))
        except (OSError, UnicodeDecodeError, BadInput) as error:  # what was to be kept out stays out
            reason = Message(
                "its {ignore_file} cannot be used ({reason}), so all of the folder is left out",
                ignore_file=IGNORE_FILE,
                reason=own_words(error),
            )
            return PassedOver(_printable(path), reason, True, "unreadable")
    return _Frame(entries[::-1], rules, _PHOTO_LIBRARY.fullmatch(Path(path).name) is not None)


def patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    """The patterns of `lines`, in the syntax of .gitignore.

    Raises:
        BadInput: one cannot be understood; the first of them is named.
    """
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError as error:
            raise BadInput(
                "Pattern {number} is {line}, which cannot be understood ({reason}); use the syntax of .gitignore, "
                "like private/ or *.png.",
                number=number,
                line=quoted(line),
                reason=own_words(error),
            ) from error
    return GitIgnoreSpec.from_lines(lines)


def _ruled_out(path: str, folder: bool, rules: tuple[_Rules, ...]) -> str:
    """Which patterns leave `path` out, or ""; of several files the deepest decides, in a file the last pattern."""
    for rule in reversed(rules):
        inside = path[rule.skip :].replace(os.sep, "/")
        verdict = rule.spec.check_file(f"{inside}/" if folder else inside).include
        if verdict is not None:
            return rule.source if verdict else ""
    return ""


def _judged(
    entry: os.DirEntry[str], root: Path, rules: tuple[_Rules, ...], photo_library: bool
) -> FoundImage | PassedOver | None:
    """A picture, or why it is passed over; None for a folder to walk into."""
    name = entry.name
    suffix = suffix_of(name)
    hidden = name.startswith(".") and not (name.count(".") == 1 and suffix in SUFFIXES)

    def passed(kind: str, reason: str, folder: bool = False) -> PassedOver:
        return PassedOver(_printable(entry.path), reason, folder, kind)

    try:
        link = entry.is_symlink()
        if entry.is_dir():
            if link:
                return passed(
                    "link",
                    Message(
                        "link to a folder ({target}); index that folder itself",
                        target=_printable(str(Path(entry.path).readlink())),
                    ),
                )
            if hidden:
                return passed("hidden", "hidden folder", True)
            if system_folder(name) or (photo_library and name.lower() not in _ORIGINALS):
                return passed("system folder", "system folder: copies, caches or trash", True)
            if rules and (source := _ruled_out(entry.path, True, rules)):
                return passed("excluded", Message("left out by {source}", source=source), True)
            return None
        if hidden and name.lower() not in SYSTEM_FILES:
            return passed(*_hidden(name, suffix))
        if rules and (source := _ruled_out(entry.path, False, rules)):
            return passed("excluded", Message("left out by {source}", source=source))
        if suffix in OTHERS or name.lower() in SYSTEM_FILES:
            kind = "system file" if name.lower() in SYSTEM_FILES else OTHERS[suffix]
            return passed(kind, _of_kind(kind, suffix))
        if link and not Path(entry.path).resolve(strict=True).is_relative_to(root):
            return passed(
                "link",
                Message("link leaving the folder ({target})", target=_printable(str(Path(entry.path).readlink()))),
            )
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            return passed("special file", Message("not a regular file but {kind}", kind=kind_of_file(facts.st_mode)))
        if facts.st_size == 0:
            return passed("empty", "empty (zero bytes)")
        entry.path.encode()
        if suffix not in SUFFIXES or (SUFFIXES[suffix].module and missing(SUFFIXES[suffix].name)):
            head = _head(entry.path)
            if not (kind := format_of(head)):
                kind = other_kind(head) if suffix not in SUFFIXES else SUFFIXES[suffix].name
            if kind == "TIFF" and suffix in SUFFIXES:
                kind = "RAW"  # most cameras' files are a TIFF with more in it
            if kind not in _READ:
                return passed(kind, _of_kind(kind, suffix))
            if without := missing(kind):
                return passed(kind, without)
    except UnicodeEncodeError:
        return passed("name", "the name is not valid UTF-8; rename the file")
    except FileNotFoundError:
        if entry.is_symlink():
            return passed("link", "link to nothing")
        return passed("vanished", "vanished while the folder was read")
    except (OSError, RuntimeError) as error:
        return passed("unreadable", Message("unreadable: {reason}", reason=own_words(error)))
    return FoundImage(Path(entry.path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


_READ = frozenset(form.name for form in SUFFIXES.values())


def _hidden(name: str, suffix: str) -> tuple[str, str]:
    """The kind and the reason of a hidden file."""
    if suffix == ".icloud":
        return "in the cloud", "not on this machine: iCloud holds it; download it there first"
    if name.startswith("._"):
        return "hidden", "hidden: macOS's notes about another file"
    return "hidden", "hidden"


def _of_kind(kind: str, suffix: str) -> str:
    """Why a file of another kind is not indexed."""
    if kind == "unfinished download":
        return "an unfinished download" if suffix != ".icloud" else "not on this machine: iCloud holds it"
    if kind == "unknown":
        return "no picture: its first bytes are those of no format read here"
    return Message("no picture format that is read: {kind}", kind=kind) + (f" ({suffix})" if suffix else "")


def _head(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123, twice as fast as Path.open in a walk
        return file.read(HEAD)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.name))


def _printable(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
