"""Labels given by hand, kept in the library, and what the encoder would suggest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from imgret_tools.engine.explain import NamesClasses
from imgret_tools.engine.runtime import Runtime
from imgret_tools.engine.search import nearest_rows
from imgret_tools.errors import ImgretError, NotFound
from imgret_tools.library.filters import parse_where
from imgret_tools.records import Entry, Record
from imgret_tools.sources.source import label_of

_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Suggestion(Record):
    """A label for a picture, and how much speaks for it: shares in [0, 1], from neighbours or from the encoder's classes."""

    label: str
    share: float
    source: str


def give_label(runtime: Runtime, ids: Sequence[str], label: str, *, library: str = "default") -> list[Entry]:
    """Label indexed pictures by hand; indexing again keeps the label. An empty one goes back to each folder's name.

    Raises:
        NotFound: no such library or picture; then none is labelled.
        LibraryLocked: the library is being indexed.
    """
    labelled = []
    with runtime.library(library).writing("labelling") as writer:
        before = [(id_, writer.entry(id_)) for id_ in ids]
        for id_, entry in before:
            if entry is None:
                raise NotFound(
                    "Library {name!r} has no image {id!r}; ids come from search results.", name=writer.card.name, id=id_
                )
            of_folder = label_of(entry.path, entry.folder)
            labelled.append(replace(entry, label=label or of_folder, label_by_user=bool(label)))
        changed = [entry for entry, (_, old) in zip(labelled, before, strict=True) if entry != old]
        if changed:
            writer.describe(changed)
    return labelled


def suggest_labels(runtime: Runtime, id_: str, *, library: str = "default", top: int = 4) -> list[Suggestion]:
    """Labels that the picture might have, likeliest first.

    The ten nearest labelled pictures vote, each by its cosine (k nearest neighbours); an encoder that knows classes by name
    adds its likeliest one.

    Raises:
        NotFound: no such library or picture.
    """
    with runtime.view(library) as view:
        entry, card = view.entry(id_), view.card
        labelled = view.memo("labelled", lambda: view.matching(parse_where(["label!="])))
        labelled = labelled[labelled != view.number(id_)]
        near, cosines = nearest_rows(view, view.row(id_), "cosine", labelled, _NEIGHBOURS)
        labels = view.column("label", near)
    votes: dict[str, float] = {}
    for label, cosine in zip(map(str, labels), cosines, strict=True):
        votes[label] = votes.get(label, 0.0) + max(0.0, float(cosine))
    total = sum(votes.values()) or 1.0
    ranked = sorted(votes.items(), key=lambda vote: -vote[1])
    suggestions = [Suggestion(label, round(vote / total, 4), "neighbours") for label, vote in ranked]
    encoder = runtime.encoder_of(card)
    if isinstance(encoder, NamesClasses):
        try:
            name, share = encoder.classify(encoder.prepare(runtime.open_query(entry, encoder.side)), top=1)[0]
        except ImgretError:  # the picture has gone since: its neighbours are still known
            pass
        else:
            if name not in votes:
                suggestions.insert(1 if suggestions else 0, Suggestion(name, round(share, 4), "classes"))
    return suggestions[:top]
