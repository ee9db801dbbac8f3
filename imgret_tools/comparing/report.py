"""What a comparison is: the rankings of one query side by side, or the quality of each way to search over many.

A row is a way to search: a space, a measure, and how the candidates were found.

    exact      every image is measured
    hnsw       Chroma's index answers alone: its own order, its own distance beside the measure's value
    reranked   the index brings candidates, the measure puts them in order
    refined    all pictures, in the order that their neighbourhoods give (engine/refine.py)

Sentences travel as `Note`s: a kind with its facts, so that a page can say them in another language, and in English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from imgret_tools.comparing.judge import Interval
from imgret_tools.records import Failure, Hit, Measure, Record, Scalar, Space, quoted

RowSearch = Literal["exact", "hnsw", "reranked", "refined"]
Quality = Literal["precision_at_1", "precision_at_k", "map", "map_at_k"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

DEFINITIONS: dict[str, str] = {
    "precision_at_1": "share of queries whose first hit has the query's label",
    "precision_at_k": "share of the first k places that hold an image of the query's label; empty places are wrong",
    "average_precision": "precision at the place of every image of the query's label, summed, over the number of such "
    "images in the library (TREC's AP); images a row did not rank add 0",
    "average_precision_at_k": "the same sum over the first k places, over min(k, number of such images)",
    "map": "mean of average_precision over the queries",
    "map_at_k": "mean of average_precision_at_k over the queries",
    "recall_at_k": "share of the exact search's first k (same measure) that the index found too",
    "overlap_at_k": "images that two rows share among their first k, over k",
    "rank_biased_overlap": "expected overlap for a reader who goes on to the next place with probability 0.9 "
    "(Webber et al. 2010), over the first places as given by depth",
    "interval": "95 % percentile bootstrap over queries",
}

NOTES: dict[str, str] = {
    # about the query and the library
    "no_labels": "Quality is unknown: the library has no labels (images in sub-folders get the sub-folder's name).",
    "query_label_unknown": "Quality is unknown: the query's folder is named like no label of the library, and no label "
    "was given.",
    "label_absent": "Quality is unknown: the library holds no image labelled {label}.",
    "only_itself": "Quality is unknown: the query is the only image labelled {label} in the library.",
    "left_out": "The query itself is in the library ({ids}) and was left out of its own hits.",
    "nothing_left": "The library holds no other image than the query: there is nothing to rank.",
    "fewer_than_k": "{images} images can be ranked, fewer than k = {k}: P@{k} is at most {ceiling}.",
    "few_relevant": "{relevant} images have the query's label, fewer than k = {k}: P@{k} is at most {ceiling}.",
    "pixels_missing": "Pixels are not compared: no pixel rows of {size} x {size} have been made yet; index the folder "
    "again.",
    "pixels_partial": "{missing} images have no pixel row of {size} x {size} yet and count as not found there; index "
    "the folder again.",
    "hnsw_missing": "HNSW was not asked: {reason}",
    "one_query": "One query is an example, not evidence: a folder of labelled queries measures quality.",
    # about a set of queries
    "unlabelled_queries": "{count} of {queries} queries lie in no sub-folder: without a label they count for agreement "
    "only.",
    "absent_labels": "{count} of {queries} queries have a label the library lacks ({labels}): they count for agreement "
    "only.",
    "alone_labels": "{count} of {queries} queries are the only image of their label: they count for agreement only.",
    "queries_left_out": "{count} of {queries} queries are in the library: each was left out of its own hits.",
    "failed_queries": "{count} query pictures could not be opened and were passed over.",
    "no_quality": "Quality is unknown: no query has a label of which the library holds another image.",
    "cancelled": "Cancelled: the figures cover {done} of {total} queries.",
    # so by construction
    "unit_rows": "By construction, not a finding: embedding rows have length 1, so L2 and cosine rank identically "
    "(L2^2 = 2 - 2 cosine).",
    "near_zero_means": "Nearly by construction: Pearson is the cosine of centred rows, and no embedding row's mean "
    "makes up more than {share} of its length, so the two rank almost alike there.",
    "same_images": "By construction: no more than k = {k} images can be ranked, so all rows hold the same ones.",
    "all_candidates": "By construction: the index returned every image as a candidate, so re-ranking is the exact "
    "search.",
    "index_misses": "An hnsw row and the exact row of its measure differ by what the index misses, not by the measure; "
    "its AP counts images the index did not return as not found.",
    # what it shows
    "first_hits": "First hits: {groups}.",
    "space_overlap": "Mean overlap@{k}: {embedding} among the four measures on embeddings, {pixels} among those on "
    "pixels, {between} between the two spaces.",
    "best": "Highest P@{k}: {row} with {mean} [{low}, {high}] over {queries} queries.",
    "tied": "Not told apart from it by these queries (the paired difference may be 0): {rows}.",
    "worse": "Clearly lower (the paired difference leaves out 0): {rows}.",
    "spaces_differ": "{better} beat {worse} in P@{k} by {mean} [{low}, {high}] (best row of each).",
    "spaces_tied": "Embeddings and pixels are not told apart in P@{k}: {mean} [{low}, {high}] (best row of each).",
    "recall": "The index found {l2} (l2) and {cosine} (cosine) of the exact first {k}.",
    "unequal_classes": "By label, P@{k} of the best row goes from {low} ({worst}) to {high} ({top}).",
}
"""The English sentence of every kind of note; `{names}` are its facts."""


@dataclass(frozen=True, slots=True)
class Note(Record):
    """One sentence: its kind (a key of `NOTES`), its facts, and itself in English."""

    kind: str
    text: str
    facts: dict[str, Scalar] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


def note(kind: str, **facts: Scalar) -> Note:
    """The note of that kind; facts that are floats are rounded to three places."""
    shown: dict[str, Scalar] = {
        name: f"{fact:.3g}" if isinstance(fact, float) else fact for name, fact in facts.items()
    }
    return Note(kind, NOTES[kind].format(**shown), shown)


@dataclass(frozen=True, slots=True)
class Agreement(Record):
    """How much the rows' rankings agree: square matrices in the order of `rows`, None where nothing can be compared.

    `depth` is how many places rank-biased overlap looks at.
    """

    rows: list[str]
    k: int
    depth: int
    overlap_at_k: list[list[float | None]]
    rank_biased_overlap: list[list[float | None]]


@dataclass(frozen=True, slots=True)
class ComparisonRow(Record):
    """One query, searched one way.

    `value` of a hit is the measure's own; hits of hnsw rows carry Chroma's distance in their metadata as
    `chroma_distance`, which is `distance` (squared l2, or 1 - cosine). `ranked` is how many images the row put in
    order. `seconds` is the search alone, on a warm library; opening and encoding the query is
    `Comparison.query_seconds`.
    """

    space: Space
    measure: Measure
    search: RowSearch
    hits: list[Hit]
    precision_at_k: float | None
    average_precision: float | None
    average_precision_at_k: float | None
    recall_at_k: float | None
    seconds: float
    ranked: int
    higher_is_better: bool
    distance: str = ""

    @property
    def name(self) -> str:
        """Space, measure and search as one short name."""
        return row_name(self.space, self.measure, self.search)


@dataclass(frozen=True, slots=True)
class Comparison(Record):
    """One query under every measure on every space.

    `label` is the query's ("" unknown), `relevant` how many images share it; both decide the quality figures, which are
    None where unknown. `left_out` are the ids of the query itself.
    """

    library: str
    encoder: str
    k: int
    query: dict[str, Scalar]
    label: str
    relevant: int
    images: int
    pixel_size: int
    rows: list[ComparisonRow]
    agreement: Agreement
    by_construction: list[Note]
    findings: list[Note]
    notes: list[Note]
    left_out: list[str]
    query_seconds: dict[str, float]
    seconds: float
    definitions: dict[str, str] = field(default_factory=lambda: dict(DEFINITIONS))

    def __str__(self) -> str:
        asked = ", ".join(f"{name} {quoted(str(value))}" for name, value in self.query.items() if value is not None)
        known = f"label {quoted(self.label, 60)}, {self.relevant} images share it" if self.label else "label unknown"
        lines = [
            f"Comparison for {asked} ({known}) in library {quoted(self.library)}: {self.images} images, encoder "
            f"{self.encoder}, pixels {self.pixel_size} x {self.pixel_size}.",
            f"Each row: way to search | P@{self.k} | AP | ms | first ids (the very first with its value), * = the query's label.",
        ]
        seen: dict[tuple[str, ...], str] = {}
        for row in self.rows:
            best = f" ({row.hits[0].value:.4g})" if row.hits else ""
            twin = seen.setdefault(tuple(hit.id for hit in row.hits), row.name)
            if twin != row.name:
                lines.append(f"{row.name} | same {self.k} hits as {twin}{best}")
                continue
            marked = ", ".join(f"{hit.id}{'*' * self.is_right(hit)}" for hit in row.hits[:_IDS_TOLD])
            lines.append(
                f"{row.name} | {shown(row.precision_at_k)} | {shown(row.average_precision)} | "
                f"{row.seconds * 1e3:.1f} | {marked or 'nothing'}{best}"
            )
        return "\n".join([*lines, *map(str, (*self.findings, *self.by_construction, *self.notes))])

    def is_right(self, hit: Hit) -> bool:
        """Whether a hit has the query's label."""
        return bool(self.label) and hit.label == self.label


_IDS_TOLD = 4
"""Ids a row tells a model; the record holds all."""


@dataclass(frozen=True, slots=True)
class ClassQuality(Record):
    """Means over the queries of one label."""

    queries: int
    precision_at_1: float
    precision_at_k: float
    map: float
    map_at_k: float


@dataclass(frozen=True, slots=True)
class QuerySetRow(Record):
    """Many queries, searched one way: means over those with a known label, None where there is none.

    `intervals` holds the bootstrap interval of each mean, `against_best` that of the paired difference in P@k to the
    best exact row (None for that row itself). `recall_at_k` is over all queries. `seconds` is the median search of one
    query.
    """

    space: Space
    measure: Measure
    search: RowSearch
    queries: int
    precision_at_1: float | None
    precision_at_k: float | None
    map: float | None
    map_at_k: float | None
    recall_at_k: float | None
    seconds: float
    intervals: dict[str, Interval]
    against_best: Interval | None
    classes: dict[str, ClassQuality]

    @property
    def name(self) -> str:
        """Space, measure and search as one short name."""
        return row_name(self.space, self.measure, self.search)


@dataclass(frozen=True, slots=True)
class Confusion(Record):
    """Images of `taken_for` ("" without a label) among the first hits of queries of `label`.

    `places` is how many, `queries` in how many queries; `query` and `hit` (an id) are the highest placed one as an example.
    """

    label: str
    taken_for: str
    queries: int
    places: int
    query: str
    hit: str


@dataclass(frozen=True, slots=True)
class MissedQuery(Record):
    """A query that found a wrong image where a right one could have been; `hit` is the first of them."""

    query: str
    label: str
    precision_at_k: float
    average_precision: float
    hit: Hit


@dataclass(frozen=True, slots=True)
class Weaknesses(Record):
    """Where the row `way`, the one a search without options takes, is weak: the worst first, of each list at most 50.

    `classes` are labels by their mAP (figures: `QuerySetRow.classes`), `confusions` go by places, `queries` by average
    precision. Of a query's first k places as many count as there are right images.
    """

    way: str
    classes: list[str]
    confusions: list[Confusion]
    queries: list[MissedQuery]


@dataclass(frozen=True, slots=True)
class QuerySetComparison(Record):
    """A labelled set of queries under every measure on every space.

    `queries` is how many were compared, `judged` how many of them have a label that the library holds. `example` is the
    query whose rows differ most in P@k, as one picture of the whole.
    """

    library: str
    encoder: str
    k: int
    folder: str
    queries: int
    judged: int
    images: int
    pixel_size: int
    rows: list[QuerySetRow]
    agreement: Agreement
    by_construction: list[Note]
    findings: list[Note]
    notes: list[Note]
    failed: list[Failure]
    seconds: float
    example: Comparison | None = None
    weak: Weaknesses | None = None
    definitions: dict[str, str] = field(default_factory=lambda: dict(DEFINITIONS))

    def __str__(self) -> str:
        lines = [
            f"Comparison over {self.queries} queries of {quoted(self.folder)} ({self.judged} with a label the library "
            f"holds) in library {quoted(self.library)}: {self.images} images, encoder {self.encoder}, pixels "
            f"{self.pixel_size} x {self.pixel_size}.",
            f"Each row: way to search | P@1 | P@{self.k} [95 % interval] | mAP | recall@{self.k} of the index | ms",
        ]
        for row in self.rows:
            interval = row.intervals.get("precision_at_k")
            limits = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
            lines.append(
                f"{row.name} | {shown(row.precision_at_1)} | {shown(row.precision_at_k)}{limits} | {shown(row.map)} | "
                f"{shown(row.recall_at_k)} | {row.seconds * 1e3:.1f}"
            )
        lines += map(str, (*self.findings, *self.by_construction, *self.notes))
        lines += self._weak_lines()
        return "\n".join([*lines, *(f"failed {failure}" for failure in self.failed[:5])])

    def _weak_lines(self) -> list[str]:
        weak = self.weak
        if weak is None or not weak.queries:
            return []
        of_class = self.classes_of(weak.way)
        classes = [
            f"{quoted(label, 40)} {found.precision_at_1:.2f} {found.precision_at_k:.2f} {found.map:.2f}"
            for label in weak.classes[:_TOLD]
            if (found := of_class[label]).map < 1
        ]
        confusions = [
            f"{quoted(one.label, 40)} for {quoted(one.taken_for, 40) if one.taken_for else 'no label'} {one.places}"
            for one in weak.confusions[:_TOLD]
        ]
        queries = [
            f"{quoted(one.query, 60)} {one.average_precision:.2f}, hit {one.hit.rank} is {one.hit.id}"
            f"{f' {quoted(one.hit.label, 40)}' if one.hit.label else ''}"
            for one in weak.queries[:_TOLD]
        ]
        return [
            f"Weakest classes by {weak.way} (P@1 P@{self.k} mAP): {'; '.join(classes)}.",
            f"Taken for another (images among the first {self.k}): {'; '.join(confusions)}.",
            f"Weakest queries (AP, first wrong hit): {'; '.join(queries)}.",
        ]

    def classes_of(self, way: str) -> dict[str, ClassQuality]:
        """The figures of every label by the row of that name."""
        return next(row.classes for row in self.rows if row.name == way)


_TOLD = 5
"""Weak classes, confusions and queries that a text names; the record holds more."""


def telling(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """The rows worth drawing: a re-ranked one only where its hits differ from those of the exact row of its measure."""
    exact = {
        row.measure: [hit.id for hit in row.hits] for row in rows if (row.space, row.search) == ("embedding", "exact")
    }
    return [row for row in rows if row.search != "reranked" or [hit.id for hit in row.hits] != exact.get(row.measure)]


def row_name(space: Space, measure: Measure, search: RowSearch) -> str:
    """A way to search as one short name, such as `pixels l1 exact`."""
    return f"{space} {measure} {search}"


def shown(value: float | None, digits: int = 3) -> str:
    """A figure in [0, 1] for a reader; `-` where it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"
