"""Networks on ONNX Runtime: converted once from torch, kept in a cache folder, checked, and torch where that fails.

    open_tower(graph, cache)   the network that `graph` describes, ready to be called with arrays

chromadb brings onnxruntime, so that it costs nothing to have; it imports in a third of a second where torch takes two,
and runs these networks two to three times as fast (docs/encoders.md). A conversion is a folder

    CACHE/onnx/NAME-KEY/   model.onnx   weights.bin   card.json

written beside and renamed, so that it is whole or absent. Its card holds the SHA-256 of both files, compared before
every use, and how far its answers were from torch's. The weights lie apart from the graph because ONNX Runtime then
maps them into memory instead of copying them: a text reads only the word vectors it has.

What can go wrong, and what happens then:

| the cache cannot be written                          | converted in memory, said once                         |
| a file is damaged, or another ORT cannot read it     | converted again                                        |
| two processes convert at once                        | the second waits, and finds the first one's files      |
| onnx is missing, an operator is missing, the answers differ from torch's by more than 1e-3 | torch runs it    |
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.device import cores
from imgret_tools.errors import EncoderError
from imgret_tools.files import atomic_write

if TYPE_CHECKING:
    import onnx
    import onnxruntime  # type: ignore[import-untyped]
    from torch import nn

TOLERANCE = 1e-3
"""The most that an answer may differ from torch's, in any number."""

_FORMAT = "1"  # part of every conversion's name: change it when the files or the export change
_OPSET = 18
_MODEL, _WEIGHTS, _CARD = "model.onnx", "weights.bin", "card.json"
_WAIT = 600.0  # seconds another process gets to finish its conversion
_ASIDE = 1024  # bytes: larger tensors lie in weights.bin

Array = NDArray[np.float32] | NDArray[np.int64]
_log = logging.getLogger("imgret_tools")
_opening = threading.Lock()
_open: weakref.WeakValueDictionary[tuple[str, str], _Session] = weakref.WeakValueDictionary()
_in_memory: dict[tuple[str, str], _Session] = {}  # those that no folder holds stay: making one takes seconds
_refused: dict[tuple[str, str], str] = {}  # conversions that failed in this process, with the reason
_unwritable: set[Path] = set()  # caches that could not be written, each said once


class Tower(Protocol):
    """A network that is loaded."""

    @property
    def backend(self) -> str:
        """What runs it: `onnxruntime`, or `torch cpu` and the like."""

    def __call__(self, *arrays: Array) -> tuple[NDArray[np.float32], ...]:
        """Its outputs for one batch of inputs. Safe in threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A network and how to convert it.

    Attributes:
        name: begins the folder's name; letters, digits and hyphens.
        key: fingerprint of the weights and of all else that decides the answers.
        inputs: names of the inputs, each with its dimensions that vary: {0: "n"}.
        outputs: names of the outputs.
        build: makes the network in torch, on the CPU, from the installed weights.
        examples: inputs to trace it with, and to compare the answers on.
    """

    name: str
    key: str
    inputs: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    build: Callable[[], nn.Module]
    examples: Callable[[], tuple[Array, ...]]


class Unusable(Exception):
    """A conversion that must not be used, with the reason."""


class TorchTower:
    """A network that torch runs on a device."""

    def __init__(self, module: nn.Module, *, device: str = "cpu") -> None:
        self._module = module.to(device)
        self._device = device
        self.backend = f"torch {device}"

    def __call__(self, *arrays: Array) -> tuple[NDArray[np.float32], ...]:
        """Its outputs for one batch of inputs. Safe in threads."""
        import torch

        with torch.inference_mode():
            found = self._module(*(torch.from_numpy(array).to(self._device) for array in arrays))
            return tuple(output.float().cpu().numpy() for output in (found if isinstance(found, tuple) else (found,)))


class _Session:
    """A network that ONNX Runtime runs."""

    backend = "onnxruntime"

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._names = [put.name for put in session.get_inputs()]

    def __call__(self, *arrays: Array) -> tuple[NDArray[np.float32], ...]:
        """Its outputs for one batch of inputs. Safe in threads."""
        return tuple(self._session.run(None, dict(zip(self._names, arrays, strict=True))))


def open_tower(graph: Graph, cache: Path | None) -> Tower:
    """The network that `graph` describes, on ONNX Runtime if that gives torch's answers, else on torch.

    Args:
        graph: the network.
        cache: folder that conversions are kept in; None converts in memory, once a process.
    """
    at = (graph.name, graph.key)
    with _opening:
        if at in _refused:
            return TorchTower(graph.build())
        session = _open.get(at)
        if session is None:
            try:
                session = _load_or_convert(graph, cache)
            except Unusable as error:
                _refused[at] = str(error)
                _log.warning("%s runs on torch, more slowly: %s", graph.name, error)
                return TorchTower(graph.build())
            _open[at] = session
        return session


def _load_or_convert(graph: Graph, cache: Path | None) -> _Session:
    if cache is None:
        return _convert_in_memory(graph)
    home = cache / "onnx" / f"{graph.name}-{graph.key}-{_FORMAT}"
    session = _load(home)
    if session is not None:
        return session
    refusal = home.with_name(f"{home.name}.refused.json")
    _raise_again(refusal)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        with FileLock(home.with_name(f".{home.name}.lock"), timeout=_WAIT):
            session = _load(home)  # another process may have made it meanwhile
            if session is None:
                _keep(graph, _checked(graph, _export(graph)), home)
                session = _load(home)
            if session is not None:
                return session
            raise OSError(f"what was written to {home} cannot be read back")
    except Unusable as error:
        with suppress(OSError), atomic_write(refusal) as file:
            file.write(json.dumps({"reason": str(error), "versions": _versions()}).encode())
        raise
    except (OSError, TimeoutError) as error:  # filelock's Timeout is a TimeoutError
        if cache not in _unwritable:
            _unwritable.add(cache)
            _log.warning("%s cannot hold converted networks (%s); they are converted at every start", cache, error)
        return _convert_in_memory(graph)


def _convert_in_memory(graph: Graph) -> _Session:
    session = _in_memory[graph.name, graph.key] = _session(_checked(graph, _export(graph)))
    return session


def _raise_again(refusal: Path) -> None:
    """Raise what an earlier process found, if it had the same packages: trying again would cost seconds each start."""
    try:
        found = json.loads(refusal.read_text(encoding="utf-8"))
        reason = str(found["reason"]) if found["versions"] == _versions() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return
    if reason:
        raise Unusable(reason)


def _versions() -> dict[str, str]:
    """Of the packages that a conversion depends on; "" where one is missing."""
    found = {}
    for name in ("onnx", "onnxruntime", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _load(home: Path) -> _Session | None:
    """The conversion at `home`, or None if it is not there, not whole or not readable by this ONNX Runtime."""
    try:
        card = json.loads((home / _CARD).read_text(encoding="utf-8"))
        expected = {name: str(card["sha256"][name]) for name in (_MODEL, _WEIGHTS)}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is made again: its card cannot be read (%s)", home, error)
        return None
    importing = threading.Thread(target=_import_runtime, daemon=True)
    importing.start()  # it takes as long as the hashing, on another core
    try:
        found = {name: _sha256(home / name) for name in expected}
    except OSError as error:
        found = {"": str(error)}
    importing.join()
    if found != expected:
        _log.warning("%s is made again: its files are not those that were written", home)
        return None
    try:
        return _session(home / _MODEL)
    except Unusable as error:
        _log.warning("%s is made again: %s", home, error)
        return None


def _keep(graph: Graph, model: bytes, home: Path) -> None:
    """Write a conversion beside `home` and rename it; what was there goes."""
    import onnx

    beside = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        whole = onnx.load_model_from_string(model)
        _lay_weights_open(whole)
        onnx.save_model(
            whole,
            beside / _MODEL,
            save_as_external_data=True,
            location=_WEIGHTS,
            size_threshold=_ASIDE,
        )
        (beside / _WEIGHTS).touch()  # a tiny network has none that large
        card = {"name": graph.name, "sha256": {name: _sha256(beside / name) for name in (_MODEL, _WEIGHTS)}}
        (beside / _CARD).write_text(json.dumps(card), encoding="utf-8")
        for name in (_MODEL, _WEIGHTS, _CARD):
            with (beside / name).open("rb+") as file:
                os.fsync(file.fileno())
        if home.exists():
            shutil.rmtree(home)
        beside.rename(home)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _lay_weights_open(model: onnx.ModelProto) -> None:
    """Turn the graph's constants into initializers: only those can lie in another file."""
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            node.attribute[0].t.name = node.output[0]
            model.graph.initializer.append(node.attribute[0].t)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _export(graph: Graph) -> bytes:
    """The network as an ONNX model.

    Raises:
        Unusable: torch cannot write it, or onnx is not installed.
    """
    try:
        import io

        import onnx  # noqa: F401 -- torch's exporter needs it and says so late
        import torch

        module = graph.build().eval()
        buffer = io.BytesIO()
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # about tracing; the answers are compared afterwards
            torch.onnx.export(
                module,
                tuple(torch.from_numpy(array) for array in graph.examples()),
                buffer,  # type: ignore[arg-type]  # the file it is annotated for would have to be read again
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes={name: axes for name, axes in graph.inputs.items() if axes}
                | {name: {0: "n"} for name in graph.outputs},
                opset_version=_OPSET,
                dynamo=False,
            )
        return buffer.getvalue()
    except ImportError as error:
        raise Unusable(f"{error.name or error} is not installed; pip install {error.name or 'onnx'}") from error
    except EncoderError:
        raise  # about the weights: torch cannot run those either
    except Exception as error:  # torch's exporter raises whatever its passes do
        raise Unusable(f"torch cannot convert it ({_one_line(error)})") from error


def _checked(graph: Graph, model: bytes) -> bytes:
    """`model`, after comparing its answers with torch's.

    Raises:
        Unusable: they differ by more than `TOLERANCE`, or ONNX Runtime cannot run it.
    """
    session = _session(model)
    examples = graph.examples()
    try:
        found = session(*examples)
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise Unusable(f"ONNX Runtime cannot run it ({_one_line(error)})") from error
    expected = TorchTower(graph.build().eval())(*examples)
    worst = max(difference(a, b) for a, b in zip(found, expected, strict=True))
    if not worst <= TOLERANCE:
        raise Unusable(f"its answers differ from torch's by {worst:.2g}, more than {TOLERANCE:g}")
    return model


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference of two arrays in any number; infinite for other shapes, NaN where one has a NaN."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _session(model: bytes | Path) -> _Session:
    """ONNX Runtime's session for a model.

    Raises:
        Unusable: it has none: an operator is missing, the file is not what it was.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise Unusable(f"onnxruntime cannot be imported ({_one_line(error)})") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised too
    # Idle threads sleep instead of spinning: decoding needs the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # the batches differ in size
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise Unusable(f"ONNX Runtime cannot load it ({_one_line(error)})") from error
    return _Session(session)


def _import_runtime() -> None:
    with suppress(ImportError):  # `_session` says so
        import onnxruntime  # noqa: F401


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _one_line(error: BaseException) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
