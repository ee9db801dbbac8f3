"""`mini`, the encoder that needs no hub: an ImageNet network and a sentence model, joined by ConSE.

An image row is `[look ; palette ; meaning]`, each part unit and weighted by the root of its share of the cosine; a text
row is `[look ; 0 ; meaning]`:

- *look* (384 numbers a network): the network's pooled features, unit, projected on the first right singular vectors of
  its row-centred class weights, the directions in which classes differ; unit again. It carries image -> image search.
  Pooled twice, over the whole map and over its centre, and averaged: what a photo is of stands near its middle.
- *palette* (256, from recipe 4 on): which colours the picture has (palette.py).
- *meaning* (384): the text vectors of the 1000 ImageNet classes, weighted by the image's class probabilities (ConSE,
  Norouzi et al. 2013, arXiv:1312.5650). A class's vector is the mean of its name's and of its name with WordNet's
  definition, which brings in the kind a person would ask for ("a domestic cat"). A text's meaning is its own sentence
  vector. Both are centred by the mean class vector, so that a text which fits nothing scores about 0.
- A text's *look* is what the classes near to its meaning look like: the class weights in the look's directions, mixed by a
  softmax of the text's likeness to the classes. It knows pictures that a class is like, not only those that are of it.

Which networks, that is the recipe. A library is bound to the recipe it was made with by its fingerprint:
`make_encoder("mini", fingerprint=...)` gives that one, `make_encoder("mini")` the default, and `mini:3` names one.

What that buys and costs is measured by benchmarks/mini_quality.py (docs/encoders.md). The network knows 1000 classes
and sentence vectors bring neighbouring words to them; it reads no counts, positions or names of people.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders import palette
from imgret_tools.encoders.class_meanings import FILE as MEANINGS_FILE
from imgret_tools.encoders.class_meanings import class_names, class_vectors
from imgret_tools.encoders.device import cores, resolve_device
from imgret_tools.encoders.glossary.vietnamese import in_english
from imgret_tools.encoders.lite import CLASSES, LITE0, LITE2, Lite, Network, weights_file
from imgret_tools.encoders.minilm import DIM, MiniLM, model_folder
from imgret_tools.encoders.onnx import Array, Graph, TorchTower, Tower, meanwhile, open_tower
from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.rows import shipped, unit
from imgret_tools.encoders.unread import Reading
from imgret_tools.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "mini"
_MEANING_WEIGHT = 0.1  # of look and meaning
_PALETTE_WEIGHT = 0.1  # of the whole row, where a recipe has one
_COLOUR_WEIGHT = 0.2  # of a text's row, where it names colours
_TEMPERATURE = 1.5  # of the class probabilities: softer ones bring in the neighbours of the best class
_TEXT_TEMPERATURE = 0.1  # of a text's likeness to the classes, whose look it takes
_EDGE = 1  # places of the feature map left out at each side for its centre
_BATCH = 32  # pictures that torch sees at once; ONNX Runtime has one for each core at a time (docs/encoders.md)
_SAMPLE = 65536
_REVISION = "2"  # part of the conversion's key: change it when `network` changes


@dataclass(frozen=True, slots=True)
class Recipe:
    """How rows are made; libraries of two recipes do not share a space.

    Attributes:
        number: `mini:NUMBER` names it.
        salt: begins its fingerprint; a new one whenever rows change for a reason that no file shows.
        networks: what looks at the pictures; several see the same pixels, and their class probabilities are averaged.
        has_palette: whether rows hold the picture's colours too.
    """

    number: int
    salt: str
    networks: tuple[Network, ...]
    has_palette: bool = False

    @property
    def dim(self) -> int:
        """Length of a row."""
        return DIM * (len(self.networks) + 1) + palette.DIM * self.has_palette

    @property
    def side(self) -> int:
        """Pixels of the square input."""
        return max(network.side for network in self.networks)

    @property
    def crop(self) -> float:
        """The part of a picture's shorter side that is looked at."""
        return max(network.crop for network in self.networks)

    def fingerprint(self) -> str:
        """Digest of the salt and of the weight files' sizes, beginnings and ends; it loads no model."""
        files = [*map(weights_file, self.networks), model_folder() / "model.safetensors", MEANINGS_FILE]
        if self.has_palette:
            files.append(palette.FILE)
        return _digest(self.salt, files)


RECIPES = (
    Recipe(2, "mini-2", (LITE0,)),
    Recipe(3, "mini-3", (LITE2,)),
    Recipe(4, "mini-4", (LITE0,), has_palette=True),
    Recipe(5, "mini-5", (LITE0, LITE2), has_palette=True),
)
"""From the oldest to the latest. One that libraries were made with stays."""

DEFAULT = RECIPES[2]
"""What `mini` means: the best that indexes about as fast as Lite0 alone. `mini:5` finds more for three times the time (docs/results.md)."""


def recipe_named(spec: str, *, fingerprint: str = "") -> Recipe:
    """The recipe of a library that records the encoder `spec` and `fingerprint`; `DEFAULT` for plain `mini`.

    Raises:
        BadInput: `spec` names a recipe that there is not.
    """
    _, colon, number = spec.partition(":")
    if colon:
        for recipe in RECIPES:
            if number == str(recipe.number):
                return recipe
        there = ", ".join(f"{NAME}:{recipe.number}" for recipe in RECIPES)
        raise BadInput("there is no encoder {spec!r}; expected {name}, {there}", spec=spec, name=NAME, there=there)
    if fingerprint:
        for recipe in RECIPES:
            if recipe.fingerprint() == fingerprint:
                return recipe
    return DEFAULT


@dataclass(frozen=True, slots=True)
class _Meanings:
    """The classes as directions of meaning: unit rows (1000, 384) around `centre` (384,)."""

    rows: Rows
    centre: Rows


@cache
def _meanings() -> _Meanings:
    vectors = class_vectors()
    centre = vectors.mean(axis=0)
    return _Meanings(unit(vectors - centre), centre)


class Mini:
    """The embedded default; each tower is loaded when it is first used.

    On the CPU both towers run on ONNX Runtime, and torch is imported only to convert them, once for each `cache`.
    """

    translates = True

    def __init__(
        self, recipe: Recipe = DEFAULT, *, name: str = NAME, device: str = "", cache: Path | None = None
    ) -> None:
        self.recipe = recipe
        self.name = name
        self.dim = recipe.dim
        self.side = recipe.side
        self._meaning = recipe.dim - DIM  # where the meaning begins
        self._device = device
        self._cache = cache
        self._lock = threading.Lock()
        self._loaded_text_tower: MiniLM | None = None
        self._loaded_vision_tower: Tower | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the recipe and of the weight files' sizes, beginnings and ends; it loads no model."""
        return self.recipe.fingerprint()

    @property
    def backend(self) -> str:
        """What runs the image tower: `onnxruntime`, or `torch cpu` and the like; loads it."""
        return self._vision_tower.backend

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """The centre of an upright RGB picture: (3, side, side) float32 in [-1, 1]."""
        width, height = image.size
        side = min(width, height) * self.recipe.crop
        left, top = (width - side) / 2, (height - side) / 2
        cropped = image.convert("RGB").resize(
            (self.side, self.side), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
        )
        pixels = np.empty((3, self.side, self.side), np.float32)
        np.divide(np.asarray(cropped).transpose(2, 0, 1), np.float32(127.5), out=pixels)
        pixels -= 1
        return pixels

    def encode_images(self, prepared: Sequence[NDArray[np.float32]]) -> Rows:
        """Unit rows (n, dim) float32 of n prepared pictures, in order."""
        if self.backend == "onnxruntime":
            with ThreadPoolExecutor(cores()) as threads:
                rows = list(threads.map(lambda picture: self._rows(picture[None]), prepared))
        else:
            starts = range(0, len(prepared), _BATCH)
            rows = [self._rows(np.stack(prepared[start : start + _BATCH])) for start in starts]
        return np.vstack(rows) if rows else np.zeros((0, self.dim), dtype=np.float32)

    def _rows(self, pictures: NDArray[np.float32]) -> Rows:
        """Unit rows (n, dim) of pictures (n, 3, side, side) in one pass of the network."""
        look, meaning, _ = self._vision_tower(pictures)
        parts = [(1 - _MEANING_WEIGHT, look), (_MEANING_WEIGHT, meaning)]
        if self.recipe.has_palette:
            parts = [((1 - _PALETTE_WEIGHT) * share, part) for share, part in parts]
            parts.insert(1, (_PALETTE_WEIGHT, palette.palettes(pictures)))
        return unit(np.hstack([np.sqrt(share) * part for share, part in parts]))

    def encode_texts(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, dim) float32 of n texts in the images' space, in order; Vietnamese ones by the glossary."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        if len(texts):
            tower = self._text_tower
            meaning = unit(tower.encode([in_english(text) for text in texts]) - _meanings().centre)
            likeness = meaning @ _meanings().rows.T / _TEXT_TEMPERATURE
            mixture = np.exp(likeness - likeness.max(axis=1, keepdims=True))
            look = unit(mixture @ self._looks)
            # Against a picture's parts, which are weighted too, look and meaning count alike.
            shares = np.sqrt([_MEANING_WEIGHT, 1 - _MEANING_WEIGHT])
            rows[:, : look.shape[1]] = shares[0] * look
            rows[:, self._meaning :] = shares[1] * meaning
        return rows

    def coloured(self, text: str, row: NDArray[np.float32]) -> NDArray[np.float32]:
        """`row` (dim,) of `text` with the colours that the text names, unit; `row` itself where it names none.

        Not in `encode_texts`: a red picture is no better a piano for "a red piano", so that colours put pictures in order
        and say nothing of whether one fits (docs/queries.md).
        """
        colours = palette.of_words(in_english(text)) if self.recipe.has_palette else None
        if colours is None:
            return row
        found = np.sqrt(1 - _COLOUR_WEIGHT) * row
        found[self._meaning - palette.DIM : self._meaning] = np.sqrt(_COLOUR_WEIGHT) * colours
        return np.asarray(found, dtype=np.float32)

    @property
    def reading(self) -> Reading:
        """How the sentence model reads."""
        return self._text_tower.reading

    def classify(self, prepared: NDArray[np.float32], *, top: int = 5) -> list[tuple[str, float]]:
        """The `top` likeliest ImageNet classes of one prepared picture, best first: (name, probability in [0, 1])."""
        probabilities = self._vision_tower(prepared[None])[2][0]
        names = class_names()
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [(names[i], float(probabilities[i])) for i in best]

    def why_text(self, prepared: NDArray[np.float32], text: str, *, top: int = 3) -> list[tuple[str, float]]:
        """The classes that carry a text's hit on one prepared picture, most first: (name, share of the meanings' cosine).

        The cosine of the two meanings is a sum over the 1000 classes, probability times the class's likeness to the
        text; the shares of all classes sum to 1 (or to -1 where the text speaks against the picture). What a picture
        has of the text's look beyond its classes is not in it.
        """
        probabilities = self._vision_tower(prepared[None])[2][0]
        likeness = _meanings().rows @ self.encode_texts([text])[0, self._meaning :]
        parts = probabilities * likeness
        total = abs(float(parts.sum())) or 1.0
        names = class_names()
        best = np.argsort(-parts, kind="stable")[:top]
        return [(names[i], float(parts[i]) / total) for i in best]

    @property
    def _text_tower(self) -> MiniLM:
        with self._lock:
            if self._loaded_text_tower is None:
                with meanwhile(lambda: in_english("")):
                    self._loaded_text_tower = MiniLM(device=self._device, cache=self._cache)
            return self._loaded_text_tower

    @property
    def _vision_tower(self) -> Tower:
        with self._lock:
            if self._loaded_vision_tower is None:
                if self._device in ("", "cpu"):
                    self._loaded_vision_tower = open_tower(graph(self.recipe), self._cache)
                else:
                    self._loaded_vision_tower = TorchTower(network(self.recipe), device=resolve_device(self._device))
            return self._loaded_vision_tower

    @cached_property
    def _looks(self) -> Rows:
        """What the classes look like, unit rows (1000, 384 a network)."""
        return unit(np.hstack([class_looks(network) for network in self.recipe.networks]))


def graph(recipe: Recipe) -> Graph:
    """The image tower of a recipe as `onnx` converts it."""

    def examples() -> list[tuple[Array, ...]]:
        random = np.random.default_rng(0)
        return [(random.uniform(-1, 1, (2, 3, recipe.side, recipe.side)).astype(np.float32),)]

    return Graph(
        name="-".join(network.name for network in recipe.networks),
        key=_digest(_REVISION, (*map(weights_file, recipe.networks), MEANINGS_FILE)),
        inputs={"pictures": {0: "n"}},
        outputs=("look", "meaning", "probabilities"),
        build=lambda: network(recipe),
        examples=examples,
        threads=1,
    )


def network(recipe: Recipe) -> nn.Module:
    """The image tower in torch, for pictures (n, 3, side, side): look (n, 384 a network), meaning (n, 384), both unit, and class
    probabilities (n, 1000).

    The meaning is worked out here and not with numpy, whose matrix product keeps a core spinning after each batch.
    """
    import torch
    from torch.nn import functional as F  # noqa: N812

    lites = [Lite(each) for each in recipe.networks]
    constants = [torch.from_numpy(_meanings().rows), *map(projection, lites)]

    class ImageTower(torch.nn.Module):
        def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ImageTower:
            for lite in lites:
                lite.apply(fn)
            constants[:] = map(fn, constants)
            return self

        def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            meanings, *projections = constants
            looks, shares = [], []
            for lite, directions in zip(lites, projections, strict=True):
                places = lite.feature_map(pictures)
                centre = places[:, :, _EDGE:-_EDGE, _EDGE:-_EDGE]
                features = (places.mean((2, 3)) + centre.mean((2, 3))) / 2
                looks.append(F.normalize(F.normalize(features, dim=-1) @ directions, dim=-1) / len(lites) ** 0.5)
                shares.append(torch.softmax(lite.classify(features) / _TEMPERATURE, dim=-1) / len(lites))
            probabilities = torch.stack(shares).sum(0)
            return torch.cat(looks, dim=-1), F.normalize(probabilities @ meanings, dim=-1), probabilities

    return ImageTower()


def projection(lite: Lite) -> Tensor:
    """(1280, 384) orthonormal columns: the directions in which the class weights differ most, signs fixed."""
    import torch

    directions = torch.linalg.svd(_centred_weights(lite), full_matrices=False).Vh[:DIM]
    largest = directions.abs().argmax(dim=1, keepdim=True)
    signed: Tensor = directions * directions.gather(1, largest).sign()
    return signed.T.float().contiguous()


def class_looks(network: Network) -> Rows:
    """Unit rows (1000, 384): the class weights of a network in the directions of `projection`, as `write_looks` left them."""
    return shipped(_looks_file(network), (CLASSES, DIM))


def compute_looks(network: Network) -> Rows:
    """`class_looks`, worked out from the network's weights."""
    lite = Lite(network)
    return unit((_centred_weights(lite).float() @ projection(lite)).numpy())


def write_looks() -> None:
    """Work the files of `class_looks` out again: python -c "from imgret_tools.encoders import mini; mini.write_looks()"."""
    for network in (LITE0, LITE2):
        np.save(_looks_file(network), compute_looks(network).astype(np.float16))


def _looks_file(network: Network) -> Path:
    return Path(__file__).with_name(f"class_looks_{network.name.rpartition('-')[2]}.npy")


def _centred_weights(lite: Lite) -> Tensor:
    """(1000, 1280) float64: class weights, the mean of each class taken away."""
    weights = lite.class_weights.cpu().double()
    return weights - weights.mean(dim=1, keepdim=True)


def _digest(salt: str, files: Sequence[Path]) -> str:
    digest = hashlib.sha256(salt.encode())
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as stream:
            digest.update(str(size).encode() + stream.read(_SAMPLE))
            stream.seek(max(size - _SAMPLE, 0))
            digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:16]
