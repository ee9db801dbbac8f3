"""`mini`, the encoder that needs no hub: a 224-pixel ImageNet network and a sentence model, joined by ConSE.

An image row is `[sqrt(1 - w) * look ; sqrt(w) * meaning]`, a text row `[0 ; meaning]`, each half unit, 768 numbers:

- *look* (384): the network's pooled features, unit, projected on the first right singular vectors of its row-centred
  class weights, the directions in which classes differ; unit again. It carries image -> image search. Pooled twice,
  over the whole map and over its centre, and averaged: what a photo is of stands near its middle.
- *meaning* (384): the text vectors of the 1000 ImageNet classes, weighted by the image's class probabilities (ConSE,
  Norouzi et al. 2013, arXiv:1312.5650). A class's vector is the mean of its name's and of its name with WordNet's
  definition, which brings in the kind a person would ask for ("a domestic cat"). A text's meaning is its own sentence
  vector. Both are centred by the mean class vector, so that a text which fits nothing scores about 0.

What that buys and costs is measured by benchmarks/mini_quality.py. The network knows 1000 classes and sentence vectors
bring neighbouring words to them; it reads no counts, positions or names of people.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders.class_meanings import FILE as MEANINGS_FILE
from imgret_tools.encoders.class_meanings import class_names, class_vectors
from imgret_tools.encoders.device import resolve_device
from imgret_tools.encoders.glossary.vietnamese import in_english
from imgret_tools.encoders.lite0 import SIDE, Lite0, weights_file
from imgret_tools.encoders.minilm import DIM, MiniLM, model_folder
from imgret_tools.encoders.protocol import Rows

if TYPE_CHECKING:
    from torch import Tensor

_MEANING_WEIGHT = 0.1
_RECIPE = "mini-2"  # part of the fingerprint: change it whenever rows change
_CROP = 0.875  # of the shorter side: what the weights were trained for
_TEMPERATURE = 1.5  # of the class probabilities: softer ones bring in the neighbours of the best class
_EDGE = 1  # places of the 7 x 7 feature map left out at each side for its centre
_BATCH = 32
_SAMPLE = 65536


@dataclass(frozen=True, slots=True)
class _Meanings:
    """The classes as directions of meaning: unit rows (1000, 384) around `centre` (384,)."""

    rows: Rows
    centre: Rows


class Mini:
    """The embedded default; each tower is loaded when it is first used."""

    name = "mini"
    dim = 2 * DIM
    side = SIDE
    translates = True

    def __init__(self, *, device: str = "") -> None:
        self._device = device
        self._lock = threading.Lock()
        self._loaded_text_tower: MiniLM | None = None
        self._loaded_vision_tower: Lite0 | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the recipe and of the weight files' sizes, beginnings and ends; it loads no model."""
        digest = hashlib.sha256(_RECIPE.encode())
        for file in (weights_file(), model_folder() / "model.safetensors", MEANINGS_FILE):
            size = file.stat().st_size
            with file.open("rb") as stream:
                digest.update(str(size).encode() + stream.read(_SAMPLE))
                stream.seek(max(size - _SAMPLE, 0))
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()[:16]

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The central 7/8 of an upright RGB picture: (3, 224, 224) float32 in [-1, 1]."""
        width, height = image.size
        side = min(width, height) * _CROP
        left, top = (width - side) / 2, (height - side) / 2
        cropped = image.convert("RGB").resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
        pixels = np.asarray(cropped, dtype=np.float32).transpose(2, 0, 1)
        return np.ascontiguousarray(pixels / 127.5 - 1.0)

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, 768) float32 of n prepared pictures, in order."""
        rows = np.zeros((len(prepared), self.dim), dtype=np.float32)
        for start in range(0, len(prepared), _BATCH):
            features, probabilities = self._see(prepared[start : start + _BATCH])
            look = _unit(_unit(features) @ self._projection)
            meaning = _unit(probabilities @ self._meanings.rows)
            joined = np.hstack([np.sqrt(1 - _MEANING_WEIGHT) * look, np.sqrt(_MEANING_WEIGHT) * meaning])
            rows[start : start + _BATCH] = _unit(joined)
        return rows

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, 768) float32 of n texts in the images' space, in order; Vietnamese ones by the glossary."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        if len(texts):
            vectors = self._text_tower.encode([in_english(text) for text in texts])
            rows[:, DIM:] = _unit(vectors - self._meanings.centre)
        return rows

    def classify(self, prepared: NDArray[np.float32], *, top: int = 5) -> list[tuple[str, float]]:
        """The `top` likeliest ImageNet classes of one prepared picture, best first: (name, probability in [0, 1])."""
        probabilities = self._see([prepared])[1][0]
        names = class_names()
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [(names[i], float(probabilities[i])) for i in best]

    def why_text(self, prepared: NDArray[np.float32], text: str, *, top: int = 3) -> list[tuple[str, float]]:
        """The classes that carry a text's hit on one prepared picture, most first: (name, share of the cosine).

        The cosine of the two meanings is a sum over the 1000 classes, probability times the class's likeness to the
        text; the shares of all classes sum to 1 (or to -1 where the text speaks against the picture).
        """
        probabilities = self._see([prepared])[1][0]
        likeness = self._meanings.rows @ self.encode_texts([text])[0, DIM:]
        parts = probabilities * likeness
        total = abs(float(parts.sum())) or 1.0
        names = class_names()
        best = np.argsort(-parts, kind="stable")[:top]
        return [(names[i], float(parts[i]) / total) for i in best]

    def _see(self, prepared: Sequence[NDArray[np.float32]]) -> tuple[Rows, Rows]:
        """Features (n, 1280) and class probabilities (n, 1000) of up to a batch of prepared pictures."""
        import torch

        tower = self._vision_tower
        places = tower.feature_map(torch.from_numpy(np.stack(prepared)))
        with torch.inference_mode():
            centre = places[:, :, _EDGE:-_EDGE, _EDGE:-_EDGE]
            features = (places.mean((2, 3)) + centre.mean((2, 3))) / 2
            probabilities = torch.softmax(tower.classify(features) / _TEMPERATURE, dim=-1)
            return features.cpu().numpy(), probabilities.cpu().numpy()

    @property
    def _text_tower(self) -> MiniLM:
        with self._lock:
            if self._loaded_text_tower is None:
                self._loaded_text_tower = MiniLM(device=resolve_device(self._device))
            return self._loaded_text_tower

    @property
    def _vision_tower(self) -> Lite0:
        with self._lock:
            if self._loaded_vision_tower is None:
                self._loaded_vision_tower = Lite0(device=resolve_device(self._device))
            return self._loaded_vision_tower

    @cached_property
    def _meanings(self) -> _Meanings:
        vectors = class_vectors()
        centre = vectors.mean(axis=0)
        return _Meanings(_unit(vectors - centre), centre)

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
