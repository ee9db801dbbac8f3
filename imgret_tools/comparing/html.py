"""A comparison as HTML: the grid of hits, what it shows in a sentence each, and folded the tables of quality and agreement.

Everything that comes from files (names, labels, ids) is escaped; nothing is loaded from elsewhere and no script runs.
Colours never speak alone: right and wrong have signs too, bars and heat map have their numbers as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from imgret_tools.comparing.report import (
    Agreement,
    Comparison,
    ComparisonRow,
    Note,
    QuerySetComparison,
    Weaknesses,
    shown,
    telling,
)
from imgret_tools.records import Hit

WORDS: dict[str, str] = {
    "title": "Comparison of measures",
    "query": "Query",
    "label": "label",
    "no_label": "no label",
    "way": "Way to search",
    "right": "right",
    "wrong": "wrong",
    "unknown": "label unknown",
    "hits": "Hits side by side",
    "example": "One query as an example: the one whose rows differ most",
    "quality": "Quality",
    "quality_hint": "Mean over {judged} of {queries} queries; the thin line is the 95 % bootstrap interval.",
    "agreement": "Agreement between the rows",
    "overlap": "Overlap@{k}: images two rows share among their first {k}",
    "rbo": "Rank-biased overlap (p = 0.9) over the first {depth} places",
    "shows": "What the comparison shows",
    "classes": "By label",
    "queries": "queries",
    "weak": "Where search is weak",
    "weak_hint": "By {way}, the worst first; of the first {k} places as many count as there are right images.",
    "taken_for": "taken for (images)",
    "weak_queries": "Weakest queries, with their first wrong hit",
    "nothing": "nothing to show",
    "same_hits": "Re-ranked candidates of the index that give the hits of the exact rows are not drawn.",
    "chroma": "Chroma: {name} {value}",
    "library": "Library {library}: {images} images, encoder {encoder}, pixels {size} x {size}",
    "definitions": "Definitions",
    "failed": "Pictures passed over",
}
"""The captions in English; a page in another language gives its own, and `define_...` for the definitions."""

MOST_MISSED = 12
"""Weak queries drawn; the JSON has more."""
MOST_HITS = 10
"""Hits drawn in a row of the grid; the JSON has all k."""

Pictures = Mapping[str, str]
"""Data URIs by image id; the query's own under "", those of a set's weak queries under their path."""

_STYLE = """
.imgret-cmp{font:14px/1.4 system-ui,sans-serif;color:inherit}
.imgret-cmp .scroll{overflow-x:auto}
.imgret-cmp table{border-collapse:collapse;margin:.4em 0 1em}
.imgret-cmp th,.imgret-cmp td{padding:3px 6px;text-align:left;vertical-align:top;font-weight:normal;border:0}
.imgret-cmp thead th{font-weight:600;border-bottom:1px solid #8888}
.imgret-cmp .way{white-space:nowrap}
.imgret-cmp .way small,.imgret-cmp td small{display:block;opacity:.8}
.imgret-cmp img{display:block;width:96px;height:96px;object-fit:contain;background:#8882}
.imgret-cmp .hit{width:104px}
.imgret-cmp .hit div{border:4px solid #888;width:96px;box-sizing:content-box}
.imgret-cmp .right div{border-color:#1a9850}
.imgret-cmp .wrong div{border-color:#d73027;border-style:dashed}
.imgret-cmp .hit small{overflow-wrap:anywhere}
.imgret-cmp .missed{display:flex;flex-wrap:wrap;gap:1em}
.imgret-cmp figure{margin:0;width:212px}
.imgret-cmp figure div{display:flex;gap:4px}
.imgret-cmp figure small{overflow-wrap:anywhere}
.imgret-cmp .bar{position:relative;width:140px;height:.8em;background:#8883}
.imgret-cmp .bar i,.imgret-cmp .bar b{position:absolute;top:0;bottom:0;left:0;background:#4575b4}
.imgret-cmp .bar b{top:calc(50% - 1px);bottom:auto;height:2px;background:#d95f02}
.imgret-cmp .heat td{min-width:2.6em;text-align:center;border:1px solid #8884}
.imgret-cmp h3{margin:1em 0 .2em;font-size:1.1em}
.imgret-cmp details{margin:.5em 0}
.imgret-cmp summary{cursor:pointer;font-weight:600;padding:10px 0}
"""


def fragment(
    comparison: Comparison | QuerySetComparison,
    pictures: Pictures,
    *,
    words: Mapping[str, str] = WORDS,
    sentence: Callable[[Note], str] = str,
) -> str:
    """The comparison as a piece of HTML with its own style, to stand on a page.

    Args:
        comparison: what to show.
        pictures: data URIs of the images drawn; one that is missing is drawn as an empty frame.
        words: captions by the keys of `WORDS`.
        sentence: how a note is said.
    """
    facts = {"library": comparison.library, "images": comparison.images, "encoder": comparison.encoder}
    parts = [f"<p>{escape(words['library'].format(size=comparison.pixel_size, **facts))}</p>"]
    shown_one = comparison if isinstance(comparison, Comparison) else comparison.example
    if shown_one is not None:
        parts.append(_grid(shown_one, pictures, words, words["hits" if shown_one is comparison else "example"]))
    notes = [*comparison.findings, *comparison.by_construction, *comparison.notes]
    said = "".join(f"<li>{escape(sentence(one))}</li>" for one in notes)
    parts.append(f"<h3>{escape(words['shows'])}</h3><ul>{said}</ul>")
    if isinstance(comparison, Comparison):
        parts += [_quality_of_one(comparison, words), _agreement(comparison.agreement, words)]
    else:
        parts.append(_quality_of_set(comparison, words))
        if comparison.weak is not None:
            parts.append(_weak(comparison, comparison.weak, pictures, words))
        parts.append(_agreement(comparison.agreement, words))
        parts.append(_classes(comparison, words))
    meant = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words.get(f'define_{name}', text))}</dd>"
        for name, text in comparison.definitions.items()
    )
    parts.append(f"<details><summary>{escape(words['definitions'])}</summary><dl>{meant}</dl></details>")
    return f"<style>{_STYLE}</style><div class='imgret-cmp'>{''.join(parts)}</div>"


def page(
    comparison: Comparison | QuerySetComparison,
    pictures: Pictures,
    *,
    words: Mapping[str, str] = WORDS,
    sentence: Callable[[Note], str] = str,
    language: str = "en",
) -> str:
    """The comparison as one self-contained HTML document; arguments as `fragment`, and the language of `words`."""
    body = fragment(comparison, pictures, words=words, sentence=sentence)
    title = escape(words["title"])
    return (
        f"<!doctype html><html lang='{escape(language)}'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        "<style>body{margin:1.5em;background:Canvas;color:CanvasText;color-scheme:light dark}</style>"
        f"<title>{title}</title></head><body><h1>{title}</h1>{body}</body></html>"
    )


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _grid(comparison: Comparison, pictures: Pictures, words: Mapping[str, str], heading: str) -> str:
    """The course's figure: the query at the left, a row a way to search, hits with their values."""
    rows = telling(comparison.rows)
    label = escape(comparison.label or words["no_label"])
    query = _picture(pictures.get("", ""), f"{words['query']}: {comparison.label or words['no_label']}")
    columns = min(comparison.k, MOST_HITS)
    head = f"<th scope='col'>{escape(words['query'])}</th><th scope='col'>{escape(words['way'])}</th>"
    head += "".join(f"<th scope='col'>{rank}</th>" for rank in range(1, columns + 1))
    body = []
    for number, row in enumerate(rows):
        first = f"<td rowspan='{len(rows)}'>{query}<small>{label}</small></td>" if number == 0 else ""
        cells = "".join(_hit(comparison, row, hit, pictures, words) for hit in row.hits[:columns])
        cells = cells or f"<td colspan='{columns}'>{escape(words['nothing'])}</td>"
        figures = f"P@{comparison.k} {shown(row.precision_at_k)} · AP {shown(row.average_precision)}"
        way = f"<b>{row.space}</b> · <b>{row.measure}</b> · {row.search}"
        way += f"<small>{figures}</small><small>{row.seconds * 1e3:.1f} ms</small>"
        body.append(f"<tr>{first}<th scope='row' class='way'>{way}</th>{cells}</tr>")
    hidden = f"<p>{escape(words['same_hits'])}</p>" if len(rows) < len(comparison.rows) else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f"<h3>{escape(heading)}</h3><div class='scroll'>{table}</div>{hidden}"


def _hit(comparison: Comparison, row: ComparisonRow, hit: Hit, pictures: Pictures, words: Mapping[str, str]) -> str:
    kind = "unknown" if not comparison.relevant else "right" if comparison.is_right(hit) else "wrong"
    sign = {"right": "✓ ", "wrong": "✗ ", "unknown": ""}[kind]
    label = hit.label or words["no_label"]
    value = f"{hit.value:.4g}"
    if row.distance:
        raw = f"{hit.metadata['chroma_distance']:.4g}"
        value += f"</small><small>{escape(words['chroma'].format(name=row.distance, value=raw))}"
    alt = f"{hit.rank}: {label}, {words[kind]}"
    picture = _picture(pictures.get(hit.id, ""), alt)
    text = f"<small>{sign}{escape(label)}</small><small>{value}</small>"
    return f"<td class='hit {kind}'><div>{picture}</div>{text}</td>"


def _picture(source: str, alt: str) -> str:
    shown_from = source or "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    return f"<img src='{shown_from}' alt='{escape(alt, quote=True)}' title='{escape(alt, quote=True)}'>"


def _bar(mean: float | None, low: float | None = None, high: float | None = None) -> str:
    if mean is None:
        return "<td>-</td>"
    whisker = limits = ""
    if low is not None and high is not None:
        whisker = f"<b style='left:{low * 100:.1f}%;width:{(high - low) * 100:.1f}%'></b>"
        limits = f" <small>[{low:.3f}, {high:.3f}]</small>"
    return f"<td>{mean:.3f}{limits}<div class='bar'><i style='width:{mean * 100:.1f}%'></i>{whisker}</div></td>"


def _table(heads: Sequence[str], body: Sequence[str], kind: str = "") -> str:
    head = "".join(f"<th scope='col'>{escape(one)}</th>" for one in heads)
    return (
        f"<div class='scroll'><table class='{kind}'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table></div>"
    )


def _quality_of_one(comparison: Comparison, words: Mapping[str, str]) -> str:
    heads = [words["way"], f"P@{comparison.k}", "AP", f"AP@{comparison.k}", f"recall@{comparison.k}", "ms"]
    body = [
        f"<th scope='row' class='way'>{escape(row.name)}</th>{_bar(row.precision_at_k)}{_bar(row.average_precision)}"
        f"{_bar(row.average_precision_at_k)}<td>{shown(row.recall_at_k)}</td><td>{row.seconds * 1e3:.2f}</td>"
        for row in comparison.rows
    ]
    return _folded(words["quality"], _table(heads, body))


def _quality_of_set(comparison: QuerySetComparison, words: Mapping[str, str]) -> str:
    figures = {"precision_at_1": "P@1", "precision_at_k": f"P@{comparison.k}", "map": "mAP"}
    heads = [words["way"], *figures.values(), f"recall@{comparison.k}", "ms"]
    body = []
    for row in comparison.rows:
        cells = []
        for name in figures:
            interval = row.intervals.get(name)
            cells.append(_bar(interval.mean, interval.low, interval.high) if interval else _bar(None))
        body.append(
            f"<th scope='row' class='way'>{escape(row.name)}</th>{''.join(cells)}<td>{shown(row.recall_at_k)}</td>"
            f"<td>{row.seconds * 1e3:.2f}</td>"
        )
    hint = words["quality_hint"].format(judged=comparison.judged, queries=comparison.queries)
    failed = ""
    if comparison.failed:
        names = "".join(f"<li>{escape(str(failure))}</li>" for failure in comparison.failed)
        failed = f"<details><summary>{escape(words['failed'])}</summary><ul>{names}</ul></details>"
    return f"<p>{escape(hint)}</p>" + _folded(words["quality"], _table(heads, body)) + failed


def _agreement(agreement: Agreement, words: Mapping[str, str]) -> str:
    overlap = words["overlap"].format(k=agreement.k)
    biased = words["rbo"].format(depth=agreement.depth)
    return _folded(
        words["agreement"],
        f"<p>{escape(overlap)}</p>{_heat(agreement.rows, agreement.overlap_at_k)}"
        f"<p>{escape(biased)}</p>{_heat(agreement.rows, agreement.rank_biased_overlap)}",
    )


def _heat(names: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> str:
    """A matrix as a table with shaded numbers; columns carry the numbers of the rows."""
    body = [
        f"<th scope='row' class='way'>{number}. {escape(name)}</th>"
        + "".join(
            "<td>-</td>"
            if value is None
            else f"<td style='background:rgba(69,117,180,{max(0.0, min(1.0, value)) * 0.6:.2f})'>{value:.2f}</td>"
            for value in values
        )
        for number, (name, values) in enumerate(zip(names, matrix, strict=True), 1)
    ]
    return _table(["", *(str(number) for number in range(1, len(names) + 1))], body, "heat")


def _classes(comparison: QuerySetComparison, words: Mapping[str, str]) -> str:
    """P@k of every label under every row."""
    labels = sorted({label for row in comparison.rows for label in row.classes})
    if not labels:
        return ""
    first = comparison.rows[0].classes
    heads = [words["label"], words["queries"], *(row.name for row in comparison.rows if row.search == "exact")]
    body = [
        f"<th scope='row'>{escape(label)}</th><td>{first[label].queries}</td>"
        + "".join(
            f"<td>{row.classes[label].precision_at_k:.2f}</td>" for row in comparison.rows if row.search == "exact"
        )
        for label in labels
    ]
    summary = f"{words['classes']} (P@{comparison.k})"
    return f"<details><summary>{escape(summary)}</summary>{_table(heads, body)}</details>"


def _weak(comparison: QuerySetComparison, weak: Weaknesses, pictures: Pictures, words: Mapping[str, str]) -> str:
    """The classes with what they are taken for, and the queries that fail beside their first wrong hit, folded."""
    figures, taken = comparison.classes_of(weak.way), dict[str, list[str]]()
    for one in weak.confusions:
        taken.setdefault(one.label, []).append(f"{one.taken_for or words['no_label']} {one.places}")
    heads = [words["label"], words["queries"], "P@1", f"P@{comparison.k}", "mAP", words["taken_for"]]
    body = [
        f"<th scope='row'>{escape(label)}</th><td>{(found := figures[label]).queries}</td>"
        f"<td>{found.precision_at_1:.2f}</td><td>{found.precision_at_k:.2f}</td><td>{found.map:.2f}</td>"
        f"<td>{escape(', '.join(taken.get(label, [])))}</td>"
        for label in weak.classes
    ]
    missed = "".join(
        f"<figure><div>{_picture(pictures.get(one.query, ''), one.label)}{_picture(pictures.get(one.hit.id, ''), one.hit.label)}"
        f"</div><small>{escape(one.label)} · AP {one.average_precision:.2f}</small>"
        f"<br><small>✗ {one.hit.rank}. {escape(one.hit.label or words['no_label'])}</small></figure>"
        for one in weak.queries[:MOST_MISSED]
    )
    drawn = f"<h4>{escape(words['weak_queries'])}</h4><div class='missed'>{missed}</div>" if missed else ""
    hint = words["weak_hint"].format(way=weak.way, k=comparison.k)
    return _folded(words["weak"], f"<p>{escape(hint)}</p>{_table(heads, body)}{drawn}")
