"""Ray as the engine of an index run: actors on a cluster read, decode and encode; the run itself stays where the library is.

What is new, what moved and what is stored is decided by the same code as in a local run, so that both end in the same state. Each actor
holds the encoder and takes a block of files at a time; no more than two blocks an actor are under way. An actor that dies
is started again and its block is sent again; a block that keeps killing actors is sent picture by picture, and the
picture that does it is a failure with its reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any

from imgret_tools.encoders.protocol import Encoder
from imgret_tools.engine.making import Content, Maker
from imgret_tools.errors import BadInput, ImageError, ImgretError, Message, own_words
from imgret_tools.extras import needs
from imgret_tools.library.survey import SeenFile

_log = logging.getLogger(__name__)

BLOCK = 32
"""Files that an actor takes at a time."""
_RETRIES = 2
"""How often a block is sent again by Ray itself when its actor has died."""
Job = tuple[SeenFile, str]
"""A file, and the content hash that it has to have; "" for any."""


class Worker:
    """An actor: reads, decodes and encodes blocks of files.

    Args:
        maker: what reads and decodes.
        make_encoder: makes the encoder, in the actor's process.
        fingerprint: of the weights that the library was made with.
    """

    def __init__(self, maker: Maker, make_encoder: Callable[[], Encoder], fingerprint: str) -> None:
        self._maker, self._encoder = maker, make_encoder()
        if self._encoder.fingerprint != fingerprint:
            raise BadInput(
                "A worker of the cluster has weights {found}, the library was made with {expected}; install the same version there.",
                found=self._encoder.fingerprint,
                expected=fingerprint,
            )

    def ready(self) -> None:
        """Answers once the encoder is loaded."""

    def make(self, jobs: Sequence[Job]) -> list[Content]:
        """What each file gives, with its row."""
        made = [self._decoded(file, sha256) for file, sha256 in jobs]
        begun = time.perf_counter()
        prepared = [content.prepared for content in made if content.prepared is not None]
        rows = iter(self._encoder.encode_images(prepared) if prepared else ())
        encoding = (time.perf_counter() - begun) / max(len(prepared), 1)
        return [
            content
            if content.prepared is None
            else replace(content, prepared=None, row=next(rows), seconds=(*content.seconds[:2], encoding))
            for content in made
        ]

    def _decoded(self, file: SeenFile, sha256: str) -> Content:
        begun = time.perf_counter()
        try:
            content = None
            if not sha256:
                sha256, content = self._maker.read(file)
            read = time.perf_counter()
            made = self._maker.decode(file, sha256, content, self._encoder.prepare)
        except ImageError as error:
            return Content("", failure=str(error))
        return replace(made, seconds=(read - begun, time.perf_counter() - read, 0.0))


class Cluster:
    """The actors of one run; use it in a `with` block.

    Args:
        address: `ray` starts Ray on this machine, or joins the cluster that RAY_ADDRESS names; `ray://HOST:PORT` joins that one.
    """

    def __init__(self, address: str, maker: Maker, make_encoder: Callable[[], Encoder], fingerprint: str) -> None:
        self._address, self._made_of = address, (maker, make_encoder, fingerprint)
        self._block: list[tuple[Job, Future[Content]]] = []
        self._actors: list[Any] = []
        self._pending: list[int] = []
        self._lock = threading.Lock()
        self._started = False

    def __enter__(self) -> Cluster:
        with needs("ray"):
            import ray
        self._ray = ray
        try:
            if not ray.is_initialized():
                if self._address.startswith("ray://"):
                    ray.init(address=self._address, log_to_driver=False)
                else:
                    ray.init(
                        include_dashboard=False,
                        log_to_driver=False,
                        configure_logging=False,
                        logging_level=logging.ERROR,
                    )
                self._started = True
        except Exception as error:
            raise BadInput(
                "Ray cannot be used ({reason}); give --engine ray, or ray://HOST:PORT of a cluster that is up.",
                reason=own_words(error),
            ) from error
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(resources.get("GPU", 0))
        count = gpus or max(1, int(resources.get("CPU", 1)))
        actor = ray.remote(max_restarts=-1, max_task_retries=_RETRIES, num_cpus=1, num_gpus=1 if gpus else 0)(Worker)
        self._alone = ray.remote(num_cpus=0)(Worker)
        self._actors = [actor.remote(*self._made_of) for _ in range(count)]
        self._pending = [0] * count
        try:
            ray.get([actor.ready.remote() for actor in self._actors])
        except ray.exceptions.RayError as error:
            self._end()
            reason = str(error).strip().splitlines()[-1]
            raise BadInput("The workers of the cluster cannot start ({reason}).", reason=reason[:300]) from error
        self._waiters = ThreadPoolExecutor(2 * count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, future in self._block:
            future.cancel()
        self._waiters.shutdown(wait=kind is None, cancel_futures=True)
        self._end()

    def _end(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    @property
    def look_ahead(self) -> int:
        """How many files may be under way."""
        return 2 * BLOCK * len(self._actors)

    def submit(self, file: SeenFile, sha256: str = "") -> Future[Content]:
        """What is made of a file, some time; blocks are sent when they are full, or one of their files is waited for."""
        future: Future[Content] = Future()
        self._block.append(((file, sha256), future))
        if len(self._block) == BLOCK:
            self._send()
        return future

    def wanted(self, future: Future[Content]) -> None:
        """Send the block that is being filled if `future` is in it."""
        if any(waiting is future for _, waiting in self._block):
            self._send()

    def _send(self) -> None:
        block, self._block = self._block, []
        self._waiters.submit(self._answered, block)

    def _answered(self, block: list[tuple[Job, Future[Content]]]) -> None:
        with self._lock:
            place = min(range(len(self._actors)), key=self._pending.__getitem__)
            self._pending[place] += 1
        jobs, made = [job for job, _ in block], list[Content]()
        error: BaseException | None = None
        try:
            try:
                made = self._ray.get(self._actors[place].make.remote(jobs))
            except self._ray.exceptions.RayActorError:
                made = self._one_by_one(jobs)
        except self._ray.exceptions.RayTaskError as failed:
            error = failed.cause if isinstance(failed.cause, ImgretError) else failed
        except BaseException as other:
            error = other
        finally:
            with self._lock:
                self._pending[place] -= 1
        for number, (_, future) in enumerate(block):
            if not future.set_running_or_notify_cancel():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(made[number])

    def _one_by_one(self, jobs: Sequence[Job]) -> list[Content]:
        """What each file gives, in an actor that no other block shares: where that dies, the file did it."""
        made = list[Content]()
        actor: Any = None
        for job in jobs:
            actor = actor or self._alone.remote(*self._made_of)
            try:
                made += self._ray.get(actor.make.remote([job]))
            except self._ray.exceptions.RayActorError as died:
                _log.warning("an actor died of %s: %s", job[0].path, died)
                reason = Message("its decoder crashed, or wanted too much memory; send it in another format")
                made.append(Content("", failure=reason))
                actor = None
        if actor is not None:
            self._ray.kill(actor)
        return made
