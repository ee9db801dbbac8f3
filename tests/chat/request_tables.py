"""Reads the tables of requests and measures a parser against them."""

from __future__ import annotations

from pathlib import Path

from imgret_tools.chat.understand import Request, understand

HERE = Path(__file__).parent
ARTICLES = {"a", "an", "the", "some", "any", "các", "những"}


def table(name: str) -> list[tuple[str, dict[str, str]]]:
    """Sentences with what they ask for, as `expected` of `shown`."""
    rows = []
    for line in (HERE / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            sentence, _, meaning = line.partition(" | ")
            do, *rest = meaning.split(" ", 1)
            rows.append((sentence, {"do": do} | pairs(rest[0] if rest else "")))
    return rows


def pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split():
        name, sign, value = word.partition("=")
        if name == "same":
            found["same"] = "yes"
        elif sign and name in (
            "text",
            "not_text",
            "image",
            "k",
            "measure",
            "space",
            "where",
            "library",
            "folder",
            "place",
            "dry_run",
            "offset",
            "then",
            "page",
            "sort",
        ):
            found[name] = value
        else:
            found[next(reversed(found))] += f" {word}"
    return found


def shown(request: Request) -> dict[str, str]:
    """A request in the words of the tables."""
    fields: dict[str, object] = {
        "do": request.do, "text": request.text,
        "not_text": request.not_text, "k": request.k, "measure": request.measure,
        "image": "#5" if request.image == "#-1" else request.image,
        "space": request.space, "where": " ".join(request.where), "library": request.library, "folder": request.folder,
        "place": request.place, "dry_run": request.dry_run and "yes", "same": request.same and "yes",
        "offset": request.more and "next", "then": request.then_compare and "compare",
        "page": request.page, "sort": request.sort,
    }  # fmt: skip
    return {name: str(value) for name, value in fields.items() if value}


def plain(fields: dict[str, str]) -> dict[str, str]:
    return {
        name: " ".join(w for w in value.split() if w not in ARTICLES) if "text" in name else value
        for name, value in fields.items()
    }


def wrong(name: str) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """The rows of a table that are understood otherwise: sentence, expected, got."""
    rows = [(sentence, plain(expected), plain(shown(understand(sentence)))) for sentence, expected in table(name)]
    return [row for row in rows if row[1] != row[2]]
