"""`openclip`: any OpenCLIP model (Radford et al. 2021, arXiv:2103.00020; open_clip), images and texts in one space.

A text needs the text tower alone: on the CPU it is converted to ONNX once (see `onnx`), and then neither torch nor
open_clip is imported for a search by words. A picture needs the image tower alone. Which way to run that one is the
fastest depends on the machine (`_WAYS`): it is measured once an index run has encoded 64 pictures, among those ways whose rows
have a cosine of at least .999 with torch's float32 ones, and remembered with the machine in the cache.
"""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders import clip_tokens, weights
from imgret_tools.encoders.device import machine, processor, resolve_device
from imgret_tools.encoders.glossary.vietnamese import in_english
from imgret_tools.encoders.onnx import (
    Array,
    Graph,
    TorchTower,
    Tower,
    Unusable,
    meanwhile,
    open_openvino,
    open_session,
    open_tower,
)
from imgret_tools.encoders.preprocess import Preprocess
from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.rows import unit
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.encoders.unread import Reading
from imgret_tools.errors import EncoderError
from imgret_tools.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 32
_TRIAL = 8  # pictures in the trial that decides how the image tower runs
_WORTH_IT = 64  # pictures before that trial: converting takes as long as encoding a hundred
_SAME_ROWS = 0.999  # least cosine to the rows of torch in float32
_CLEARLY_FASTER = 0.9  # of the time: a way that is not exact must be worth it
_REVISION = "1"  # part of a conversion's key: change it when `_text_module` or `_image_module` change
_FLOAT32 = "torch float32"
_log = logging.getLogger("imgret_tools")


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to run the image tower: its `format` of numbers, on `devices`.

    On a processor of which the features are known, it needs one of `features`: without them torch emulates bfloat16,
    several times slower than float32, and only to find that out would take a minute.
    """

    name: str
    format: str
    devices: tuple[str, ...]
    features: frozenset[str] = frozenset()

    def suits(self, device: str) -> bool:
        """Whether it is worth a trial on a torch device of this kind here."""
        known = processor()[1]
        lacking = device == "cpu" and known and self.features and known.isdisjoint(self.features)
        return device in self.devices and not lacking


_WAYS = (
    _Way(_FLOAT32, "float32", ("cpu", "cuda", "mps")),
    _Way("torch float16", "float16", ("cuda", "mps")),
    _Way("torch bfloat16", "bfloat16", ("cpu", "cuda"), frozenset({"avx512_bf16", "amx_bf16", "bf16"})),
    _Way("onnxruntime float32", "float32", ("cpu",)),
    _Way("onnxruntime int8", "int8", ("cpu",)),
    _Way("openvino", "float32", ("cpu",)),
)


class OpenClip:
    """One OpenCLIP model; nothing is loaded before it is used, and never random weights."""

    def __init__(
        self,
        source: weights.Source,
        *,
        device: str = "",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        cache: Path | None = None,
    ) -> None:
        self._source = source
        self._wanted_device = device
        self._precision = precision
        self._cache = cache
        self._lock = threading.RLock()
        self._images: tuple[_Way, Tower] | None = None
        self._settled = precision != "auto"
        self._seen = 0  # pictures so far
        self._texts: Tower | None = None

    @property
    def name(self) -> str:
        """The spec, with an absolute path where it names a file."""
        return self._source.spec

    @cached_property
    def fingerprint(self) -> str:
        """Digest of samples of the weights file and of the configuration (see `weights.fingerprint`)."""
        return weights.fingerprint(self._file, extra=repr(sorted(self._config.items(), key=lambda item: item[0])))

    @property
    def dim(self) -> int:
        """Length of a row."""
        return int(str(self._config["embed_dim"]))

    @property
    def side(self) -> int:
        """Pixels of the square input."""
        return max(self._preprocess.size)

    @property
    def translates(self) -> bool:
        """Whether Vietnamese is put into English first: yes for CLIP's own tokenizer, no for multilingual ones."""
        return not (self._text_config.get("hf_tokenizer_name") or self._text_config.get("hf_model_name"))

    @property
    def precision(self) -> str:
        """Number format of the image tower, e.g. `float32`, `bfloat16`, `int8`; loads it."""
        return self._image_tower[0].format

    @property
    def backend(self) -> str:
        """How the image tower runs, e.g. `torch float32` or `onnxruntime int8`; loads it."""
        return self._image_tower[0].name

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The model's own validation preprocessing of one upright RGB picture: (3, side, side) float32."""
        return self._preprocess(image)

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, dim) float32 of n prepared pictures, in order; at most 32 go through the model at a time."""
        rows = np.zeros((len(prepared), self.dim), dtype=np.float32)
        for start in range(0, len(prepared), _BATCH):
            batch = np.stack(prepared[start : start + _BATCH])
            self._seen += len(batch)
            if self._seen >= _WORTH_IT and len(batch) >= _TRIAL:
                self._settle(batch[:_TRIAL])
            rows[start : start + _BATCH] = unit(self._image_tower[1](batch)[0])
        return rows

    @cached_property
    def reading(self) -> Reading:
        """How the model's tokenizer reads; CLIP's own was trained on English, others on many languages."""
        longest = self._context - 2
        theirs = None if self._has_clip_tokens else getattr(self._their_tokenizer, "tokenizer", None)  # Hugging Face's
        if theirs is None:
            return Reading(longest, clip_tokens.pieces)
        return Reading(
            longest,
            lambda text: [None if one == theirs.unk_token else one for one in theirs.tokenize(text)],
            frozenset(),
        )

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, dim) float32 of n texts, in order; words beyond the model's context are not read."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = list(texts[start : start + _BATCH])
            tower = self._text_tower
            tokens = self._tokenize([in_english(text) for text in batch] if self.translates else batch)
            rows[start : start + _BATCH] = unit(tower(tokens)[0])
        return rows

    # What the files say

    @cached_property
    def _file(self) -> Path:
        return weights.fetch(self._source)

    @cached_property
    def _config(self) -> dict[str, object]:
        return weights.config(self._source, self._folder)

    @property
    def _folder(self) -> Path | None:
        """Where the model's own configuration lies; None if open_clip has it."""
        return None if self._source.model else self._file.parent

    @property
    def _text_config(self) -> dict[str, object]:
        text = self._config.get("text_cfg")
        return text if isinstance(text, dict) else {}

    @cached_property
    def _preprocess(self) -> Preprocess:
        vision = self._config.get("vision_cfg")
        size = vision.get("image_size", 224) if isinstance(vision, dict) else 224
        return Preprocess.of(size, weights.preprocess_config(self._source, self._folder))

    # Texts

    def _tokenize(self, texts: list[str]) -> NDArray[np.int64]:
        """Token numbers (n, length) int64."""
        if self._has_clip_tokens:
            tokens = clip_tokens.tokenize(texts, context=self._context)
            return clip_tokens.trimmed(tokens) if self._reads_to_the_end_token else tokens
        return np.asarray(self._their_tokenizer(texts).numpy(), dtype=np.int64)

    @property
    def _context(self) -> int:
        return int(str(self._text_config.get("context_length", clip_tokens.CONTEXT)))

    @property
    def _has_clip_tokens(self) -> bool:
        return self.translates and not self._text_config.get("tokenizer_kwargs")

    @property
    def _reads_to_the_end_token(self) -> bool:
        """Whether the text tower is plain CLIP: each token sees those before it, and the row is the end token's.

        What stands after the end token then changes nothing, and need not be computed.
        """
        custom = self._config.get("custom_text") or "multimodal_cfg" in self._config
        pooled = self._text_config.get("pool_type", "argmax") == "argmax"
        own = self._text_config.get("no_causal_mask") or self._text_config.get("embed_cls")
        return self._has_clip_tokens and pooled and not custom and not own

    @cached_property
    def _their_tokenizer(self) -> Callable[[list[str]], Tensor]:
        open_clip = _open_clip()
        try:
            tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(self._identifier)
        except Exception as error:  # transformers and the hub's client each raise their own
            raise EncoderError(
                "the tokenizer of {name} does not load ({reason})", name=self.name, reason=_first_lines(error)
            ) from error
        return tokenizer

    @property
    def _text_tower(self) -> Tower:
        with self._lock:
            if self._texts is None:
                if self._wanted_device in ("", "cpu"):
                    graph = self._text_graph()
                    with meanwhile(self._learn_to_read):
                        self._texts = open_tower(graph, self._cache)
                else:
                    self._texts = TorchTower(
                        _text_module(self._load(), trimmed=self._reads_to_the_end_token),
                        device=resolve_device(self._wanted_device),
                    )
            return self._texts

    def _learn_to_read(self) -> None:
        if self._has_clip_tokens:
            in_english("")
            clip_tokens.pieces("")

    def _text_graph(self) -> Graph:
        trimmed = self._reads_to_the_end_token

        def examples() -> list[tuple[Array, ...]]:
            tokens = self._tokenize(["a photo of a cat", "x", "two dogs on a beach at sunset"])
            return [(tokens,), (self._tokenize(["word " * 50 + "and one more"]),), (tokens[1:2],)]

        return Graph(
            name="openclip-text",
            key=f"{self.fingerprint}-{self._tag_key}{_REVISION}",
            inputs={"tokens": {0: "n", 1: "length"} if trimmed else {0: "n"}},
            outputs=("rows",),
            build=lambda: _text_module(self._load(), trimmed=trimmed),
            examples=examples,
            prepack=False,
        )

    # Pictures

    @property
    def _image_tower(self) -> tuple[_Way, Tower]:
        """How the image tower runs, loaded: as remembered for this machine, else by torch in float32."""
        with self._lock:
            if self._images is None:
                way = _WAYS[0]
                if self._precision == "bf16":
                    way = next(each for each in _WAYS if each.name == "torch bfloat16")
                elif self._precision == "auto" and self._wanted_device in ("", "cpu"):
                    remembered = self._remembered()
                    way = next((each for each in _WAYS if each.name == remembered), way)
                    self._settled = bool(remembered)
                try:
                    self._images = way, self._run(way)
                except Unusable as error:
                    _log.warning("%s runs by torch instead of %s: %s", self.name, way.name, error)
                    self._images = _WAYS[0], self._run(_WAYS[0])
            return self._images

    def _run(self, way: _Way, loaded: nn.Module | None = None) -> Tower:
        """The image tower run in one way.

        Args:
            way: how.
            loaded: the tower in float32, if it is in memory already; it stays as it is.

        Raises:
            Unusable: that is not possible here.
        """

        def module() -> nn.Module:
            return _image_module(self._load()) if loaded is None else copy.deepcopy(loaded).to("cpu")

        if way.name.startswith("torch"):
            import torch

            return TorchTower(module().to(getattr(torch, way.format)), device=resolve_device(self._wanted_device))
        if way.name == "openvino":
            return open_openvino(self._image_graph(module), self._cache)
        return open_session(self._image_graph(module, int8=way.format == "int8"), self._cache)

    def _image_graph(self, build: Callable[[], nn.Module], *, int8: bool = False) -> Graph:
        height, width = self._preprocess.size

        def examples() -> list[tuple[Array, ...]]:
            pictures = np.random.default_rng(0).normal(size=(3, 3, height, width)).astype(np.float32)
            return [(pictures[:2],), (pictures[2:],)]

        return Graph(
            name="openclip-image-int8" if int8 else "openclip-image",
            key=f"{self.fingerprint}-{self._tag_key}{_REVISION}",
            inputs={"pictures": {0: "n"}},
            outputs=("rows",),
            build=build,
            examples=examples,
            int8=int8,
        )

    def _settle(self, batch: Rows) -> None:
        """Once: take the fastest way that gives the rows of torch in float32, and remember it for this machine."""
        with self._lock:
            self._image_tower  # noqa: B018 -- loads it, as remembered if it is
            if self._settled:
                return
            self._settled = True
            exact, tower = self._image_tower
            device = tower.backend.removeprefix("torch ").partition(":")[0]
            expected, fastest = _timed(tower, batch)
            measured = {exact.name: round(len(batch) / fastest, 1)}
            best = exact, tower
            for way in _WAYS[1:]:
                if not way.suits(device):
                    continue
                try:
                    candidate = self._run(way, tower.module if isinstance(tower, TorchTower) else None)
                    rows, seconds = _timed(candidate, batch)
                except (Unusable, RuntimeError, NotImplementedError) as error:  # e.g. a layer without that format
                    _log.info("%s does not run by %s: %s", self.name, way.name, _first_lines(error))
                    continue
                if float((rows * expected).sum(axis=1).min()) < _SAME_ROWS:
                    continue
                measured[way.name] = round(len(batch) / seconds, 1)
                if seconds < fastest * (_CLEARLY_FASTER if best[0] is exact else 1):
                    best, fastest = (way, candidate), seconds
            self._images = best
            self._remember(best[0].name, measured)

    @property
    def _choice_file(self) -> Path | None:
        return None if self._cache is None else self._cache / "openclip" / f"{self.fingerprint}.json"

    def _remembered(self) -> str:
        """The way that was the fastest on this machine, or "" if it was not measured yet, or on another one."""
        if self._choice_file is None:
            return ""
        try:
            found = json.loads(self._choice_file.read_text(encoding="utf-8"))
            return str(found["way"]) if found["machine"] == _this_machine() else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _remember(self, way: str, measured: dict[str, float]) -> None:
        if self._choice_file is None:
            return
        card = {"way": way, "images_per_second": measured, "machine": _this_machine()}
        with suppress(OSError):  # measured again next time
            self._choice_file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._choice_file) as file:
                file.write(json.dumps(card, indent=1).encode())

    # The model itself

    @property
    def _identifier(self) -> str:
        return self._source.model or f"local-dir:{self._file.parent}"

    @cached_property
    def _tag_key(self) -> str:
        """Part of a conversion's key: with the tag comes the activation that the weights were trained with."""
        return "quick-" if self._card.get("quick_gelu") else ""

    @property
    def _card(self) -> dict[str, object]:
        return weights.pretrained_card(self._source)

    def _load(self) -> nn.Module:
        """Build the model on the CPU and put its weights in.

        The file is always given by path: open_clip asked for a tag or a repository would call the hub again, and wait
        for it, even when the weights are in its cache.
        """
        open_clip = _open_clip()
        source, file = self._source, self._file
        try:
            model = open_clip.create_model(
                self._identifier,
                pretrained=str(file) if source.model else None,
                require_pretrained=True,
                force_quick_gelu=bool(self._card.get("quick_gelu", False)),
                weights_only=True,  # numbers, and nothing that unpickling would run
            )
        except Exception as error:  # torch, safetensors, pickle and open_clip each raise their own
            raise EncoderError(
                "{file} does not load as {model} ({reason}); expected weights of that architecture: name the model "
                "they were trained as",
                file=file,
                model=source.model or "the model of its " + weights.CONFIG,
                reason=_first_lines(error),
            ) from error
        loaded: nn.Module = model.eval().requires_grad_(False)
        return loaded


def _open_clip() -> ModuleType:
    guard_torchvision()
    import open_clip  # type: ignore[import-untyped]

    module: ModuleType = open_clip
    return module


def _text_module(model: nn.Module, *, trimmed: bool) -> nn.Module:
    """The text tower alone: tokens (n, length) to rows (n, dim); with `trimmed`, length may be less than the context."""
    import torch

    model.visual = None  # type: ignore[assignment]  # not needed, and two thirds of the memory

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor) -> Tensor:
            whole = self.model
            if not trimmed:
                rows: Tensor = whole.encode_text(tokens)  # type: ignore[operator]
                return rows
            length = tokens.shape[1]
            x = whole.token_embedding(tokens) + whole.positional_embedding[:length]  # type: ignore[operator, index]
            x = whole.transformer(x, attn_mask=whole.attn_mask[:length, :length])  # type: ignore[operator, index]
            x = whole.ln_final(x)[torch.arange(x.shape[0]), tokens.argmax(dim=-1)]  # type: ignore[operator]
            projection = whole.text_projection
            if projection is None:
                return x
            rows = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
            return rows

    return TextTower()


def _image_module(model: nn.Module) -> nn.Module:
    """The image tower alone: pictures (n, 3, height, width) to rows (n, dim)."""
    import torch

    visual: nn.Module = model.visual  # type: ignore[assignment]

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pictures: Tensor) -> Tensor:
            rows = self.visual(pictures.to(next(self.visual.parameters()).dtype))
            return rows[0] if isinstance(rows, tuple) else rows  # type: ignore[no-any-return]

    return ImageTower()


def _timed(tower: Tower, batch: Rows) -> tuple[Rows, float]:
    """The unit rows of a batch and the better of two times in seconds, after one run to warm up."""
    rows = unit(tower(batch)[0])
    times = []
    for _ in range(2):
        start = time.perf_counter()
        tower(batch)
        times.append(time.perf_counter() - start)
    return rows, min(times)


def _this_machine() -> dict[str, str]:
    return machine("torch", "onnxruntime", "openvino")


def _first_lines(error: BaseException) -> str:
    lines: Iterator[str] = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line)[:300] or type(error).__name__
