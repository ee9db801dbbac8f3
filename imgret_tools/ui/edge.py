"""Where the page meets the tools: errors become messages, texts follow the visitor's language."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_type_hints

from imgret_tools.errors import ImgretError
from imgret_tools.ui.texts import Language, said

if TYPE_CHECKING:
    from gradio.components import Component

Bound = list[tuple["Component", dict[str, str]]]
"""Components, and which of their properties show which text."""


@contextmanager
def shown_errors() -> Iterator[None]:
    """What goes wrong on purpose is shown to the visitor as it reads."""
    import gradio as gr

    try:
        yield
    except ImgretError as error:
        from html import escape

        raise gr.Error(escape(str(error)), print_exception=False) from None


def endpoint(method: Callable[..., object]) -> Callable[..., dict[str, object]]:
    """A tool's method as a function for `gr.api`: the same parameters, the record as a dict."""

    @functools.wraps(method)
    def call(*args: object, **named: object) -> dict[str, object]:
        with shown_errors():
            return method(*args, **named).to_dict()  # type: ignore[attr-defined, no-any-return]

    signature = inspect.signature(method)
    hints = get_type_hints(method)
    parameters = [parameter.replace(annotation=hints[name]) for name, parameter in signature.parameters.items()]
    call.__signature__ = signature.replace(parameters=parameters, return_annotation=dict)  # type: ignore[attr-defined]
    call.__annotations__ = {**{name: hints[name] for name in signature.parameters}, "return": dict}
    del call.__dict__["__wrapped__"]
    return call


def spoken(bound: Bound, language: Language) -> list[dict[str, object]]:
    """An update for each bound component, in its order."""
    import gradio as gr

    return [gr.update(**{name: said(language, key) for name, key in texts.items()}) for _, texts in bound]
