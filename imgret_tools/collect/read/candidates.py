"""From what a page or an API says about its pictures to one URL a picture: the largest, none of the icons.

`Facts` is what both readers of pages give, the browser (`browser.py`) and the plain-HTML one (`static_page.py`); what
is made of it is decided here, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urldefrag, urljoin, urlsplit

from imgret_tools.collect.net.guard import host_of
from imgret_tools.collect.spec import JsonFields, Spec
from imgret_tools.errors import BadInput, PathRefused

_IMAGE_LINK = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic)$", re.IGNORECASE)
_NO_PHOTO = re.compile(r"\.(svgz?|ico)$", re.IGNORECASE)
_ALSO = 4
"""How many other addresses of a picture are kept."""

_SRCSET = re.compile(r"\s*(?P<url>\S*[^\s,])(?:\s+(?P<size>[\d.]+)(?P<unit>[wxh]))?\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Raw:
    """One picture as the page has it. `width` and `height` are CSS pixels, 0 unknown; `link` is its link's target."""

    kind: Literal["img", "background", "og"] = "img"
    src: str = ""
    srcsets: tuple[str, ...] = ()
    lazy: tuple[str, ...] = ()
    link: str = ""
    width: float = 0
    height: float = 0
    license: str = ""


@dataclass(slots=True)
class Facts:
    """A page's pictures in order, its licence if it names one, its JSON-LD, robots meta tags and next page."""

    base: str
    images: list[Raw] = field(default_factory=list)
    license: str = ""
    linked_data: list[str] = field(default_factory=list)
    robots: list[str] = field(default_factory=list)
    next: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture to download, the page that shows it, and its licence and maker where the page tells them.

    `also` are other addresses of the same picture, the next best first: a link may be named like a picture and lead to
    a page. `found_on` is the page that was read, where that is another than `page`.
    """

    url: str
    page: str
    license: str = ""
    credit: str = ""
    also: tuple[str, ...] = ()
    found_on: str = ""


def from_page(facts: Facts, spec: Spec) -> Iterator[Candidate]:
    """The page's pictures, best URL each, in order; share pictures (`og:image`) last. May repeat a URL."""
    told = _linked_data(facts.linked_data, facts.base)
    for raw in sorted(facts.images, key=lambda raw: raw.kind == "og"):
        if any(0 < side < spec.min_side for side in (raw.width, raw.height)):
            continue
        links_to_picture = bool(_IMAGE_LINK.search(urlsplit(urljoin(facts.base, raw.link)).path)) if raw.link else False
        page = facts.base if links_to_picture or not raw.link else urljoin(facts.base, raw.link)
        page = page if _is_web(page) else facts.base
        usable: dict[str, str] = {}
        for option in _options(raw, links_to_picture):
            if url := _usable(option, facts.base, spec):
                usable.setdefault(url, option)
        if usable:
            url, *also = usable
            license_, credit = told.get(_usable(usable[url], facts.base, None), ("", ""))
            license_ = raw.license or license_ or facts.license
            found_on = facts.base if page != facts.base else ""
            yield Candidate(url, page, license_, credit, tuple(also[:_ALSO]), found_on)


def from_json(text: str, base: str, fields: JsonFields, spec: Spec) -> list[Candidate]:
    """The pictures of an API's answer; BadInput when `items` leads to no list."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadInput("the answer is not JSON ({error}); is mode json right?", error=error) from error
    items = _at(data, fields.items)
    if not isinstance(items, list):
        raise BadInput(
            "json.items {items!r} leads to {kind}; expected a list.", items=fields.items, kind=type(items).__name__
        )
    found = []
    for item in items:
        if url := _usable(_text(_at(item, fields.image)), base, spec):
            page = _text(_at(item, fields.page)) if fields.page else ""
            found.append(
                Candidate(
                    url,
                    urljoin(base, page) if page else base,
                    _text(_at(item, fields.license)) if fields.license else "",
                    _text(_at(item, fields.credit)) if fields.credit else "",
                )
            )
    return found


def _options(raw: Raw, links_to_picture: bool) -> list[str]:
    """The URLs of one picture, largest first: what it links to, its srcset by size, lazy sources, `src`."""
    sized: list[tuple[float, str]] = []
    for srcset in raw.srcsets:
        for match in _SRCSET.finditer(srcset):
            size, unit = float(match["size"] or 1), match["unit"] or "x"
            sized.append((size if unit == "w" else size * (raw.width or 300), match["url"]))
    sized.sort(key=lambda option: -option[0])
    return [*([raw.link] if links_to_picture else []), *(url for _, url in sized), *raw.lazy, raw.src]


def _usable(url: str, base: str, spec: Spec | None) -> str:
    """The absolute http(s) URL, rewritten by the spec's rules, or "" for data:, drawings and icons."""
    if not url.strip() or url.strip().lower().startswith(("data:", "blob:", "javascript:", "about:")):
        return ""
    try:
        absolute = urldefrag(urljoin(base, url.strip())).url
        absolute = spec.rewritten(absolute) if spec else absolute
    except ValueError:
        return ""
    return absolute if _is_web(absolute) and not _NO_PHOTO.search(urlsplit(absolute).path) else ""


def _is_web(url: str) -> bool:
    try:
        return bool(host_of(url))
    except PathRefused:
        return False


def _linked_data(scripts: Iterable[str], base: str) -> dict[str, tuple[str, str]]:
    """(licence, credit) of the `ImageObject`s in JSON-LD (schema.org), by each of their URLs."""
    told: dict[str, tuple[str, str]] = {}
    for script in scripts:
        try:
            waiting = [json.loads(script)]
        except ValueError:
            continue
        while waiting:
            node = waiting.pop()
            if isinstance(node, list):
                waiting.extend(node)
            elif isinstance(node, dict):
                waiting.extend(node.values())
                facts = (_text(node.get("license")), _text(node.get("creditText")) or _text(node.get("creator")))
                for key in ("contentUrl", "url", "thumbnailUrl"):
                    if any(facts) and isinstance(node.get(key), str):
                        told[_usable(node[key], base, None)] = facts
    told.pop("", None)
    return told


def _at(data: object, path: str) -> object:
    """What `a.b.0.c` leads to in nested mappings and lists; None where it leads nowhere."""
    for part in path.split(".") if path else []:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def _text(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("url") or value.get("name") or value.get("@id")
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
