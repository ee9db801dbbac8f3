"""Short names for encoders that are worth knowing, with what each is for, what it costs and how well it does.

A library records the whole name, so that a nickname may come to mean a better model and no library changes by it.

Figures are their authors'; none has been run here, as the weights have to come from the hub. `imagenet` is the zero-shot
top-1 accuracy on ImageNet-1k; `flickr` and `coco` are the shares of captions whose picture is the first of the 1,000 of
Flickr30k and of the 5,000 of MS COCO (recall at 1, text to image). Where they stand:

- open_clip: docs/openclip_results.csv and docs/openclip_retrieval_results.csv of mlfoundations/open_clip.
- MobileCLIP 2: results/mobileclip2_s2.jsonl of apple/ml-mobileclip (Faghri et al. 2025, arXiv:2508.20691).
- SigLIP 2: table 1 of Tschannen et al. 2025, arXiv:2502.14786.
"""

from __future__ import annotations

from dataclasses import dataclass

_MIT, _APACHE = "MIT", "Apache-2.0"
_OPEN_CLIP = "open_clip's results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nickname:
    """An encoder by a short name.

    Attributes:
        name: what a person types.
        spec: the whole name, as `make_encoder` takes it.
        purpose: when to take it, in half a sentence.
        megabytes: to download once: the parameters in float32.
        imagenet: zero-shot accuracy in [0, 1].
        flickr: recall at 1 in [0, 1], text to picture.
        coco: the same on MS COCO.
        licence: of the weights.
        source: where the figures stand; see above.
    """

    name: str
    spec: str
    purpose: str
    megabytes: int
    imagenet: float
    flickr: float
    coco: float
    licence: str
    source: str


NICKNAMES = (
    Nickname(
        name="fast",
        spec="openclip:ViT-B-32-256/datacomp_s34b_b86k",
        purpose="better than course and nearly as fast, English",
        megabytes=605,
        imagenet=0.728,
        flickr=0.649,
        coco=0.399,
        licence=_MIT,
        source=_OPEN_CLIP,
    ),
    Nickname(
        name="small",
        spec="openclip:MobileCLIP2-S2/dfndr2b",
        purpose="the smallest download, better than fast at less than half its pace, English; its licence is for research only",
        megabytes=397,
        imagenet=0.772,
        flickr=0.748,
        coco=0.488,
        licence="apple-amlr",
        source="MobileCLIP 2",
    ),
    Nickname(
        name="course",
        spec="openclip:ViT-B-32/laion2b_s34b_b79k",
        purpose="what auto takes, and Chroma's OpenCLIPEmbeddingFunction: rows to compare with",
        megabytes=605,
        imagenet=0.666,
        flickr=0.668,
        coco=0.393,
        licence=_MIT,
        source=_OPEN_CLIP,
    ),
    Nickname(
        name="multilingual",
        spec="openclip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        purpose="words in Vietnamese and 100 other languages, pictures as fast as course",
        megabytes=1465,
        imagenet=0.624,
        flickr=0.645,
        coco=0.378,
        licence=_MIT,
        source=_OPEN_CLIP,
    ),
    Nickname(
        name="balanced",
        spec="openclip:ViT-B-16-SigLIP2-256/webli",
        purpose="far better than fast at a third of its pace, many languages",
        megabytes=1501,
        imagenet=0.791,
        flickr=0.817,
        coco=0.532,
        licence=_APACHE,
        source="SigLIP 2",
    ),
    Nickname(
        name="best",
        spec="openclip:ViT-SO400M-16-SigLIP2-384/webli",
        purpose="the best of these, many languages; for a machine with a graphics card",
        megabytes=4544,
        imagenet=0.841,
        flickr=0.853,
        coco=0.560,
        licence=_APACHE,
        source="SigLIP 2",
    ),
)
"""From the least to the most that a picture costs, as far as that goes."""

_BY_NAME = {nickname.name: nickname for nickname in NICKNAMES}


def spec_of(name: str) -> str:
    """The whole name of an encoder that may be given by its nickname; any other name as it is, without spaces around it."""
    nickname = _BY_NAME.get(name.strip().casefold())
    return nickname.spec if nickname else name.strip()
