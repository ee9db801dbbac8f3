"""Encoders: images or texts to rows."""

from __future__ import annotations

from typing import Literal

from ..errors import BadInput
from .protocol import Encoder, Rows

__all__ = ["Encoder", "Precision", "Rows", "make_encoder"]

Precision = Literal["auto", "fp32", "bf16"]


def make_encoder(spec: str, *, device: str = "", precision: Precision = "auto") -> Encoder:
    """The encoder that `spec` names, its weights not yet loaded."""
    if spec == "mini":
        from .mini import Mini

        return Mini(device=device)
    raise BadInput(
        f"unknown encoder {spec!r}; expected mini, openclip:MODEL/PRETRAINED_TAG, openclip:hf-hub:ORG/NAME or "
        "openclip:MODEL:/path/to/checkpoint"
    )
