"""Which OpenCLIP weights a name means, whether they are on this machine, and whether the hub answers. No torch here.

openclip:MODEL/TAG                 a model name and a pretrained tag of open_clip, fetched from the hub once
openclip:hf-hub:ORG/NAME           a model repository on the hub (open_clip_config.json + weights)
openclip:MODEL:/path/to/file       a checkpoint of that architecture: .safetensors, .bin, .pt, .pth
openclip:MODEL:/path/to/folder     a folder with open_clip_config.json and weights (the config then says what the
                                   model is), or with weights alone, of architecture MODEL
"""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imgret_tools.encoders.installed import open_clip_module, package_folder
from imgret_tools.errors import BadInput, EncoderError, Message, NotFound

CONFIG = "open_clip_config.json"
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_USUAL_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors")
_FIRST_REPOSITORY = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
_FORMS = "openclip:MODEL/PRETRAINED_TAG, openclip:hf-hub:ORG/NAME or openclip:MODEL:/path/to/checkpoint"
_OTHERWISE = Message("connect once, name a local checkpoint (openclip:MODEL:/path/to/file), or use the encoder 'mini'")
_SAMPLES, _SAMPLE_BYTES = 64, 16384


@dataclass(frozen=True, slots=True)
class Source:
    """Where one OpenCLIP model comes from. Exactly one of `tag`, `hub` and `path` is set.

    Attributes:
        spec: the whole name, `openclip:` included; a path in it is absolute.
        model: architecture, a name of open_clip's list; empty where a config file says it.
        tag: pretrained tag of that architecture.
        hub: ORG/NAME of a repository on the hub.
        path: local checkpoint file, or a folder with a config.
    """

    spec: str
    model: str = ""
    tag: str = ""
    hub: str = ""
    path: Path | None = None


FIRST_CHOICE = Source("openclip:ViT-B-32/laion2b_s34b_b79k", model="ViT-B-32", tag="laion2b_s34b_b79k")
"""The model the course uses."""


def parse(spec: str) -> Source:
    """The source that `spec` names, checked as far as this machine alone can tell.

    Raises:
        BadInput: no such form, model or tag; the nearest names are suggested.
        NotFound: no such file or folder, or no weights in it.
    """
    body = spec.removeprefix("openclip:")
    if body.startswith("hf-hub:"):
        hub = body.removeprefix("hf-hub:").strip("/")
        if hub.count("/") != 1:
            raise BadInput("encoder {spec!r} names no repository; expected openclip:hf-hub:ORG/NAME", spec=spec)
        return Source(spec, hub=hub)
    model, colon, path = body.partition(":")
    if colon:
        return _local(spec, model, path)
    model, slash, tag = body.partition("/")
    if not slash or not model or not tag:
        raise BadInput(
            "encoder {spec!r} is not complete; expected {forms}, for example {example}",
            spec=spec,
            forms=_FORMS,
            example=FIRST_CHOICE.spec,
        )
    _check_model(model)
    tags = open_clip_module("pretrained").list_pretrained_tags_by_model(model)
    if tag not in tags and tag.lower().replace("-", "_") not in tags:
        found = Message(
            "model {model} has no pretrained tag {tag!r}; {nearest}",
            model=model,
            tag=tag,
            nearest=_nearest(tag, tags, "it has"),
        )
        raise BadInput("{found}, or give a checkpoint: openclip:{model}:/path/to/file", found=found, model=model)
    return Source(spec, model=model, tag=tag)


def _local(spec: str, model: str, text: str) -> Source:
    path = Path(text).expanduser()
    path = path.absolute()
    if not text or not path.exists():
        raise NotFound(
            "no checkpoint at {path}; expected a file or folder of weights: {forms}", path=path, forms=_FORMS
        )
    spec = f"openclip:{model}:{path}"
    if path.is_dir() and (path / CONFIG).is_file():
        weights_in(path)
        return Source(spec, path=path)
    _check_model(model)
    file = weights_in(path) if path.is_dir() else path
    if file.suffix not in _SUFFIXES:
        raise BadInput(
            "{file} is no checkpoint; expected a file ending in {suffixes}", file=file, suffixes=", ".join(_SUFFIXES)
        )
    return Source(spec, model=model, path=file)


def weights_in(folder: Path) -> Path:
    """The weights file of a folder: a usual name first, then the first in order.

    Raises:
        NotFound: there is none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    named = [folder / name for name in _USUAL_NAMES if folder / name in files]
    if not files:
        raise NotFound(
            "no weights in {folder}; expected a file ending in {suffixes} there",
            folder=folder,
            suffixes=", ".join(_SUFFIXES),
        )
    return (named + [file for file in files if file.suffix == ".safetensors"] + files)[0]


def config(source: Source, folder: Path | None = None) -> dict[str, object]:
    """The model's configuration: `model_cfg` of the folder's config file, or open_clip's own for a model name."""
    if not source.model:
        file = (folder or source.path or Path()) / CONFIG
    else:
        file = package_folder("open_clip") / "model_configs" / f"{source.model}.json"
        loaded = sys.modules.get("open_clip")
        if not file.is_file() and loaded is not None:  # added in this process with add_model_config
            return dict(loaded.get_model_config(source.model))
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        return dict(whole.get("model_cfg", whole))
    except (OSError, ValueError, AttributeError) as error:
        raise EncoderError(
            "{file} cannot be read ({error}); expected a JSON object with 'model_cfg'", file=file, error=error
        ) from error


def preprocess_config(source: Source, folder: Path | None = None) -> dict[str, object]:
    """What the model's files say about preprocessing (`preprocess_cfg`), or for a tag open_clip's table."""
    if source.model:
        card = pretrained_card(source)
        return {name: card.get(name) for name in ("mean", "std", "interpolation", "resize_mode")}
    file = (folder or source.path or Path()) / CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8")).get("preprocess_cfg", {})
        return dict(found)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise EncoderError("{file} cannot be read ({error}); expected a JSON object", file=file, error=error) from error


def pretrained_card(source: Source) -> dict[str, object]:
    """What open_clip's table says about a tag; empty for other weights."""
    if not source.tag:
        return {}
    return dict(open_clip_module("pretrained").get_pretrained_cfg(source.model, source.tag))


def model_names() -> list[str]:
    """The architectures open_clip knows, sorted."""
    names = {file.stem for file in (package_folder("open_clip") / "model_configs").glob("*.json")}
    loaded = sys.modules.get("open_clip")
    return sorted(names | set(loaded.list_models() if loaded is not None else ()))


def _check_model(model: str) -> None:
    names = model_names()
    if model not in names:
        raise BadInput(
            "open_clip has no model {model!r}; {nearest}", model=model, nearest=_nearest(model, names, "it knows")
        )


def _nearest(name: str, names: Iterable[str], have: str) -> str:
    by_lower = {known.lower(): known for known in names}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.5)]
    return (
        Message("did you mean {near}?", near=", ".join(near))
        if near
        else Message("{have} {names}, ...", have=Message(have), names=", ".join(sorted(by_lower.values())[:8]))
    )


def on_this_machine(source: Source) -> Path | None:
    """The weights file if it needs no download, else None. Looks at the disk only."""
    if source.path is not None:
        return weights_in(source.path) if source.path.is_dir() else source.path
    repository, names, url = _remote(source)
    if url:
        file = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        return file if file.is_file() else None
    for name in names:
        found = _in_hub_cache(repository, name)
        if found is not None and (source.tag or (found.parent / CONFIG).is_file()):
            return found
    return None


def _in_hub_cache(repository: str, name: str) -> Path | None:
    """A file of the repository's main revision in the hub's cache, without the client's import of a third of a second."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        revision = (home / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    file = home / "snapshots" / revision / name
    return file if file.is_file() else None


def fetch(source: Source) -> Path:
    """The weights file, downloaded if it is not on this machine.

    Raises:
        EncoderError: the download failed.
    """
    found = on_this_machine(source)
    if found is not None:
        return found
    require_reachable(source)
    pretrained = open_clip_module("pretrained")
    try:
        if source.tag:
            return Path(pretrained.download_pretrained(pretrained.get_pretrained_cfg(source.model, source.tag)))
        pretrained.download_pretrained_from_hf(source.hub, filename=CONFIG)
        return Path(pretrained.download_pretrained_from_hf(source.hub))
    except Exception as error:  # whatever the hub's client raises: it cannot be named without importing its stack
        raise EncoderError(
            "the weights of {spec} could not be fetched ({error}); {otherwise}",
            spec=source.spec,
            error=error,
            otherwise=_OTHERWISE,
        ) from error


def require_reachable(source: Source, *, timeout: float = 4.0) -> None:
    """Nothing, if the weights are on this machine or the hub that has them answers within `timeout` seconds.

    Raises:
        EncoderError: neither.
    """
    if on_this_machine(source) is not None:
        return
    reason = unreachable(source, timeout=timeout)
    if reason:
        raise EncoderError(
            "the weights of {spec} are not on this machine and {reason}; {otherwise}",
            spec=source.spec,
            reason=reason,
            otherwise=_OTHERWISE,
        )


def unreachable(source: Source, *, timeout: float) -> str:
    """Why the weights cannot be fetched now, as a clause, or "" if the hub answered; back within about `timeout` s.

    The question is asked in a thread that is left behind when time is up: a name server that never answers holds a
    lookup longer than any socket timeout.
    """
    from huggingface_hub import constants

    repository, _, url = _remote(source)
    if constants.HF_HUB_OFFLINE and not url:
        return Message("HF_HUB_OFFLINE forbids asking the hub")
    host = constants.ENDPOINT
    address = url or f"{host}/api/models/{repository}"
    answers: list[str] = []

    def ask() -> None:
        import httpx

        try:
            with httpx.stream("GET", address, timeout=timeout, follow_redirects=True) as answer:
                answers.append(
                    ""
                    if answer.status_code < 400
                    else Message("{address} answers {status}", address=address, status=answer.status_code)
                )
        except Exception as error:  # no route, refused, no such host, a proxy's own error: all mean "not now"
            answers.append(
                Message(
                    "{host} cannot be reached ({kind}: {error})",
                    host=url or host,
                    kind=type(error).__name__,
                    error=error,
                )
            )

    asking = threading.Thread(target=ask, daemon=True, name="imgret-hub-probe")
    asking.start()
    asking.join(timeout)
    if answers:
        return answers[0]
    return Message("{host} did not answer within {timeout:g} s", host=url or host, timeout=timeout)


def _remote(source: Source) -> tuple[str, list[str], str]:
    """Repository, file names to look for, and for weights outside the hub their URL."""
    if source == FIRST_CHOICE:  # known by heart: open_clip's table imports torch, and `choose` is in a hurry
        return _FIRST_REPOSITORY, ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"], ""
    pretrained = open_clip_module("pretrained")
    if source.hub:
        return source.hub, [pretrained.HF_SAFE_WEIGHTS_NAME, pretrained.HF_WEIGHTS_NAME], ""
    card = pretrained.get_pretrained_cfg(source.model, source.tag)
    repository, _, name = str(card.get("hf_hub", "")).rpartition("/")
    name = name or pretrained.HF_WEIGHTS_NAME
    names = [*pretrained._get_safe_alternatives(name), name]
    return repository, names, "" if repository else str(card.get("url", ""))


def fingerprint(file: Path, extra: str = "") -> str:
    """Sixteen hex digits that tell one weights file from another without reading it whole.

    SHA-256 over its size and 64 samples of 16 KiB spread evenly from first byte to last: training changes every
    tensor, so a retrained, truncated or differently converted file gives another digest, in milliseconds at any size.
    """
    digest = hashlib.sha256(extra.encode())
    size = file.stat().st_size
    digest.update(str(size).encode())
    with file.open("rb") as stream:
        for i in range(_SAMPLES):
            stream.seek(max(size - _SAMPLE_BYTES, 0) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]
