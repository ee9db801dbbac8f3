"""Why a hit matches, as HTML: the two pictures with what speaks for the match, and the classes the encoder saw."""

from __future__ import annotations

from html import escape

from imgret_tools.engine.explain import GRID, Explanation, explain, overlays
from imgret_tools.engine.query import Query
from imgret_tools.pictures.thumbnails import data_url, thumbnail
from imgret_tools.records import Measure, Space
from imgret_tools.tools import ImageTools
from imgret_tools.ui.texts.table import Language, said


def why_match(
    tools: ImageTools,
    language: Language,
    query: Query,
    id_: str,
    *,
    library: str,
    space: Space,
    measure: Measure = "cosine",
    regions: bool = True,
) -> str:
    """The explanation of one hit, self-contained: pictures as data, texts escaped; without `regions` only the classes."""
    found = explain(tools.runtime, query, id_, library=library, space=space, measure=measure, regions=regions)
    if not regions:
        sides = [("why_query", "query"), ("why_hit", "hit"), ("why_text", "text")]
        classes = [
            f"<p>{escape(said(language, key))}{_classes(found, side)}</p>"
            for key, side in sides
            if found.classes.get(side)
        ]
        return f"<div class='imgret-why'>{''.join(classes)}<p>{escape(said(language, 'why_coming'))}</p></div>"
    pictures = overlays(tools.runtime, query, found)
    figures = "".join(
        f"<figure><img alt='{escape(caption)}' src='{data_url(thumbnail(pictures[side], 448))}'>"
        f"<figcaption>{escape(caption)}{_classes(found, side)}</figcaption></figure>"
        for side, caption in (("query", said(language, "why_query")), ("hit", said(language, "why_hit")))
        if side in pictures
    )
    told = said(
        language,
        "why_explained",
        measure=found.measure,
        space=found.space,
        value=found.value,
        method=said(language, "why_parts" if space == "pixels" else "why_occlusion", cells=GRID),
    )
    words = _classes(found, "text")
    carried = f"<p>{escape(said(language, 'why_text'))}{words}</p>" if words else ""
    return f"<div class='imgret-why'><p>{escape(told)}</p>{figures}{carried}</div>"


def _classes(found: Explanation, side: str) -> str:
    """What the encoder takes that picture for, where it knows classes."""
    return "".join(f"<br>{escape(one.name)} {one.share:.2f}" for one in found.classes.get(side, []))
