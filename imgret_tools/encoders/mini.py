"""`mini`, the encoder that needs no hub: a 224-pixel ImageNet network and a sentence model, joined by ConSE.

An image row is `[sqrt(1 - w) * look ; sqrt(w) * meaning]`, a text row `[0 ; meaning]`, each half unit, 768 numbers:

- *look* (384): the network's pooled features, unit, projected on the first right singular vectors of its row-centred
  class weights, the directions in which classes differ; unit again. It carries image -> image search.
- *meaning* (384): the text vectors of the 1000 ImageNet class names, weighted by the image's class probabilities
  (ConSE, Norouzi et al. 2013, arXiv:1312.5650); class vectors centred by their mean. A text's meaning is its own
  sentence vector, so that `text . image` ranks as `text . meaning` does.

What that buys and costs is measured by benchmarks/mini_quality.py. The network knows 1000 classes and sentence vectors
bring neighbouring words to them; it reads no counts, positions or names of people.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import EncoderError
from .device import resolve_device
from .lite0 import SIDE, Lite0, weights_file
from .minilm import DIM, MiniLM, model_folder
from .protocol import Rows

if TYPE_CHECKING:
    from torch import Tensor

_MEANING_WEIGHT = 0.1
_RECIPE = "mini-1"  # part of the fingerprint: change it whenever rows change
_RESIZE = 256  # shorter side before the 224 centre crop, as the weights were trained for (crop 0.875)
_BATCH = 32
_SAMPLE = 65536


def class_names() -> tuple[str, ...]:
    """The 1000 ImageNet class names in the network's order, read from open_clip's file without importing open_clip."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise EncoderError(
            "the package open-clip-torch is not installed; encoder 'mini' reads ImageNet's class names from it"
        )
    file = Path(package.origin).with_name("zero_shot_metadata.py")
    spec = importlib.util.spec_from_file_location("_imgret_zero_shot_metadata", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise EncoderError(f"no {file}; encoder 'mini' reads ImageNet's class names there: pip install open-clip-torch")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(module.IMAGENET_CLASSNAMES)


class Mini:
    """The embedded default; each tower is loaded when it is first used."""

    name = "mini"
    dim = 2 * DIM
    side = SIDE

    def __init__(self, *, device: str = "") -> None:
        self._wanted_device = device
        self._lock = threading.RLock()

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the recipe and of both weight files' sizes, beginnings and ends; it loads no model."""
        digest = hashlib.sha256(_RECIPE.encode())
        for file in (weights_file(), model_folder() / "model.safetensors"):
            size = file.stat().st_size
            with file.open("rb") as stream:
                digest.update(str(size).encode() + stream.read(_SAMPLE))
                stream.seek(max(size - _SAMPLE, 0))
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()[:16]

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The central 7/8 of an upright RGB picture: (3, 224, 224) float32 in [-1, 1]."""
        width, height = image.size
        scale = _RESIZE / min(width, height)
        crop_w, crop_h = SIDE / scale, SIDE / scale
        left, top = (width - crop_w) / 2, (height - crop_h) / 2
        cropped = image.convert("RGB").resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + crop_w, top + crop_h)
        )
        pixels = np.asarray(cropped, dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels / 127.5 - 1.0)

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, 768) float32 of n prepared pictures, in order."""
        rows = np.zeros((len(prepared), self.dim), dtype=np.float32)
        for start in range(0, len(prepared), _BATCH):
            features, probabilities = self._look(prepared[start : start + _BATCH])
            look = _unit(_unit(features) @ self._projection)
            meaning = _unit(probabilities @ self._class_vectors)
            joined = np.hstack([np.sqrt(1 - _MEANING_WEIGHT) * look, np.sqrt(_MEANING_WEIGHT) * meaning])
            rows[start : start + _BATCH] = _unit(joined)
        return rows

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, 768) float32 of n texts in the images' space, in order."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        rows[:, DIM:] = self._text_tower.encode(texts)
        return rows

    def _look(self, prepared: Sequence[NDArray[np.float32]]) -> tuple[Rows, Rows]:
        """Features (n, 1280) and class probabilities (n, 1000) of up to a batch of prepared pictures."""
        import torch

        features, logits = self._vision_tower(torch.from_numpy(np.stack(prepared)))
        return features.cpu().numpy(), torch.softmax(logits.float(), dim=-1).cpu().numpy()

    @cached_property
    def _device(self) -> str:
        return resolve_device(self._wanted_device)

    @property
    def _text_tower(self) -> MiniLM:
        with self._lock:
            return self._loaded_text_tower

    @property
    def _vision_tower(self) -> Lite0:
        with self._lock:
            return self._loaded_vision_tower

    @cached_property
    def _loaded_text_tower(self) -> MiniLM:
        return MiniLM(device=self._device)

    @cached_property
    def _loaded_vision_tower(self) -> Lite0:
        return Lite0(device=self._device)

    @cached_property
    def _class_vectors(self) -> Rows:
        """Meaning of the classes: (1000, 384), centred by their mean, unit."""
        vectors = self._text_tower.encode(class_names())
        return _unit(vectors - vectors.mean(axis=0))

    @cached_property
    def _projection(self) -> Rows:
        """(1280, 384) orthonormal columns: the directions in which the class weights differ most, signs fixed."""
        import torch

        weights: Tensor = self._vision_tower.class_weights.cpu().double()
        weights = weights - weights.mean(dim=1, keepdim=True)
        directions = torch.linalg.svd(weights, full_matrices=False).Vh[:DIM].numpy()
        signs = np.sign(directions[np.arange(DIM), np.abs(directions).argmax(axis=1)])
        return np.ascontiguousarray((directions * signs[:, None]).T.astype(np.float32))


def _unit(rows: Rows) -> Rows:
    """`rows` (n, d) scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)
