"""The pictures of a page as its HTML has them, without running its scripts."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

from imgret_tools.collect.read.candidates import Facts, Raw

LAZY = (
    "data-src",
    "data-original",
    "data-lazy-src",
    "data-lazy",
    "data-full",
    "data-full-src",
    "data-image",
    "data-url",
)
_LARGE_FIRST = ("data-full", "data-full-src", "data-original")
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
        if tag == "source" and given.get("srcset"):
            self._sources.append(given["srcset"])
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

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._links:
            self._links.pop()
        elif tag == "picture":
            self._sources.clear()
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
        lazy = sorted((name for name in LAZY if given.get(name)), key=lambda name: name not in _LARGE_FIRST)
        self.facts.images.append(
            Raw(
                "img",
                given.get("src", ""),
                tuple(filter(None, (given.get("srcset"), given.get("data-srcset"), *self._sources))),
                tuple(given[name] for name in lazy),
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


def _pixels(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:px)?\s*", text)
    return float(match[1]) if match else 0
