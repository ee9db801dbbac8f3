"""Strangers' pictures are first opened in a process of their own, with a limit on time and memory: no thread can be stopped.

What came through is then opened by threads as any picture is: the same bytes decode to the same pixels. A decoder that hangs
is killed with its process, one that wants too much memory is refused it (Linux and macOS, `RLIMIT_AS`), and one that
crashes takes only its own process along. The processes are kept, for a few hundred pictures each, and started when needed.
"""

from __future__ import annotations

import atexit
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from imgret_tools.errors import ImageError, Message
from imgret_tools.pictures.open import open_picture

SECONDS = 20.0
"""How long a picture may take to decode."""
MEMORY = 3_000_000_000
"""Bytes of address space that a decoding process may have, its own programs included."""
_MOST, _PICTURES = 2, 300
"""Processes at once, and pictures that one opens in its life."""
_HEAD = struct.Struct("<II")


class Apart:
    """Processes that open pictures, at most two at once; more calls wait for their turn.

    Args:
        command: What starts such a process.
        seconds: How long a picture may take.
    """

    def __init__(self, command: Sequence[str] = (), *, seconds: float = SECONDS) -> None:
        here = f"import sys; sys.path[:] = {sys.path!r}; from imgret_tools.pictures.apart import serve; serve()"
        self._command = list(command) or [sys.executable, "-c", here]
        self._seconds = seconds
        self._turns = threading.BoundedSemaphore(_MOST)
        self._idle: list[_Process] = []
        self._lock = threading.Lock()

    def check(self, content: bytes, *, max_megapixels: int) -> None:
        """Decode every pixel of a picture, the whole content of its file, and keep nothing.

        Raises:
            ImageError: it is none, is broken or too large, or takes too long or too much memory.
        """
        with self._turns:
            with self._lock:
                process = self._idle.pop() if self._idle else None
            if process is not None and not process.alive:
                process = None
            process = process or _Process(self._command)
            try:
                reason = process.ask(content, max_megapixels, self._seconds)
            except BaseException:
                process.end()
                raise
            with self._lock:
                if process.asked < _PICTURES:
                    self._idle.append(process)
                    process = None
            if process is not None:
                process.end()
        if reason:
            raise ImageError(reason)

    def close(self) -> None:
        """End the processes that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


class _Process:
    def __init__(self, command: Sequence[str]) -> None:
        self.asked = 0
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, content: bytes, max_megapixels: int, seconds: float) -> str:
        """Why the picture cannot be used, "" if it can."""
        self.asked += 1
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            sent, answers = self._process.stdin, self._process.stdout
            assert sent is not None
            assert answers is not None
            sent.write(_HEAD.pack(len(content), max_megapixels))
            sent.write(content)
            sent.flush()
            line = answers.readline(100_000)
            if not line:
                raise OSError
            return Message.read(json.loads(line))
        except (OSError, ValueError):
            if late.is_set():
                raise ImageError(
                    "takes longer than {seconds:.0f} s to decode; send it in another format", seconds=seconds
                ) from None
            raise ImageError("its decoder crashed, or wanted too much memory; send it in another format") from None
        finally:
            timer.cancel()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def serve(memory: int = MEMORY) -> None:
    """Open pictures that come on stdin until it ends; for each, why it cannot be used as a line of JSON."""
    _limit(memory)
    received, answers = sys.stdin.buffer, sys.stdout
    while len(head := received.read(_HEAD.size)) == _HEAD.size:
        size, max_megapixels = _HEAD.unpack(head)
        answers.write(json.dumps(_reason(received.read(size), max_megapixels)) + "\n")
        answers.flush()


def _reason(content: bytes, max_megapixels: int) -> str:
    try:
        open_picture(content, max_megapixels=max_megapixels)
    except ImageError as error:
        return Message(str(error)).kept()
    return ""


def _limit(memory: int) -> None:
    """No more memory than that, no file written, no core left behind; where the system knows such limits."""
    try:
        import resource
    except ImportError:  # Windows: time is limited there, memory is not
        return
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


APART = Apart()
"""The processes of this one."""
atexit.register(APART.close)


def check_file(path: Path, *, max_megapixels: int) -> None:
    """`Apart.check` of a file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError("cannot be read: {strerror}", strerror=error.strerror) from error
    APART.check(content, max_megapixels=max_megapixels)
