"""Encoders: images or texts to rows. `make_encoder` turns a name into one, `choose` says what `auto` means now.

| name                              | rows | needs                                                            |
|-----------------------------------|------|------------------------------------------------------------------|
| `mini`                            | 1024 | nothing: its weights come with the installation                  |
| `mini:2` to `mini:5`              | 768+ | nothing: a recipe of `mini`, by its number                       |
| a nickname: `fast`, `best`, ...   | 512+ | the hub once; `nicknames` says what each is for                  |
| `openclip:MODEL/TAG`              | 512+ | the hub once, e.g. `openclip:ViT-B-32/laion2b_s34b_b79k`         |
| `openclip:hf-hub:ORG/NAME`        | any  | the hub once                                                     |
| `openclip:MODEL:/path/checkpoint` | any  | the file, or a folder with `open_clip_config.json` and weights   |

Importing this loads none of torch, open_clip, timm; an encoder loads each model when it is first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from imgret_tools.encoders.nicknames import NICKNAMES, spec_of
from imgret_tools.encoders.protocol import Encoder, Rows
from imgret_tools.errors import BadInput, Message
from imgret_tools.records import EncoderInfo, EncoderList

__all__ = [
    "NICKNAMES",
    "Choice",
    "Encoder",
    "Precision",
    "Rows",
    "choose",
    "has_newer_recipe",
    "known_encoders",
    "make_encoder",
    "spec_of",
]

Precision = Literal["auto", "fp32", "bf16"]
_MINI = "mini"
_PREFIX = "openclip:"


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` means on this machine now: a name for `make_encoder`, and one line on why, "" if there is no news."""

    spec: str
    notice: str


def make_encoder(
    spec: str,
    *,
    fingerprint: str = "",
    device: str = "",
    precision: Precision = "auto",
    cache: Path | None = None,
) -> Encoder:
    """The encoder that `spec` names; its weights are found or known to be reachable, but not yet loaded.

    Args:
        spec: `mini`, a nickname or an `openclip:` name, as in the table above.
        fingerprint: what a library recorded beside `spec`; it picks the recipe of `mini` that the library was made with.
        device: torch device; "" is the best there is.
        precision: for OpenCLIP's image tower; "auto" measures whether bfloat16 is faster and gives the same rows.
        cache: folder that networks converted to ONNX are kept in; None converts in memory, once a process.

    Raises:
        BadInput: no such encoder, model, tag or file; the nearest names are suggested.
        EncoderError: the weights are not on this machine and the hub does not answer within 4 s.
    """
    if precision not in get_args(Precision):
        raise BadInput(
            "unknown precision {precision!r}; expected one of {known}",
            precision=precision,
            known=", ".join(get_args(Precision)),
        )
    spec = spec_of(spec)
    if spec.partition(":")[0] == _MINI:
        from imgret_tools.encoders.mini import Mini, recipe_named

        return Mini(recipe_named(spec, fingerprint=fingerprint), name=spec, device=device, cache=cache)
    if spec.startswith(_PREFIX):
        from imgret_tools.encoders import weights
        from imgret_tools.encoders.openclip import OpenClip

        source = weights.parse(spec)
        weights.require_reachable(source)
        return OpenClip(source, device=device, precision=precision, cache=cache)
    raise BadInput(
        "unknown encoder {spec!r}; expected mini, {nicknames} (`imgret encoders` says what they are), "
        "openclip:MODEL/PRETRAINED_TAG, openclip:hf-hub:ORG/NAME or openclip:MODEL:/path/to/checkpoint",
        spec=spec,
        nicknames=", ".join(nickname.name for nickname in NICKNAMES),
    )


def has_newer_recipe(spec: str, fingerprint: str) -> bool:
    """Whether a library that records `spec` and `fingerprint` would get other, better rows if it were indexed again.

    True for a library made with an older recipe of `mini`; nothing is loaded.
    """
    if spec != _MINI or not fingerprint:
        return False
    from imgret_tools.encoders.mini import DEFAULT, RECIPES, recipe_named

    recorded = recipe_named(spec, fingerprint=fingerprint)
    return RECIPES.index(recorded) < RECIPES.index(DEFAULT)


def known_encoders() -> EncoderList:
    """The encoders worth knowing, by nickname, with what is on this machine; nothing is downloaded or loaded."""
    from imgret_tools.encoders import weights

    mini = EncoderInfo(
        _MINI, _MINI, "at once and offline: things and animals, their names in English and Vietnamese", 0, "Apache-2.0", here=True
    )  # fmt: skip
    return EncoderList(
        [
            mini,
            *(
                EncoderInfo(
                    one.name,
                    one.spec,
                    one.purpose,
                    one.megabytes,
                    one.licence,
                    here=weights.on_this_machine(weights.parse(one.spec)) is not None,
                    figures={"ImageNet": one.imagenet, "Flickr30k R@1": one.flickr, "COCO R@1": one.coco},
                    source=one.source,
                )
                for one in NICKNAMES
            ),
        ]
    )


def choose(*, timeout: float = 4.0) -> Choice:
    """What `auto` means now: OpenCLIP if its weights are here or the hub answers within `timeout` s, else `mini`.

    Nothing is downloaded.
    """
    from imgret_tools.encoders import weights

    source = weights.FIRST_CHOICE
    if weights.on_this_machine(source) is not None:
        return Choice(source.spec, "")
    reason = weights.unreachable(source, timeout=timeout)
    if not reason:
        return Choice(
            source.spec,
            Message("The weights of {spec} (about 600 MB) are fetched from the hub once.", spec=source.spec),
        )
    return Choice(
        _MINI,
        Message(
            "Encoder mini was chosen: the weights of {spec} are not on this machine and {reason}. To switch "
            "once the hub can be reached, `imgret reencode --encoder {spec}`, or with "
            "openclip:ViT-B-32:/path/to/checkpoint.",
            spec=source.spec,
            reason=reason,
        ),
    )
