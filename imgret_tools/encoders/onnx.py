"""Networks on ONNX Runtime: converted once from torch, kept in a cache folder, checked, and torch where that fails.

    open_tower(graph, cache)   the network that `graph` describes, ready to be called with arrays

chromadb brings onnxruntime, so that it costs nothing to have; it imports in a third of a second where torch takes two,
and runs these networks two to three times as fast (docs/encoders.md). A conversion is a folder

    CACHE/onnx/NAME-KEY/   model.onnx   weights.bin   card.json

written beside and renamed, so that it is whole or absent. Its card holds size, time and SHA-256 of both files; what has
another size or time than when it was written (a folder that was copied, too) is hashed before it is used. The weights lie apart from the graph because ONNX Runtime then
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.device import cores, has_int8_products, versions
from imgret_tools.errors import EncoderError
from imgret_tools.files import atomic_write

if TYPE_CHECKING:
    import onnx
    import onnxruntime  # type: ignore[import-untyped]
    import openvino
    from torch import Tensor, nn

TOLERANCE = 1e-3
"""The most that an answer may differ from torch's, in any number."""

_FORMAT = "1"  # part of every conversion's name: change it when the files or the export change
_OPSET = 18
_MODEL, _WEIGHTS, _CARD = "model.onnx", "weights.bin", "card.json"
_PACKAGES = ("onnx", "onnxruntime", "torch")  # a conversion that failed is tried again with other versions of them
_WAIT = 600.0  # seconds another process gets to finish its conversion
_ASIDE = 1024  # bytes: larger tensors lie in weights.bin

Array = NDArray[np.float32] | NDArray[np.int64]
_log = logging.getLogger("imgret_tools")
_opening = threading.Lock()
_open: weakref.WeakValueDictionary[tuple[str, str], _Session] = weakref.WeakValueDictionary()
_in_memory: dict[tuple[str, str], _Session] = {}  # those that no folder holds stay: making one takes seconds
_refused: dict[tuple[str, str], str] = {}  # conversions that failed in this process, with the reason
_on_torch: set[tuple[str, str]] = set()  # what runs on torch instead, each said once
_unwritable: set[Path] = set()  # caches that could not be written, each said once


class Tower(Protocol):
    """A network that is loaded."""

    @property
    def backend(self) -> str:
        """What runs it: `onnxruntime`, `openvino`, or `torch cpu` and the like."""

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
        examples: batches to compare the answers on, each an array for each input; the first is traced.
        int8: whether the weights of matrix products are kept in 8 bits. Its answers are not torch's to `TOLERANCE`,
            and not compared: who asks for it must do that on real inputs.
        prepack: whether weights are copied into the order that is fastest for large batches; a network for one short
            text at a time starts sooner and takes half the memory without.
        threads: that share the work of one batch; 0 for all cores. A network whose callers run it in threads of their own
            wants 1: no core waits for another then.
    """

    name: str
    key: str
    inputs: dict[str, dict[int, str]]
    outputs: tuple[str, ...]
    build: Callable[[], nn.Module]
    examples: Callable[[], Sequence[tuple[Array, ...]]]
    int8: bool = False
    prepack: bool = True
    threads: int = 0


class Unusable(Exception):
    """A conversion that must not be used, with the reason."""


class TorchTower:
    """A network that torch runs on a device."""

    def __init__(self, module: nn.Module, *, device: str = "cpu") -> None:
        self.module = module.to(device)
        self._device = device
        self.backend = f"torch {device}"

    def __call__(self, *arrays: Array) -> tuple[NDArray[np.float32], ...]:
        """Its outputs for one batch of inputs. Safe in threads."""
        import torch

        with torch.inference_mode():
            found = self.module(*(torch.from_numpy(array).to(self._device) for array in arrays))
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


class _OpenVino:
    """A network that OpenVINO runs."""

    backend = "openvino"

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._model = model

    def __call__(self, *arrays: Array) -> tuple[NDArray[np.float32], ...]:
        """Its outputs for one batch of inputs. Safe in threads."""
        found = self._model.create_infer_request().infer(list(arrays))
        return tuple(np.array(found[output], np.float32) for output in self._model.outputs)


def open_tower(graph: Graph, cache: Path | None) -> Tower:
    """The network that `graph` describes, on ONNX Runtime if that gives torch's answers, else on torch.

    Args:
        graph: the network.
        cache: folder that conversions are kept in; None converts in memory, once a process.
    """
    try:
        return open_session(graph, cache)
    except Unusable as error:
        at = (graph.name, graph.key)
        if at not in _on_torch:
            _on_torch.add(at)
            _log.warning("%s runs on torch, more slowly: %s", graph.name, error)
        return TorchTower(graph.build().eval())


def open_session(graph: Graph, cache: Path | None) -> Tower:
    """The network on ONNX Runtime; one of a name and key serves the whole process.

    Raises:
        Unusable: ONNX Runtime cannot have it, now or with these packages at all.
    """
    at = (graph.name, graph.key)
    with _opening:
        if at in _refused:
            raise Unusable(_refused[at])
        session = _open.get(at)
        if session is None:
            try:
                session = _load_or_convert(graph, cache)
            except Unusable as error:
                _refused[at] = str(error)
                raise
            _open[at] = session
        return session


def open_openvino(graph: Graph, cache: Path | None) -> Tower:
    """The network's conversion on OpenVINO, in the numbers that are fastest on this processor.

    Raises:
        Unusable: OpenVINO is not installed or does not take it, or no folder holds the conversion.
    """
    try:
        import openvino
    except ImportError as error:
        raise Unusable(f"OpenVINO is not installed ({error}): pip install 'imgret-tools[openvino]'") from None
    open_session(graph, cache)  # converts it, or looks whether its files are those that were written
    home = None if cache is None else _home(graph, cache)
    if home is None or not (home / _MODEL).is_file():
        raise Unusable("no folder holds the converted network, which OpenVINO reads from a file")
    try:
        return _OpenVino(openvino.Core().compile_model(str(home / _MODEL), "CPU"))
    except RuntimeError as error:
        raise Unusable(f"OpenVINO cannot load it ({_one_line(error)})") from error


def _home(graph: Graph, cache: Path) -> Path:
    return cache / "onnx" / f"{graph.name}-{graph.key}-{_FORMAT}"


def _load_or_convert(graph: Graph, cache: Path | None) -> _Session:
    if cache is None:
        return _convert_in_memory(graph)
    home = _home(graph, cache)
    session = _load(home, graph)
    if session is not None:
        return session
    refusal = home.with_name(f"{home.name}.refused.json")
    _raise_again(refusal)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        with FileLock(home.with_name(f".{home.name}.lock"), timeout=_WAIT):
            session = _load(home, graph)  # another process may have made it meanwhile
            if session is None:
                _keep(graph, _convert(graph), home)
                session = _load(home, graph)
            if session is not None:
                return session
            raise OSError(f"what was written to {home} cannot be read back")
    except Unusable as error:
        with suppress(OSError), atomic_write(refusal) as file:
            file.write(json.dumps({"reason": str(error), "versions": versions(*_PACKAGES)}).encode())
        raise
    except (OSError, TimeoutError) as error:  # filelock's Timeout is a TimeoutError
        if cache not in _unwritable:
            _unwritable.add(cache)
            _log.warning("%s cannot hold converted networks (%s); they are converted at every start", cache, error)
        return _convert_in_memory(graph)


def _convert_in_memory(graph: Graph) -> _Session:
    session = _in_memory[graph.name, graph.key] = _session(_convert(graph), graph)
    return session


def _raise_again(refusal: Path) -> None:
    """Raise what an earlier process found, if it had the same packages: trying again would cost seconds each start."""
    try:
        found = json.loads(refusal.read_text(encoding="utf-8"))
        reason = str(found["reason"]) if found["versions"] == versions(*_PACKAGES) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return
    if reason:
        raise Unusable(reason)


def _load(home: Path, graph: Graph) -> _Session | None:
    """The conversion at `home`, or None if it is not there, not whole or not readable by this ONNX Runtime."""
    try:
        card = json.loads((home / _CARD).read_text(encoding="utf-8"))
        expected = {name: str(card["sha256"][name]) for name in (_MODEL, _WEIGHTS)}
        written = card.get("written")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is made again: its card cannot be read (%s)", home, error)
        return None
    try:
        is_untouched = _stamps(home) == written
        with meanwhile(_import_runtime):  # it takes as long as the hashing, on another core
            is_whole = is_untouched or expected == {name: _sha256(home / name) for name in expected}
    except OSError:
        is_whole = False
    if not is_whole:
        _log.warning("%s is made again: its files are not those that were written", home)
        return None
    try:
        return _session(home / _MODEL, graph)
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
        hashes = {name: _sha256(beside / name) for name in (_MODEL, _WEIGHTS)}
        card = {"name": graph.name, "sha256": hashes, "written": _stamps(beside)}
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


def _convert(graph: Graph) -> bytes:
    """The network as an ONNX model whose answers are torch's.

    Raises:
        Unusable: torch cannot write it, ONNX Runtime cannot run it, the answers differ, or a package is missing.
    """
    try:
        import onnx  # noqa: F401 -- torch's exporter needs it and says so late

        module = graph.build().eval()
        model = _export(graph, module)
        if graph.int8:
            return _in_int8(model)
    except ImportError as error:
        raise Unusable(f"{error.name or error} is not installed; pip install {error.name or 'onnx'}") from error
    except EncoderError:
        raise  # about the weights: torch cannot run those either
    except Exception as error:  # torch's exporter raises whatever its passes do
        raise Unusable(f"torch cannot convert it ({_one_line(error)})") from error
    _compare(graph, TorchTower(module), _session(model, graph))
    return model


def _export(graph: Graph, module: nn.Module) -> bytes:
    import io

    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad(), _plain_attention(module):
        warnings.simplefilter("ignore")  # about tracing; the answers are compared afterwards
        torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in graph.examples()[0]),
            buffer,  # type: ignore[arg-type]  # the file it is annotated for would have to be read again
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: axes for name, axes in graph.inputs.items() if axes}
            | {name: {0: "n"} for name in graph.outputs},
            opset_version=_OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


@contextmanager
def _plain_attention(module: nn.Module) -> Iterator[None]:
    """torch's attention written out meanwhile: its own code is traced with the batch and the length of the example."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    class Plain(torch.nn.Module):
        def __init__(self, whole: nn.MultiheadAttention) -> None:
            super().__init__()
            self.whole = whole

        def forward(
            self, query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None = None, **_: object
        ) -> tuple[Tensor, None]:
            own = self.whole
            biases = own.in_proj_bias.chunk(3) if own.in_proj_bias is not None else (None,) * 3
            parts = []
            for x, weight, bias in zip((query, key, value), own.in_proj_weight.chunk(3), biases, strict=True):
                rows = x if own.batch_first else x.transpose(0, 1)
                heads = F.linear(rows, weight, bias).reshape(*rows.shape[:2], own.num_heads, own.head_dim)
                parts.append(heads.transpose(1, 2))
            q, k, v = parts
            likeness = q @ k.transpose(2, 3) / own.head_dim**0.5
            if attn_mask is not None:
                likeness = (
                    likeness.masked_fill(attn_mask, -1e9) if attn_mask.dtype == torch.bool else likeness + attn_mask
                )
            rows = own.out_proj((torch.softmax(likeness, dim=-1) @ v).transpose(1, 2).flatten(2))
            return (rows if own.batch_first else rows.transpose(0, 1)), None

    replaced = []
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.MultiheadAttention) and child._qkv_same_embed_dim:
                replaced.append((parent, name, child))
    for parent, name, child in replaced:
        setattr(parent, name, Plain(child).eval())
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _in_int8(model: bytes) -> bytes:
    """`model` with the weights of its matrix products in 8 bits, a scale a column (dynamic quantisation)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]

    whole = onnx.load_model_from_string(model)
    _lay_weights_open(whole)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), _quiet("root"):
        target = Path(scratch) / _MODEL
        quantize_dynamic(
            whole,
            target,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=not has_int8_products(),  # else sums of products overflow 16 bits on such processors
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """No advice of that logger meanwhile."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _compare(graph: Graph, original: TorchTower, converted: _Session) -> None:
    """Raise Unusable if ONNX Runtime cannot run the examples or answers otherwise than torch."""
    for example in graph.examples():
        try:
            found = converted(*example)
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise Unusable(f"ONNX Runtime cannot run it ({_one_line(error)})") from error
        worst = max(difference(a, b) for a, b in zip(found, original(*example), strict=True))
        if not worst <= TOLERANCE:
            raise Unusable(f"its answers differ from torch's by {worst:.2g}, more than {TOLERANCE:g}")


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference of two arrays in any number; infinite for other shapes, NaN where one has a NaN."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")


def _session(model: bytes | Path, graph: Graph) -> _Session:
    """ONNX Runtime's session for a model.

    Raises:
        Unusable: it has none: an operator is missing, the file is not what it was.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise Unusable(f"onnxruntime cannot be imported ({_one_line(error)})") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = graph.threads or cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised too
    # Idle threads sleep instead of spinning: decoding needs the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # the batches differ in size
    if not graph.prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise Unusable(f"ONNX Runtime cannot load it ({_one_line(error)})") from error
    return _Session(session)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Around what keeps the disk and other cores busy, such as the loading of a tower: `work` in Python runs beside it."""
    beside = threading.Thread(target=work, daemon=True)
    beside.start()
    try:
        yield
    finally:
        beside.join()


def _import_runtime() -> None:
    with suppress(ImportError):  # `_session` says so
        import onnxruntime  # noqa: F401


def _stamps(home: Path) -> dict[str, list[int]]:
    """Bytes and time of writing (ns) of a conversion's files."""
    found = {name: (home / name).stat() for name in (_MODEL, _WEIGHTS)}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def _sha256(file: Path) -> str:
    digest, buffer = (
        hashlib.sha256(),
        memoryview(bytearray(1 << 24)),
    )  # a thread in Python may halt us between two pieces
    with file.open("rb", buffering=0) as stream:
        while size := stream.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()


def _one_line(error: BaseException) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
