"""`openclip`: any OpenCLIP model (Radford et al. 2021, arXiv:2103.00020; open_clip), images and texts in one space."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders import weights
from imgret_tools.encoders.device import resolve_device
from imgret_tools.encoders.glossary.vietnamese import in_english
from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.encoders.unread import Reading
from imgret_tools.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 32
_TRIAL = 8  # pictures in the trial that decides on bfloat16
_CLEARLY_FASTER = 0.8  # of the float32 time
_SAME_ROWS = 0.9999  # least cosine between the rows of both precisions


@dataclass(slots=True)
class _Loaded:
    """The model in memory. Its image tower is in `image_type`; `tried` says that the choice has been made."""

    model: nn.Module
    image_type: str
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    device: str
    tried: bool


class OpenClip:
    """One OpenCLIP model; nothing is loaded before it is used, and never random weights.

    On a device where bfloat16 is clearly faster (measured on the first eight pictures) and gives the same rows (cosine
    at least 0.9999 to float32), `precision="auto"` keeps the image tower in bfloat16. Texts are encoded in float32.
    """

    def __init__(
        self,
        source: weights.Source,
        *,
        device: str = "",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> None:
        self._source = source
        self._wanted_device = device
        self._precision = precision
        self._lock = threading.Lock()
        self._model: _Loaded | None = None

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
        vision = self._config.get("vision_cfg")
        size = vision.get("image_size", 224) if isinstance(vision, dict) else 224
        return int(max(size) if isinstance(size, list) else size)

    @property
    def translates(self) -> bool:
        """Whether Vietnamese is put into English first: yes for CLIP's own tokenizer, no for multilingual ones."""
        text = self._config.get("text_cfg")
        return not (isinstance(text, dict) and (text.get("hf_tokenizer_name") or text.get("hf_model_name")))

    @property
    def precision(self) -> str:
        """Number format of the image tower: `float32` or `bfloat16`; loads the model."""
        return self._loaded.image_type

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The model's own validation preprocessing of one upright RGB picture: (3, side, side) float32."""
        return np.asarray(self._loaded.preprocess(image.convert("RGB")).numpy(), dtype=np.float32)

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, dim) float32 of n prepared pictures, in order; at most 32 go through the model at a time."""
        rows = np.zeros((len(prepared), self.dim), dtype=np.float32)
        for start in range(0, len(prepared), _BATCH):
            batch = np.stack(prepared[start : start + _BATCH])
            self._choose_precision(batch)
            loaded = self._loaded
            rows[start : start + _BATCH] = _forward(loaded, batch)
        return rows

    @cached_property
    def reading(self) -> Reading:
        """How the model's tokenizer reads; CLIP's own was trained on English, others on many languages."""
        tokenizer = self._loaded.tokenizer
        longest = int(getattr(tokenizer, "context_length", None) or 77) - 2
        inner = getattr(tokenizer, "tokenizer", None)  # of a model with a tokenizer of Hugging Face
        if inner is None:
            return Reading(longest, lambda text: [tokenizer.decoder[number] for number in tokenizer.encode(text)])  # type: ignore[attr-defined]
        return Reading(
            longest, lambda text: [None if one == inner.unk_token else one for one in inner.tokenize(text)], frozenset()
        )

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, dim) float32 of n texts, in order; words beyond the model's context are not read."""
        import torch

        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            loaded = self._loaded
            batch = texts[start : start + _BATCH]
            tokens = loaded.tokenizer([in_english(text) for text in batch] if self.translates else list(batch))
            with torch.inference_mode():
                encoded = loaded.model.encode_text(tokens.to(loaded.device))  # type: ignore[operator]
            rows[start : start + _BATCH] = _unit(encoded)
        return rows

    @cached_property
    def _file(self) -> Path:
        return weights.fetch(self._source)

    @cached_property
    def _config(self) -> dict[str, object]:
        return weights.config(self._source, None if self._source.model else self._file.parent)

    @property
    def _loaded(self) -> _Loaded:
        with self._lock:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> _Loaded:
        """Build the model and put its weights in.

        The file is always given by path: open_clip asked for a tag or a repository would call the hub again, and wait
        for it, even when the weights are in its cache.
        """
        device = resolve_device(self._wanted_device)
        guard_torchvision()
        import open_clip  # type: ignore[import-untyped]

        source, file = self._source, self._file
        card = open_clip.get_pretrained_cfg(source.model, source.tag) if source.tag else {}
        identifier = source.model or f"local-dir:{file.parent}"
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                identifier,
                pretrained=str(file) if source.model else None,
                require_pretrained=True,
                device=device,
                force_quick_gelu=bool(card.get("quick_gelu", False)),
                image_mean=card.get("mean"),
                image_std=card.get("std"),
                image_interpolation=card.get("interpolation"),
                image_resize_mode=card.get("resize_mode"),
            )
            tokenizer = open_clip.get_tokenizer(identifier)
        except Exception as error:  # torch, safetensors, pickle and open_clip each raise their own
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise EncoderError(
                f"{file} does not load as {source.model or 'the model of its ' + weights.CONFIG} "
                f"({' '.join(lines)[:300]}); expected weights of that architecture: name the model they were trained as"
            ) from error
        model.eval().requires_grad_(False)
        return _Loaded(model, "float32", preprocess, tokenizer, device, tried=self._precision == "fp32")

    def _choose_precision(self, batch: NDArray[np.float32]) -> None:
        """Once: keep the image tower in bfloat16 if asked to, or if it is clearly faster and gives the same rows."""
        loaded = self._loaded
        with self._lock:
            if loaded.tried:
                return
            loaded.tried = True
            import copy

            import torch

            trial = batch[:_TRIAL]
            rows, whole_time = _timed(loaded, trial)
            whole = loaded.model.visual
            loaded.model.visual = copy.deepcopy(whole).to(torch.bfloat16)
            loaded.image_type = "bfloat16"
            try:
                half_rows, half_time = _timed(loaded, trial)
                same = float((rows * half_rows).sum(axis=1).min()) >= _SAME_ROWS
                better = same and half_time < _CLEARLY_FASTER * whole_time
            except (RuntimeError, NotImplementedError) as error:  # a device or a layer that has no bfloat16
                if self._precision == "bf16":
                    raise EncoderError(f"{self.name} does not run in bfloat16 here ({error}); use fp32") from error
                better = False
            if not better and self._precision == "auto":
                loaded.model.visual, loaded.image_type = whole, "float32"


def _timed(loaded: _Loaded, batch: Rows) -> tuple[Rows, float]:
    """The rows of a batch and the better of two times in seconds, after one run to warm up."""
    rows = _forward(loaded, batch)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        rows = _forward(loaded, batch)
        times.append(time.perf_counter() - start)
    return rows, min(times)


def _forward(loaded: _Loaded, batch: Rows) -> Rows:
    """Unit rows (n, dim) float32 of a batch of pictures (n, 3, side, side)."""
    import torch

    with torch.inference_mode():
        pictures = torch.from_numpy(batch).to(loaded.device, getattr(torch, loaded.image_type))
        return _unit(loaded.model.encode_image(pictures))  # type: ignore[operator]


def _unit(rows: Tensor) -> Rows:
    import torch

    unit: Rows = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit
