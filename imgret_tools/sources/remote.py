"""Files that fsspec opens: s3://, gs://, hf://, https://, memory:// and others.

Change marks are the store's own (etag, checksum, generation), its size and its time of change. A listing is asked page by page where the
store has pages that fsspec gives out (S3), else folder by folder; nothing is sorted. What fails for a moment is tried again;
credentials that are missing or expired end a run, with what it has done kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from pathspec import GitIgnoreSpec

from imgret_tools.errors import BadInput, ImageError, ImgretError, Message, MissingExtra, NotFound, own_words
from imgret_tools.extras import needs
from imgret_tools.hosts import why_refused
from imgret_tools.pictures.find import PassedOver, patterns, system_folder
from imgret_tools.pictures.formats import OTHERS, SUFFIXES, missing, suffix_of
from imgret_tools.records import quoted
from imgret_tools.sources.source import UNKNOWN, Listed, excluded, inner, mark_of

ATTEMPTS = 4
PAUSE = 0.25
"""Seconds before the second attempt; each further one waits four times as long."""
WHOLE = 32 << 20
"""Bytes up to which a file is read in one request, which a store answers from one version of it."""
_RANGE = 8 << 20
LARGEST = 2 << 30
_ASKING = 16
"""Requests at once for the facts of files that a listing does not tell."""

_MARKS = (
    "ETag", "etag", "e_tag", "generation", "md5Hash", "Content-MD5", "Digest", "content_md5", "crc32c", "checksum", "blob_id", "VersionId",
    "sha256",
)  # fmt: skip
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "Last-Modified", "last_commit", "modified", "created")
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE) or `aws sso login`",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`",
    "hf": "HF_TOKEN or `hf auth login`",
}
_REFUSED = frozenset({
    "NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError",
    "DefaultCredentialsError", "RefreshError", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired",
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId", "AuthFailure", "GatedRepoError", "401",
})  # fmt: skip
"""Names of errors and codes of answers that say that credentials are missing, wrong or expired."""

Facts = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Remote:
    """The pictures below an address; the names of its folders are labels."""

    root: str
    holds: bool = True

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """Every object below the address, in the store's order; memory stays flat."""
        spec = patterns(exclude) if exclude else None
        found = (self._judged(facts, spec) for facts in below(self.root))
        if not self.root.startswith("http"):
            yield from found
            return
        yield from asked(found)

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """The object's bytes."""
        return read(path, size=size)

    def _judged(self, facts: Facts, spec: GitIgnoreSpec | None) -> Listed | PassedOver:
        path = str(facts["path"])
        inside = path[len(self.root) :].lstrip("/")
        *folders, name = inside.split("/")
        suffix, size = suffix_of(name), _size(facts)
        if hidden := next((part for part in (*folders, name) if part.startswith(".")), ""):
            return (
                PassedOver(path, Message("hidden"), kind="hidden")
                if hidden == name
                else PassedOver(path, Message("hidden folder"), kind="hidden")
            )
        if any(map(system_folder, folders)):
            return PassedOver(path, Message("system folder: copies, caches or trash"), kind="system folder")
        if spec is not None and spec.match_file(inside):
            return excluded(path)
        if size == 0:
            return PassedOver(path, Message("empty (zero bytes)"), kind="empty")
        if suffix in OTHERS:
            kind = OTHERS[suffix]
            return PassedOver(path, Message("no picture format that is read: {kind}", kind=kind), kind=kind)
        form = SUFFIXES.get(suffix)
        if form is not None and (without := missing(form.name)):
            return PassedOver(path, without, kind=form.name)
        if form is None and suffix:
            return PassedOver(path, Message("its name is not that of a picture"), kind="unknown")
        return Listed(path, size, _changed(facts), mark(facts))


def below(root: str) -> Iterator[Facts]:
    """The facts of every file below an address, each with its `path`.

    Raises:
        NotFound, BadInput: there is nothing at that address, or it cannot be listed.
    """
    system, start = opened(root)
    if getattr(system, "call_s3", None) is not None:
        yield from _pages_of_s3(system, root, start)
        return
    scheme = root.partition("://")[0]
    folders, visited = [start], {start}
    while folders:
        here = folders.pop()
        try:
            entries = _tried(partial(system.ls, here, detail=True), root)
        except NotFound:
            if here != start:
                continue  # it went while the others were listed
            raise
        for facts in entries:
            name = str(facts["name"])
            path = name if "://" in name else f"{scheme}://{name.lstrip('/')}"
            if not path.startswith(f"{root}/") or path.rstrip("/") == f"{scheme}://{here}".rstrip("/"):
                if here == start and path == root and facts.get("type") == "file":
                    yield {**facts, "path": path}
                continue
            if facts.get("type") == "directory":
                if name not in visited:  # an index page links to itself
                    visited.add(name)
                    folders.append(name)
            elif not (path.endswith("/") or (scheme.startswith("http") and "?" in path)):
                yield {**facts, "path": path}


def _pages_of_s3(system: Any, root: str, start: str) -> Iterator[Facts]:
    """A thousand names at a time, as S3 lists them."""
    bucket, _, prefix = start.partition("/")
    further: dict[str, str] = {}
    seen = False
    while True:
        ask = partial(
            system.call_s3, "list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", **further
        )
        page = _tried(ask, root)
        for facts in page.get("Contents", ()):
            seen = True
            if not str(facts["Key"]).endswith("/"):
                yield {**facts, "path": f"{root.partition('://')[0]}://{bucket}/{facts['Key']}"}
        if not page.get("IsTruncated"):
            break
        further = {"ContinuationToken": page["NextContinuationToken"]}
    if not seen and prefix:
        facts = facts_of(root)
        if facts.get("type") == "file":
            yield {**facts, "path": root}


def asked(
    found: Iterator[Listed | PassedOver], *, guarded: Callable[[str], bool] = lambda _: False
) -> Iterator[Listed | PassedOver]:
    """What was found, with the facts that only a request for each tells; what cannot be asked now is passed over.

    Args:
        found: what is to be asked for.
        guarded: whether an address may lead to public machines only.
    """
    with ThreadPoolExecutor(_ASKING) as askers:
        while page := list(islice(found, 16 * _ASKING)):
            yield from askers.map(lambda one: _asked(one, guarded), page)


def _asked(found: Listed | PassedOver, guarded: Callable[[str], bool]) -> Listed | PassedOver:
    if isinstance(found, PassedOver):
        return found
    try:
        facts = facts_of(found.path, guarded=guarded(found.path))
    except NotFound:
        return PassedOver(found.path, Message("not there"), kind="missing")
    except ImgretError as error:
        return PassedOver(found.path, str(error), kind="unreadable")
    state, changed = mark(facts), _changed(facts)
    if state is None and not changed:
        state = time.time_ns()  # nothing tells whether it changed: its content does
    elif found.mark is not None:
        state = mark_of(state, found.mark)
    return Listed(found.path, _size(facts), changed, state, found.place, found.label, found.key, found.caption)


def facts_of(address: str, *, guarded: bool = False) -> Facts:
    """What the store says of one file."""
    system, name = opened(address, guarded=guarded)
    return cast(Facts, _tried(lambda: system.info(name), address))


def read(address: str, *, size: int = UNKNOWN, start: int = 0, end: int | None = None, guarded: bool = False) -> bytes:
    """A file's bytes (from `start` to `end`), all of one version of it.

    Args:
        address: which.
        size: how many the listing said there are in the file.
        start: first byte.
        end: behind the last byte; None reads all of it.
        guarded: from public machines only.

    Raises:
        ImageError: it went, is too large, or changed during every attempt.
        BadInput: the store does not take the credentials.
    """
    system, name = opened(address, guarded=guarded)
    if end is not None:
        return cast(bytes, _tried(lambda: system.cat_file(name, start=start, end=end), address, one=True))
    for _ in range(ATTEMPTS):
        if 0 <= size <= WHOLE or size == UNKNOWN:
            data = cast(bytes, _tried(lambda: system.cat_file(name), address, one=True))
            if size in (UNKNOWN, len(data)):
                return data
            size = _size(_tried(lambda: system.info(name), address, one=True))
            if size == len(data):
                return data  # it changed since it was listed: the next run sees that
            continue
        before = _tried(lambda: system.info(name), address, one=True)
        if (size := _size(before)) > LARGEST:
            raise ImageError("too large: {size} bytes, limit {limit}", size=size, limit=LARGEST)
        parts = []
        for first in range(0, max(size, 0), _RANGE):
            last = min(first + _RANGE, size)
            parts.append(_tried(partial(system.cat_file, name, start=first, end=last), address, one=True))
        after = _tried(lambda: system.info(name), address, one=True)
        data = b"".join(parts)
        if (mark(before), _changed(before)) == (mark(after), _changed(after)) and len(data) == size:
            return data
    raise ImageError("it changes while it is read; the next run tries again")


def opened(address: str, *, guarded: bool = False) -> tuple[Any, str]:
    """fsspec's file system of an address, which keeps no listing, and the name in it; `guarded` reaches public machines only.

    Raises:
        MissingExtra: what speaks the scheme is not installed.
        BadInput: nobody knows the scheme.
    """
    scheme = address.partition("://")[0]
    options: dict[str, Any] = {"get_client": _public_client} if guarded and scheme in ("http", "https") else {}
    try:
        with needs("remote"):
            from fsspec.core import url_to_fs

            try:
                return cast(tuple[Any, str], url_to_fs(address, use_listings_cache=False, **options))
            except ImportError as error:  # fsspec says which package in words
                package = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}.get(scheme, "fsspec")
                raise ModuleNotFoundError(own_words(error), name=package) from error
    except MissingExtra:
        raise
    except ValueError as error:
        raise BadInput(
            "{scheme}:// is no kind of address that is known here ({reason}); s3://, gs://, hf:// and https:// are.",
            scheme=scheme,
            reason=own_words(error),
        ) from error
    except Exception as error:
        raise _said(error, address) from error


async def _public_client(**options: Any) -> Any:
    """An aiohttp session that connects to public addresses only, whatever a name resolves to and a redirect leads to."""
    import aiohttp

    class Public(aiohttp.TCPConnector):
        async def _resolve_host(self, *asked: Any, **named: Any) -> Any:
            found = await super()._resolve_host(*asked, **named)
            for one in found:
                if why_refused(one["host"]):
                    raise ImageError("{host} is no public machine, and not the list's own", host=one["host"])
            return found

    return aiohttp.ClientSession(connector=Public(), **options)


def _tried(ask: Callable[[], _T], address: str, *, one: bool = False) -> _T:
    """What `ask` gives, tried again where it fails for a moment; `one`: an error is one picture's, unless no key fits."""
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except Exception as error:
            if ours := next((one for one in _chain(error) if isinstance(one, ImgretError)), None):
                raise ours from None
            names = _names(error)
            final = isinstance(error, PermissionError) or _is_gone(error) or names & _REFUSED
            if not final and attempt + 1 < ATTEMPTS:
                time.sleep(PAUSE * 4**attempt)
                continue
            if one and not names & _REFUSED:
                raise ImageError("cannot be read: {reason}", reason=_words(error)) from error
            raise _said(error, address) from error
    raise AssertionError


def _said(error: Exception, address: str) -> ImgretError:
    """An error of a store, in one line that says what to do."""
    names, scheme = _names(error), inner(address).partition("://")[0]
    if isinstance(error, PermissionError) or names & (_REFUSED | {"403"}):
        return BadInput(
            "{address} is not open to this process ({reason}): credentials are missing, wrong or expired. Give {keys}, then run it again; "
            "what was done is kept.",
            address=quoted(address),
            reason=_words(error),
            keys=_KEYS.get(scheme, "what the store asks for"),
        )
    if _is_gone(error):
        return NotFound(
            "There is nothing at {address}; give the address of a folder, or of a list of addresses.",
            address=quoted(address),
        )
    return BadInput(
        "{address} cannot be read ({reason}), {attempts} times; try again later. What was done is kept.",
        address=quoted(address),
        reason=_words(error),
        attempts=ATTEMPTS,
    )


def _is_gone(error: Exception) -> bool:
    """Whether a store says that there is nothing; fsspec says that too of a web server that gives no answer."""
    if "404" in _names(error):
        return True
    causes = list(_chain(error))[1:]
    silent = any(isinstance(one, TimeoutError) or type(one).__module__.startswith("aiohttp") for one in causes)
    return isinstance(error, FileNotFoundError | NotADirectoryError) and not silent


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _names(error: BaseException) -> set[str]:
    """Names of an error and of its causes, and the codes of the answers in them."""
    found = set[str]()
    for one in _chain(error):
        found.add(type(one).__name__)
        answer = getattr(one, "response", None)
        if isinstance(answer, Mapping):
            found.add(str(answer.get("Error", {}).get("Code", "")))
        found.add(str(one.status if hasattr(one, "status") else getattr(one, "code", "")))
        found.add(str(getattr(answer, "status_code", "")))
    return found - {""}


def _words(error: BaseException) -> str:
    """An error's own words, with the code that its store gave."""
    for one in _chain(error):
        answer = getattr(one, "response", None)
        if isinstance(answer, Mapping) and (code := answer.get("Error", {}).get("Code")):
            return f"{code}: {own_words(error)}" if str(code) not in own_words(error) else own_words(error)
    return own_words(error)


def _size(facts: Facts) -> int:
    size = facts.get("size", facts.get("Size"))
    return int(size) if size is not None else UNKNOWN


def mark(facts: Facts) -> int | None:
    """A number that changes with a file, by what its store says of it; None where it says nothing."""
    return mark_of(*(str(found).strip('"') for name in _MARKS if (found := facts.get(name)) is not None))


def _changed(facts: Facts) -> int:
    """When a file last changed, in ns since 1970; 0 where nobody says."""
    for name in _TIMES:
        when = facts.get(name)
        try:
            if isinstance(when, str):
                when = parsedate_to_datetime(when) if "," in when else datetime.fromisoformat(when)
            if not isinstance(when, datetime):
                when = getattr(when, "date", when)  # a commit of the Hugging Face hub
            if isinstance(when, datetime):
                when = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
            if isinstance(when, int | float) and when > 0:
                return int(when * 1_000_000) * 1000
        except (ValueError, OverflowError):
            continue
    return 0
