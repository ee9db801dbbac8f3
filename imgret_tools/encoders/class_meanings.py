"""What the 1000 ImageNet classes mean in words: their names and their vectors in the sentence model's space.

A class's vector is the mean of two sentence vectors: its name (open_clip's curated list) and its name with WordNet's
definition (which timm ships), because the definition brings in the kind a person asks for: "tabby cat: a cat with a
grey or tawny coat mottled with black". Working them out takes seconds, so they lie beside this file as float16, made by

    python -c "from imgret_tools.encoders import class_meanings; class_meanings.write()"

and compared with that by a test. Reading them loads no model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from imgret_tools.encoders.installed import open_clip_module, package_folder
from imgret_tools.encoders.minilm import DIM, MiniLM
from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.rows import shipped

FILE = Path(__file__).with_name("class_meanings.npy")
_CLASSES = 1000


def class_vectors() -> Rows:
    """Sentence vectors (1000, 384) float32 of the ImageNet classes in the network's order, as `write` left them."""
    return shipped(FILE, (_CLASSES, DIM))


def class_names() -> tuple[str, ...]:
    """The 1000 ImageNet class names in the network's order."""
    return tuple(open_clip_module("zero_shot_metadata").IMAGENET_CLASSNAMES)


def class_definitions() -> tuple[str, ...]:
    """WordNet's definitions of the 1000 ImageNet classes in the network's order."""
    folder = package_folder("timm") / "data" / "_info"
    order = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lines = (folder / "imagenet_synset_to_definition.txt").read_text(encoding="utf-8").splitlines()
    definitions = dict(line.split("\t", 1) for line in lines)
    return tuple(definitions[synset] for synset in order)


def compute() -> Rows:
    """The class vectors (1000, 384), worked out with the sentence model."""
    model = MiniLM()
    names = class_names()
    defined = [f"{name}: {definition}" for name, definition in zip(names, class_definitions(), strict=True)]
    return np.asarray((model.encode(names) + model.encode(defined)) / 2, dtype=np.float32)


def write() -> None:
    """Work the class vectors out again and store them."""
    np.save(FILE, compute().astype(np.float16))
