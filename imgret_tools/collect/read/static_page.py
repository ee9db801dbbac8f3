"""The pictures of a page as its HTML has them, without running its scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin

from imgret_tools.collect.read.candidates import Facts, Raw

SRCSETS = r"^(?:(?:data|lazy)-)?(?:[a-z]+[_-])*(?:srcset|src-set|lazyset|original-set|bgset)$"
"""Attributes that hold several sizes, as lazy loaders name them: `data-srcset`, `data-lazy-srcset`, ..."""

LAZY = (
    r"^(?:data-)?(?:[a-z]+[_-])*(?:lazy-?src|lazy-?original|lazy-?load|real-?src|defer-?src|cfsrc|ezsrc)$"
    r"|^data-(?:[a-z]+[_-])*(?:src|src-retina|original|lazy|full|full-url|image|img|url|uri|echo|hi-?res|highres|high-res"
    r"|retina|zoom-image|zoom|large|large_image|large-file|orig-file|medium-file|big|iurl|ou|actualsrc|pin-media"
    r"|photo|picture)$"
)
"""Attributes that hold one address until a script puts it into `src`."""

BACKGROUNDS = r"^data-(?:[a-z]+[_-])*(?:bg|background|background-image|bg-src|bg-image)$"
"""Attributes of any element that become its background."""

LARGE = r"full|original|orig|large|big|zoom|hi-?res|highres|retina|actualsrc|-ou$"
"""What the attribute of a larger copy has in its name."""

_SRCSETS, _LAZY, _BACKGROUNDS, _LARGE = map(re.compile, (SRCSETS, LAZY, BACKGROUNDS, LARGE))
_ADDRESS = re.compile(r"(?:https?:)?/|[^\s{}<>]*\.[a-z0-9]{2,5}(?:[?#].*)?$|[^\s{}<>]*/", re.IGNORECASE)
_BACKGROUND = re.compile(r"background(?:-image)?\s*:[^;]*?url\(\s*(['\"]?)(.*?)\1\s*\)", re.IGNORECASE)
_CONTAINERS = frozenset({"figure", "li", "article"})


def read_page(html: str, url: str) -> Facts:
    """What the page at `url` shows."""
    reader = _Reader(url)
    reader.feed(html)
    reader.close()
    return reader.facts


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.facts = Facts(base=url)
        self._links: list[str] = []
        self._sources: list[str] = []
        self._lazy_sources: list[str] = []
        self._in_picture = False
        self._containers: list[tuple[str, int]] = []
        self._script: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        rel = given.get("rel", "").lower().split()
        if tag == "a":
            self._links.append(given.get("href", ""))
        if tag in ("a", "link") and "license" in rel:
            self._license(urljoin(self.facts.base, given.get("href", "")))
        if tag in ("a", "link") and "next" in rel and not self.facts.next:
            self.facts.next = urljoin(self.facts.base, given.get("href", ""))
        if tag == "base" and given.get("href"):
            self.facts.base = urljoin(self.facts.base, given["href"])
        if tag == "picture":
            self._in_picture = True
        if tag == "source" and self._in_picture:
            self._sources += srcsets(given)
            self._lazy_sources += lazy(given)
        if tag == "meta":
            self._meta(given)
        if tag == "script" and given.get("type", "").lower() == "application/ld+json":
            self._script = []
        if tag in _CONTAINERS:
            self._containers.append((tag, len(self.facts.images)))
        if tag == "img":
            self._image(given)
        elif match := _BACKGROUND.search(given.get("style", "")):
            self.facts.images.append(Raw("background", match[2], link=self._link()))
        elif tag != "source" and (found := backgrounds(given)):
            self.facts.images.append(Raw("background", lazy=found, link=self._link()))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._links:
            self._links.pop()
        elif tag == "picture":
            self._sources.clear()
            self._lazy_sources.clear()
            self._in_picture = False
        elif tag == "script" and self._script is not None:
            self.facts.linked_data.append("".join(self._script))
            self._script = None
        elif tag in _CONTAINERS and any(name == tag for name, _ in self._containers):
            while self._containers.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)

    def _link(self) -> str:
        return self._links[-1] if self._links else ""

    def _image(self, given: dict[str, str]) -> None:
        self.facts.images.append(
            Raw(
                "img",
                given.get("src", ""),
                (*srcsets(given), *self._sources),
                (*lazy(given), *self._lazy_sources),
                self._link(),
                _pixels(given.get("width", "")),
                _pixels(given.get("height", "")),
            )
        )

    def _license(self, href: str) -> None:
        """A licence inside a figure, list item or article is its pictures'; one outside is the page's."""
        if not self._containers:
            self.facts.license = self.facts.license or href
            return
        for index in range(self._containers[-1][1], len(self.facts.images)):
            raw = self.facts.images[index]
            if not raw.license:
                self.facts.images[index] = Raw(
                    raw.kind, raw.src, raw.srcsets, raw.lazy, raw.link, raw.width, raw.height, href
                )

    def _meta(self, given: dict[str, str]) -> None:
        name, content = (given.get("property") or given.get("name", "")).lower(), given.get("content", "")
        if name in ("og:image", "og:image:url", "og:image:secure_url"):
            self.facts.images.append(Raw("og", content))
        elif name in ("robots", "imgret-collect"):
            self.facts.robots.append(content)
        elif name in ("dcterms.license", "dc.rights.license") and not self.facts.license:
            self.facts.license = content


def srcsets(given: Mapping[str, str]) -> tuple[str, ...]:
    """The values of an element's attributes that list several sizes."""
    return tuple(value for name, value in given.items() if value and _SRCSETS.match(name))


def lazy(given: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses in an element's lazy attributes, those of larger copies first."""
    found = [name for name, value in given.items() if _LAZY.match(name) and _ADDRESS.match(value.strip())]
    return tuple(given[name] for name in sorted(found, key=lambda name: not _LARGE.search(name)))


def backgrounds(given: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses in an element's attributes that become its background."""
    values = [value.strip() for name, value in given.items() if _BACKGROUNDS.match(name)]
    values = [match[2] if (match := re.match(r"url\(\s*(['\"]?)(.*?)\1\s*\)", value)) else value for value in values]
    return tuple(value for value in values if _ADDRESS.match(value))


def _pixels(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:px)?\s*", text)
    return float(match[1]) if match else 0
