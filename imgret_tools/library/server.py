"""A Chroma server asked over HTTP for what several machines agree on: collections by name, and who may write.

Chroma has no transaction over several requests and no comparing swap. One request is atomic all the same: a collection is
made only where none of its name is. A `Lease` is such a collection, whose metadata say who holds it and until when by the
server's own clock. They are numbered: one whose holder has fallen silent is passed over by making the next number, so that
of two who try one gets it, and the silent one finds the higher number when it wakes up.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from imgret_tools.errors import ImgretError, IndexUnavailable, LibraryLocked, own_words
from imgret_tools.files import atomic_write
from imgret_tools.settings import ChromaServer

ALIVE_WITHIN = 5.0
ANSWER_WITHIN = 60.0
"""Seconds for a server's sign of life, and for any other answer of it."""
_ONE_CALL = 0.5
"""Seconds for which a server that gave no answer is not asked again: what is left of the call that met it, no more, since it
may be back."""
SILENT = 30.0
"""Seconds after which a writer that gives no sign of life has lost its lease."""
_PAGE = 100
"""Collections listed at once: a hosted server gives no more."""
_REFUSAL_SIGNS = ("401", "403", "Unauthorized", "Forbidden", "AuthError", "AuthorizationError", "Permission denied")
_log = logging.getLogger(__name__)

Metadata = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Held:
    """A collection as the server knows it: what it is called may change, its id does not."""

    id: str
    name: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What a shared library's `cosine` collection says of its state; one request.

    Attributes:
        collection: its id; another one holds nothing that was seen before.
        published: the number of the last whole state; everything in it has a `revision` up to that.
        feeding: the number of the state that is being given; the same as `published` where nobody gives anything.
        about: the collection's metadata.
    """

    collection: str
    published: int
    feeding: int
    about: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether nobody has begun a state without ending it."""
        return self.published == self.feeding

    @property
    def next(self) -> int:
        """The number of the next state."""
        return max(self.published, self.feeding) + 1

    @classmethod
    def of(cls, held: Held) -> Head:
        """The head that a collection's metadata tell; of one that nothing was published in, number 0."""
        published = int(held.metadata.get("published", 0))
        return cls(held.id, published, int(held.metadata.get("feeding", published)), held.metadata)


class Server:
    """A Chroma server's HTTP face (API v2), for one tenant and database. Safe in threads."""

    def __init__(self, settings: ChromaServer) -> None:
        self.settings = settings
        self._mutex = threading.Lock()
        self._kept: Any = None
        self._answered = self._silent_until = 0.0

    @property
    def address(self) -> str:
        """The server, tenant and database."""
        return " ".join((self.settings.url.rstrip("/"), self.settings.tenant, self.settings.database))

    @property
    def has_answered(self) -> bool:
        """Whether it has given a sign of life this second."""
        return time.monotonic() - self._answered < 1

    def close(self) -> None:
        """Let go of the connections."""
        with self._mutex:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def now(self) -> float:
        """The server's clock in seconds: the one that all machines have in common."""
        return self.look_for()

    def collections(self) -> list[Held]:
        """All collections of the database."""
        found: list[Held] = []
        while True:
            page = self._answer("GET", self._path(f"?limit={_PAGE}&offset={len(found)}"))
            found += map(_held, page)
            if len(page) < _PAGE:
                return found

    def collection(self, name: str) -> Held | None:
        """The collection of that name, None where there is none."""
        found = self._answer("GET", self._path(f"/{quote(name)}"), within=ALIVE_WITHIN, passed=(404,))
        return None if found is None else _held(found)

    def make(self, name: str, metadata: Metadata) -> Held | None:
        """Make a collection; None where there is one of that name."""
        made = self._answer("POST", self._path(), {"name": name, "metadata": dict(metadata)}, passed=(409,))
        return None if made is None else _held(made)

    def describe(self, collection: str, metadata: Metadata) -> None:
        """Give the collection of that id these metadata in place of what it has."""
        self._answer("PUT", self._path(f"/{collection}"), {"new_metadata": dict(metadata)})

    def rename(self, collection: str, name: str) -> None:
        """Call the collection of that id `name`."""
        self._answer("PUT", self._path(f"/{collection}"), {"new_name": name})

    def drop(self, name: str) -> None:
        """Take a collection away, where it is there."""
        self._answer("DELETE", self._path(f"/{quote(name)}"), passed=(404,))

    def count(self, collection: str) -> int:
        """How many rows the collection of that id holds."""
        return int(self._answer("GET", self._path(f"/{collection}/count")))

    def get(
        self,
        collection: str,
        include: Sequence[str],
        *,
        ids: Sequence[str] | None = None,
        after: int = 0,
        most: int = _PAGE,
    ) -> Iterator[dict[str, Any]]:
        """Rows of the collection of that id, a page of at most `most` at a time: those of `ids`, or those of a state after `after`."""
        where = {"revision": {"$gt": after}} if after else None
        start = 0
        while True:
            asked: dict[str, Any] = {"include": list(include)}
            if ids is None:
                asked |= {"limit": most, "offset": start, "where": where}
            elif start < len(ids):
                asked["ids"] = list(ids[start : start + most])
            else:
                return
            page = self._answer("POST", self._path(f"/{collection}/get"), asked)
            if page["ids"]:
                yield page
            start += most
            if ids is None and len(page["ids"]) < most:
                return

    def look_for(self) -> float:
        """Ask for a sign of life, so that a server that is away, frozen or something else is told as what it is.

        Returns:
            Its clock in seconds.

        Raises:
            IndexUnavailable: with what was found there.
        """
        import httpx

        url = self.settings.url
        self._let_silence_pass()
        try:
            found = self._client.get("/api/v2/heartbeat", timeout=ALIVE_WITHIN)
        except httpx.TimeoutException as error:
            self._silent_until = time.monotonic() + _ONE_CALL
            raise self._silent(ALIVE_WITHIN) from error
        except httpx.HTTPError as error:
            raise IndexUnavailable(
                "The Chroma server at {url} cannot be reached ({words}); start it (`chroma run`) or correct IMGRET_CHROMA_URL.",
                url=url,
                words=own_words(error),
            ) from error
        if found.status_code in (401, 403):
            raise self._refused()
        try:
            beat = float(found.json()["nanosecond heartbeat"]) / 1e9
        except (ValueError, TypeError, LookupError):
            beat = 0.0
        if not found.is_success or not beat:
            kind = found.headers.get("content-type", "nothing").split(";")[0]
            raise IndexUnavailable(
                "The Chroma server at {url} answers with {kind} and status {status}, which no Chroma of API v2 does (version 1 "
                "and newer); correct IMGRET_CHROMA_URL or upgrade the server.",
                url=url,
                kind=kind,
                status=found.status_code,
            )
        self._answered = time.monotonic()
        return beat

    def explained(self, error: BaseException) -> IndexUnavailable:
        """What to say of an error that the server, or a client of it, gave.

        Raises:
            IndexUnavailable: said better, where the server is away.
        """
        self.look_for()
        words = own_words(error)
        if any(sign in f"{type(error).__name__} {words}" for sign in _REFUSAL_SIGNS):
            return self._refused()
        return IndexUnavailable(
            "The Chroma server at {url} does not answer as expected ({words}); check IMGRET_CHROMA_TENANT, "
            "IMGRET_CHROMA_DATABASE and its log, then try again.",
            url=self.settings.url,
            words=words,
        )

    # Inside

    def _let_silence_pass(self) -> None:
        """A frozen server is not waited for again and again by one call."""
        if time.monotonic() < self._silent_until:
            raise self._silent(ALIVE_WITHIN)

    def _silent(self, seconds: float) -> IndexUnavailable:
        return IndexUnavailable(
            "The Chroma server at {url} gives no answer within {seconds:.0f} s; check it, then try again.",
            url=self.settings.url,
            seconds=seconds,
        )

    def _refused(self) -> IndexUnavailable:
        return IndexUnavailable(
            "The Chroma server at {url} refuses the credentials; check IMGRET_CHROMA_TOKEN, IMGRET_CHROMA_HEADER, "
            "IMGRET_CHROMA_TENANT and IMGRET_CHROMA_DATABASE.",
            url=self.settings.url,
        )

    @property
    def _client(self) -> Any:
        import httpx

        with self._mutex:
            if self._kept is None:
                url = self.settings.url.rstrip("/")
                base = url if urlsplit(url).port else f"{url}:{self.settings.port}"
                self._kept = httpx.Client(
                    base_url=base, headers=self.settings.headers, timeout=ANSWER_WITHIN, follow_redirects=False
                )
            return self._kept

    def _path(self, rest: str = "") -> str:
        tenant, database = quote(self.settings.tenant, safe=""), quote(self.settings.database, safe="")
        return f"/api/v2/tenants/{tenant}/databases/{database}/collections{rest}"

    def _answer(
        self, method: str, path: str, body: object = None, *, within: float = ANSWER_WITHIN, passed: Sequence[int] = ()
    ) -> Any:
        """The JSON that a request is answered with; None for a status of `passed` that Chroma itself gives."""
        import httpx

        self._let_silence_pass()
        try:
            found = self._client.request(method, path, json=body, timeout=within)
            said = found.json()
            if found.status_code in passed and isinstance(said, dict) and "error" in said:
                return None
            found.raise_for_status()
            self._answered = time.monotonic()
            return said
        except httpx.HTTPStatusError as error:
            said = said.get("message", "") if isinstance(said, dict) else ""
            raise self.explained(RuntimeError(f"{found.status_code} {said}".strip())) from error
        except httpx.TimeoutException as error:
            self._silent_until = time.monotonic() + _ONE_CALL
            raise self._silent(within) from error
        except (httpx.HTTPError, ValueError) as error:
            raise self.explained(error) from error


def _held(found: Mapping[str, Any]) -> Held:
    return Held(str(found["id"]), str(found["name"]), found.get("metadata") or {})


class Lease:
    """The right to write a library on a server, held by one data folder of all machines.

    Attributes:
        lost: it is not held any more, because its holder was silent for `SILENT` seconds.
    """

    def __init__(self, server: Server, owner: str, home: Path) -> None:
        self._server, self._prefix = server, f"imgret-{owner}-lease-"
        self._who = hashlib.sha256(f"{socket.gethostname()}\n{home.resolve()}".encode()).hexdigest()[:16]
        self._note: dict[str, str | float] = {}
        self._name = self._id = ""
        self._until = 0.0
        self._ended = threading.Event()
        self._keeper: threading.Thread | None = None
        self.lost = False

    @property
    def held(self) -> bool:
        """Whether its holder may write."""
        return bool(self._name) and not self.lost and time.monotonic() < self._until

    def acquire(self, doing: str, *, name: str, wait: float) -> None:
        """Take it within `wait` seconds.

        Args:
            doing: what for; the refusal on another machine says it.
            name: of the library, for the refusal.
            wait: seconds to wait for another holder.

        Raises:
            LibraryLocked: another data folder holds it; with who that is.
            IndexUnavailable: the server cannot be asked.
        """
        until = time.monotonic() + wait
        holder = f"{socket.gethostname()} (process {os.getpid()}, {doing})"
        self._note = {"who": self._who, "holder": holder}
        while (other := self._try()) is not None:
            if time.monotonic() >= until:
                raise LibraryLocked(
                    "Library {name!r} is being written by {holder}; wait until it is done, or {seconds:.0f} s after it died.",
                    name=name,
                    holder=other,
                    seconds=SILENT,
                )
            time.sleep(0.2)
        self._ended.clear()
        self._keeper = threading.Thread(target=self._keep, name="imgret-lease", daemon=True)
        self._keeper.start()

    def release(self) -> None:
        """Give it back; nothing happens where it is not held."""
        self._ended.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        name, self._name = self._name, ""
        if name:
            with suppress(IndexUnavailable):  # it ends by itself
                found = self._server.collection(name)
                if found is not None and found.id == self._id:
                    self._server.drop(name)

    def alive(self) -> bool:
        """Whether anybody holds it now."""
        found = self._highest()
        return found is not None and self._server.now() < float(found.metadata.get("until", 0))

    # Inside

    def _try(self) -> str | None:
        """Take it if it is free; else who holds it."""
        now, found = self._server.now(), self._highest()
        number = 0
        if found is not None:
            number = _number(found)
            if now < float(found.metadata.get("until", 0)) and found.metadata.get("who") != self._who:
                return str(found.metadata.get("holder", "another machine"))
        # Of the same data folder, where nobody else writes now: left by a process that was killed.
        began = time.monotonic()
        made = self._server.make(f"{self._prefix}{number + 1}", {**self._note, "until": now + SILENT})
        if made is None:
            return "another machine"
        highest = self._highest()
        if highest is not None and highest.id != made.id and _number(highest) > number + 1:
            # We looked before one that is over by now was taken, and made ours after that one was given back.
            self._server.drop(made.name)
            return str(highest.metadata.get("holder", "another machine"))
        self._name, self._id, self._until, self.lost = made.name, made.id, began + SILENT, False
        for older in self._all():
            if _number(older) <= number:
                self._server.drop(older.name)
        return None

    def _keep(self) -> None:
        """Say again and again that the holder is alive."""
        while not self._ended.wait(SILENT / 4):
            try:
                began = time.monotonic()
                now, highest = self._server.now(), self._highest()
                if highest is None or highest.id != self._id or began >= self._until:
                    self.lost = True
                    return
                self._server.describe(self._id, {**self._note, "until": now + SILENT})
                self._until = began + SILENT
            except ImgretError:
                _log.debug("the lease %s was not renewed", self._name, exc_info=True)

    def _all(self) -> list[Held]:
        return [one for one in self._server.collections() if one.name.startswith(self._prefix)]

    def _highest(self) -> Held | None:
        return max(self._all(), key=_number, default=None)


def _number(held: Held) -> int:
    last = held.name.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


@dataclass(frozen=True, slots=True)
class Given:
    """What a data folder knows of the collections of one library; the file `chroma.server` in the library's folder.

    Attributes:
        owner: the random part of the collections' names; of all machines on that library the same.
        label: the other part, after the library's name.
        at: the server, tenant and database that the catalogue's marks of what was fed are about; "" is the embedded Chroma.
        made: the collections were made there.
        attached: they were found there, made by another data folder.
        collection: the id of the `cosine` collection, and
        seen: the number of its state that the catalogue holds.
    """

    owner: str
    label: str
    at: str = ""
    made: bool = False
    attached: bool = False
    collection: str = ""
    seen: int = 0
    FILE: ClassVar[str] = "chroma.server"

    @classmethod
    def begun(cls, home: Path, server: ChromaServer) -> Given:
        """Of a library that begins its life on a server."""
        return cls(secrets.token_hex(8), home.name, Server(server).address)

    @classmethod
    def read(cls, path: Path) -> Given | None:
        """What is noted at `path`, None where nothing is, or nothing that can be read."""
        try:
            noted = json.loads(path.read_text("utf-8"))
            named = {field.name: noted[field.name] for field in fields(cls) if field.name in noted}
            return cls(**{"label": path.parent.name, **named})
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Note it at `path`."""
        with atomic_write(path) as file:
            file.write(json.dumps(asdict(self)).encode())

    def name(self, space: str) -> str:
        """What the collection of that space is called."""
        return f"imgret-{self.label}-{self.owner}-{space}"

    def relabelled(self, name: str, space: str) -> Given:
        """The same, with the label that a collection's name tells."""
        return replace(self, label=name.removeprefix("imgret-").removesuffix(f"-{self.owner}-{space}"))
