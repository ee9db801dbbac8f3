"""What the collect tab's visitor asks for: a form of a few fields, or a whole spec as text, as one checked `Spec`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from imgret_tools.collect.net.polite import Manners
from imgret_tools.collect.spec import Spec, load_spec
from imgret_tools.errors import BadInput
from imgret_tools.ui.texts.table import Language, said

MAX_TEXT = 200_000
_JSON = ("items", "image", "page", "license")
# Steps after the crawl ask no search page: their spec needs one in form only.
_NO_SEARCH: dict[str, object] = {"url": "http://host/{search_term}", "categories": {"word": ["word"]}}


def read_spec(language: Language, text: str, form: Mapping[str, object], *, crawled: bool) -> Spec:
    """The spec in `text`, or of the `form` while `text` is blank.

    Args:
        language: of the messages.
        text: YAML or JSON; its keys are the fields of `Spec`.
        form: the page's fields by name; empty ones count as not given.
        crawled: whether the run reads search pages; without, `url` and `categories` may be missing.

    Raises:
        BadInput: what is given cannot be used; the message says what to change.
    """
    if text.strip():
        given = _parsed(text)
    elif crawled:
        given = spec_of(language, form)
    else:
        given = _fields(form)
    spec = load_spec(given if crawled else {**_NO_SEARCH, **given})
    Manners(contact=spec.contact, delay=spec.delay)  # refuses what it cannot use before the first request
    return spec


def spec_of(language: Language, form: Mapping[str, object]) -> dict[str, object]:
    """The form as the mapping that a spec file holds.

    Raises:
        BadInput: there is no address of a search page, it has no place for the word, or there are no words.
    """
    url = str(form.get("url") or "").strip()
    if "{search_term}" not in url:
        raise BadInput(said(language, "collect_no_place", url=url))
    return {"url": url, "categories": categories_of(language, str(form.get("categories") or "")), **_fields(form)}


def categories_of(language: Language, text: str) -> dict[str, list[str]]:
    """The words by category: `fruit: orange, apple` a line, or words alone, which all belong to the category `words`.

    Raises:
        BadInput: there are no words, or a line has a category but no words.
    """
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        category, colon, rest = line.rpartition(":") if line.endswith(":") else line.partition(":")
        category, rest = (category.strip(), rest) if colon else ("words", line)
        words = [word.strip() for word in rest.split(",") if word.strip()]
        if not words or not category:
            raise BadInput(said(language, "collect_half_line", line=line[:80]))
        known = found.setdefault(category, [])
        known += [word for word in dict.fromkeys(words) if word not in known]
    if not found:
        raise BadInput(said(language, "collect_no_words"))
    return found


def written(spec: Mapping[str, object]) -> str:
    """A spec's mapping as YAML."""
    import yaml  # type: ignore[import-untyped]

    return str(yaml.safe_dump(dict(spec), allow_unicode=True, sort_keys=False, default_flow_style=None, width=100))


def _fields(form: Mapping[str, object]) -> dict[str, object]:
    """The fields below address and words, those that are filled in."""
    given = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in form.items()
        if name not in ("url", "categories", *_JSON) and value not in (None, "")
    }
    if given.get("mode") == "json":
        paths = {name: str(form.get(name) or "").strip() for name in _JSON}
        given["json"] = {name: path for name, path in paths.items() if path}
    return given


def _parsed(text: str) -> dict[str, object]:
    import yaml

    if len(text) > MAX_TEXT:
        raise BadInput(
            "The spec has {count} characters; at most {most} are read. Run it in parts.", count=len(text), most=MAX_TEXT
        )
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        try:
            # An alias can stand for a text of gigabytes that a message would then show.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                raise BadInput("The spec uses a YAML alias (*name); write the value out.") from None
            data = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise BadInput(
                "The spec is neither JSON nor YAML: {reason}", reason=" ".join(str(error).split())
            ) from error
    if not isinstance(data, dict):
        raise BadInput(
            "The spec is a {kind}; expected lines like url: ... and categories: ...", kind=type(data).__name__
        )
    return data
