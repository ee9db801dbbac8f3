"""The panel of one picture: the whole of it, what is known of it, and the labels it might have."""

from __future__ import annotations

from pathlib import Path

from imgret_tools.engine.labels import suggest_labels
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.pictures.thumbnails import data_url, thumbnail
from imgret_tools.records import Entry
from imgret_tools.tools import ImageTools
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

_SIDE = 1280


def detail(tools: ImageTools, language: Language, library: str, id_: str) -> dict[str, object]:
    """What the panel shows of a picture: `picture` (a data URL) or why there is `none`, `facts`, `labels`, `suggested`.

    Raises:
        NotFound: no such library or picture.
    """
    entry = tools.entry(id_, library)
    labels: list[str] = []
    suggested: list[list[str]] = []
    if not tools.runtime.settings.read_only:
        likely = suggest_labels(tools.runtime, entry.id, library=library)
        suggested = [[one.label, f"{100 * one.share:.0f} %"] for one in likely]
        with tools.runtime.view(library) as view:
            labels = [str(label) for label in view.labels()]
    try:
        shown = {"picture": data_url(opened(tools.runtime, entry))}
    except (ImageError, OSError) as error:
        shown = {"none": said(language, "gone", reason=translated(language, error))}
    return {
        **shown,
        "name": shown_name(entry.label, entry.path),
        "label": entry.label,
        "facts": _facts(tools, language, entry),
        "labels": labels,
        "suggested": suggested,
    }


def shown_name(label: str, path: str) -> str:
    """What a picture is called: its label, or its file's name without the suffix."""
    return label or Path(path).stem


def opened(runtime: Runtime, entry: Entry) -> bytes:
    """The whole picture at most `_SIDE` wide and high, as a JPEG; where it cannot be opened any more its thumbnail.

    Raises:
        ImageError, OSError: there is no thumbnail of it either.
    """
    try:
        return thumbnail(runtime.open_query(entry, _SIDE // 2), _SIDE)
    except (NotFound, BadInput):
        return runtime.thumbnail(entry).read_bytes()


def _facts(tools: ImageTools, language: Language, entry: Entry) -> list[list[str]]:
    shared = tools.runtime.settings.read_only
    place = None
    if entry.latitude is not None and entry.longitude is not None and not shared:
        place = f"{entry.latitude:.5f}, {entry.longitude:.5f}"
    size = said(language, "size", width=entry.width, height=entry.height, megabytes=entry.bytes / 1e6)
    facts = [
        ("fact_label", entry.label),
        ("fact_size", size),
        ("fact_taken", entry.taken),
        ("fact_camera", entry.camera),
        ("fact_place", place),
        ("fact_path", Path(entry.path).name if shared else entry.path),
        ("fact_id", entry.id),
    ]
    return [[said(language, key), str(value)] for key, value in facts if value]
