"""Where the page meets the tools: errors become messages, texts follow the visitor's language."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from html import escape
from pathlib import Path
from typing import Any, ClassVar, get_type_hints
from urllib.parse import quote

import gradio as gr
import orjson
from gradio import component_meta, processing_utils, utils
from gradio.components import Component
from gradio.data_classes import ImageData
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.schemas import PublishedTool
from imgret_tools.tools import ImageTools
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

Bound = list[tuple[Component, dict[str, str | Callable[[Language], object]]]]
"""Components, and which of their properties show which text; a function where a property is more than one text."""


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Classes of components, without the file that Gradio writes beside the source of every one."""
    made, component_meta.create_or_modify_pyi = component_meta.create_or_modify_pyi, lambda *_: None
    try:
        yield
    finally:
        component_meta.create_or_modify_pyi = made


with _without_stubs():

    class PictureBox(gr.Image):
        """A picture of the visitor's; Gradio would turn its file into another one, and word the errors."""

        is_template = True  # to the front end, this is Gradio's own

        def preprocess(self, payload: ImageData | None) -> str | None:
            """The file as it was uploaded."""
            return payload.path if payload else None

    class Thumbnails(gr.Gallery):
        """A gallery of addresses with captions; Gradio's own takes far longer, to copy files that `address` serves as they lie."""

        is_template = True
        _info: ClassVar[dict[str, Any]] = {}

        def api_info(self) -> dict[str, Any]:
            """Gradio's, made once and not for each update."""
            if not self._info:
                self._info.update(super().api_info())
            return self._info

        def postprocess(self, value: list[Any] | None) -> Any:
            """What the page shows for `value`, pairs of address and caption."""
            return [{"image": {"url": url}, "caption": caption} for url, caption in value or []]


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    """In place of Gradio's own: it would fetch whatever address a visitor names as a file."""
    raise gr.Error("Addresses are not fetched here; send the picture itself.", print_exception=False)


processing_utils.async_ssrf_protected_download = _fetch_nothing
# Around every call Gradio imports matplotlib and changes its backend for the whole process; figures here need no backend.
utils.MatplotlibBackendMananger = nullcontext  # type: ignore[misc, assignment]


@contextmanager
def shown_errors(language: Language = "en") -> Iterator[None]:
    """What goes wrong on purpose is shown to the visitor, in the page's language; callers of the API read English."""
    try:
        yield
    except ImgretError as error:
        raise gr.Error(escape(translated(language, error)), print_exception=False) from None


def address(library: str, id_: str) -> str:
    """Where the page finds the thumbnail of an indexed picture, relative to itself; it names no folder."""
    return f"thumbnail/{quote(library, safe='')}/{quote(id_, safe='')}"


def file_for(button: Component, name: str, content: bytes) -> str:
    """A file that Gradio serves for `button` and deletes with its cache."""
    return str(save_bytes_to_cache(content, name, button.GRADIO_CACHE))


def endpoint(tools: ImageTools, tool: PublishedTool) -> Callable[..., str]:
    """A published tool as a function for `gr.api`: the method's parameters, the record as JSON text.

    Text and not a dict, because Gradio's client takes every dict with a `path` for a file and tries to fetch it. What a
    client sent by `handle_file` becomes an upload, and goes on to the tool as its id. Gradio checks no types: the tool's
    own model does, as it does for agents.
    """
    method = getattr(tools, tool.name)
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: object, **named: object) -> str:
        with shown_errors():
            given = signature.bind(*args, **named).arguments
            fitting = tool.checked({name: _received(value, tools.upload) for name, value in given.items()})
            return orjson.dumps(method(**fitting).to_dict(), option=orjson.OPT_SERIALIZE_NUMPY).decode()

    hints = get_type_hints(method)
    parameters = [parameter.replace(annotation=hints[name]) for name, parameter in signature.parameters.items()]
    call.__signature__ = signature.replace(parameters=parameters, return_annotation=str)  # type: ignore[attr-defined]
    call.__annotations__ = {**{name: hints[name] for name in signature.parameters}, "return": str}
    del call.__dict__["__wrapped__"]
    return call


def _received(value: object, upload: Callable[[bytes], str]) -> object:
    """An argument as it is, or the id of a file that came with it."""
    return upload(received(value).read_bytes()) if isinstance(value, dict) else value


def received(file: Mapping[str, object]) -> Path:
    """The path of a file that a caller has sent.

    Raises:
        BadInput: it is none that Gradio has taken in itself.
    """
    path = Path(str(file.get("path") or "")).resolve()
    taken_in = Path(get_upload_folder()).resolve()
    if not path.is_relative_to(taken_in) or not path.is_file():
        raise BadInput("This argument is no file that was sent; send it with gradio_client's handle_file, or as text.")
    return path


def spoken(bound: Bound, language: Language) -> list[dict[str, object]]:
    """An update for each bound component, in its order."""
    updates: list[dict[str, Any]] = [
        {name: key(language) if callable(key) else said(language, key) for name, key in texts.items()}
        for _, texts in bound
    ]
    return [gr.update(**update) for update in updates]
