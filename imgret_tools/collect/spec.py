"""What to collect (`Spec`, one JSON or YAML file) and what a crawl found (`image_urls.json` and its sources)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

from imgret_tools.collect.net.guard import host_of
from imgret_tools.errors import BadInput, NotFound, PathRefused
from imgret_tools.files import atomic_write
from imgret_tools.records import Record

Mode = Literal["browser", "html", "json"]
Classes = Literal["term", "category"]
Urls = dict[str, dict[str, list[str]]]

_RANGES = {"parallel": (1, 16), "workers": (1, 64), "min_pixels": (0, 100_000), "near": (-1, 32), "test": (0, 100_000)}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFields(Record):
    """Where an API's answer keeps things: `items` leads to the list, the others start at one item (`urls.full`)."""

    image: str
    items: str = ""
    page: str = ""
    license: str = ""
    credit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Record):
    """What to collect, from words to a split data set; each field is a key of the spec file.

    `url` holds `{search_term}` (also `{category}`, and `{page}` in the modes html and json, counted from `first_page`
    in steps of `page_step`). `rewrite` are pairs of a regular expression and its replacement, tried on every image URL
    in order. `load_more` is a CSS selector (`css=...`) or the button's text (`text=...`); empty means a guess.
    Pictures shown smaller than `min_side` pixels on a side are taken for icons. `delay` and `max_seconds` (a term) are
    seconds. `test`, `train`, `seed` and `classes` are for the split.
    """

    url: str
    categories: dict[str, list[str]]
    mode: Mode = "browser"
    max_images: int = 50
    parallel: int = 3
    load_more: str = ""
    min_side: int = 80
    max_rounds: int = 100
    max_seconds: float = 180.0
    settle: float = 2.0
    first_page: int = 1
    page_step: int = 1
    rewrite: list[tuple[str, str]] = field(default_factory=list)
    json: JsonFields | None = None
    load_images: bool = False
    contact: str = ""
    delay: float = 0.5
    workers: int = 8
    max_bytes: int = 50_000_000
    min_pixels: int = 50
    near: int = 6
    test: int = 1
    train: int = 19
    seed: int = 0
    classes: Classes = "term"

    def __post_init__(self) -> None:
        if "{search_term}" not in self.url:
            raise BadInput(
                "url is {url!r}; it needs {{search_term}} in it, like https://host/search?q={{search_term}}.",
                url=self.url,
            )
        try:
            host_of(self.page_url("category", "term", self.first_page))
        except (KeyError, IndexError, ValueError, PathRefused) as error:
            raise BadInput(
                "url is {url!r}, which cannot be filled in ({error}); use {{search_term}}.", url=self.url, error=error
            ) from error
        if not any(self.categories.values()):
            raise BadInput('categories is empty; give terms for each, like {"fruit": ["orange", "apple"]}.')
        for name, allowed in (("mode", get_args(Mode)), ("classes", get_args(Classes))):
            if getattr(self, name) not in allowed:
                raise BadInput(
                    "{name} is {value!r}; it must be one of {allowed}.",
                    name=name,
                    value=getattr(self, name),
                    allowed=", ".join(allowed),
                )
        for name in ("max_images", "max_rounds", "page_step", "max_bytes", "train"):
            if getattr(self, name) < 1:
                raise BadInput("{name} is {value}; it must be at least 1.", name=name, value=getattr(self, name))
        for name, (least, most) in _RANGES.items():  # said before the first request, not by the last step
            if not least <= getattr(self, name) <= most:
                raise BadInput(
                    "{name} is {value}; it must be between {least} and {most}.",
                    name=name,
                    value=getattr(self, name),
                    least=least,
                    most=most,
                )
        if self.mode == "json" and self.json is None:
            raise BadInput(
                "mode json needs a key json that says where the URLs are, like {items: results, image: urls.full}."
            )
        for pattern, _ in self.rewrite:
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadInput(
                    "rewrite holds {pattern!r}, which is no regular expression ({error}).", pattern=pattern, error=error
                ) from error

    @property
    def paged(self) -> bool:
        """Whether the template counts pages."""
        return "{page}" in self.url

    def page_url(self, category: str, term: str, page: int) -> str:
        """The search page's address with the words percent-encoded."""
        return self.url.format(
            search_term=quote(term, safe=""), term=quote(term, safe=""), category=quote(category, safe=""), page=page
        )

    def terms(self) -> list[tuple[str, str]]:
        """Every (category, term) once, in the order of the file."""
        return list(dict.fromkeys((category, term) for category, terms in self.categories.items() for term in terms))

    def rewritten(self, url: str) -> str:
        """`url` after the rewriting rules."""
        for pattern, replacement in self.rewrite:
            url = re.sub(pattern, replacement, url)
        return url


def load_spec(source: str | Path | Mapping[str, object]) -> Spec:
    """The spec in a `.json`, `.yaml` or `.yml` file, or in a mapping of the same shape; BadInput says what is wrong."""
    data = source if isinstance(source, Mapping) else _read(Path(source))
    known = {f.name: f for f in dataclasses.fields(Spec)}
    if unknown := sorted(set(data) - set(known)):
        raise BadInput(
            "The spec has keys nobody knows: {unknown}. Known keys: {known}.",
            unknown=", ".join(unknown),
            known=", ".join(known),
        )
    if missing := sorted({"url", "categories"} - set(data)):
        raise BadInput("The spec lacks {missing}.", missing=" and ".join(missing))
    given = dict(data)
    given["categories"] = _categories(given["categories"])
    given["rewrite"] = _rules(given.get("rewrite", []))
    if (fields := given.get("json")) is not None and not isinstance(fields, JsonFields):
        names = {f.name for f in dataclasses.fields(JsonFields)}
        if not isinstance(fields, Mapping) or "image" not in fields or not names.issuperset(fields):
            raise BadInput(
                "json is {fields!r}; it is a mapping with image and maybe items, page, license, credit.", fields=fields
            )
        given["json"] = JsonFields(**{str(key): str(value) for key, value in fields.items()})
    for name, value in given.items():
        default = known[name].default
        wanted: tuple[type, ...] = (int, float) if isinstance(default, float) else (type(default),)
        if isinstance(default, bool | int | float | str) and (
            not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise BadInput(
                "{name} is {value!r}; expected {kind}, like {default!r}.",
                name=name,
                value=value,
                kind=wanted[-1].__name__,
                default=default,
            )
    if not isinstance(given["url"], str):
        raise BadInput(
            "url is {given!r}; expected text like https://host/search?q={{search_term}}.", given=given["url"]
        )
    return Spec(**given)  # type: ignore[arg-type]


def load_urls(path: Path) -> Urls:
    """The `{category: {term: [url, ...]}}` of an `image_urls.json`; BadInput when it has another shape."""
    data = _read(path)
    for category, terms in data.items():
        if not isinstance(terms, Mapping) or not all(
            isinstance(urls, list) and all(isinstance(url, str) for url in urls) for urls in terms.values()
        ):
            raise BadInput(
                "{path} holds {category!r} in another shape; expected {{category: {{term: [url, ...]}}}}.",
                path=path,
                category=category,
            )
    return {str(category): {str(t): list(urls) for t, urls in terms.items()} for category, terms in data.items()}  # type: ignore[attr-defined]


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Writes `data` whole or not at all, readable and with its letters as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(data, ensure_ascii=False, indent=1).encode())


def sources_path(urls: Path) -> Path:
    """Where a crawl keeps pages, licences and its own state, beside `image_urls.json`."""
    return urls.with_name(f"{urls.stem}.sources.json")


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound("There is no file {path}.", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("{path} cannot be read as UTF-8 text ({error}).", path=path, error=error) from error
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml  # type: ignore[import-untyped]

            try:
                data = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise BadInput(
                    "{path} is not YAML: {reason}", path=path, reason=" ".join(str(error).split())
                ) from error
        else:
            data = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput("{path} is not JSON: {error}.", path=path, error=error) from error
    except ModuleNotFoundError as error:
        raise BadInput(
            "{path} is YAML, which needs PyYAML: pip install 'imgret-tools[collect]', or write it as JSON.", path=path
        ) from error
    if not isinstance(data, dict):
        raise BadInput(
            "{path} holds a {kind}; expected a mapping of names to values.", path=path, kind=type(data).__name__
        )
    return data


def _categories(data: object) -> dict[str, list[str]]:
    if not isinstance(data, Mapping):
        raise BadInput("categories is {data!r}; expected a mapping like {{fruit: [orange, apple]}}.", data=data)
    found: dict[str, list[str]] = {}
    for category, terms in data.items():
        if not isinstance(terms, list | tuple) or not all(
            isinstance(t, str | int | float) and str(t).strip() for t in terms
        ):
            raise BadInput(
                "categories holds {category!r}: {terms!r}; expected a list of search terms.",
                category=category,
                terms=terms,
            )
        found[str(category)] = [str(term).strip() for term in terms]
    return found


def _rules(data: object) -> list[tuple[str, str]]:
    rules = list(data.items()) if isinstance(data, Mapping) else data
    if not isinstance(rules, list) or not all(
        isinstance(rule, list | tuple) and len(rule) == 2 and all(isinstance(part, str) for part in rule)
        for rule in rules
    ):
        raise BadInput("rewrite is {data!r}; expected {{pattern: replacement}} or a list of such pairs.", data=data)
    return [(pattern, replacement) for pattern, replacement in rules]
