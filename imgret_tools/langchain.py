"""The LangChain adapter: the typed tools for any agent, a retriever, and the encoder as embeddings.

    agent = create_agent(model, ImageToolkit(tools=tools).get_tools())

A tool message's content is the short text for the model and its artifact the whole record as plain data (`to_dict()`), the
same before and after a checkpointer. What a tool refuses arrives as a message of status "error" that says what to do next.
Pictures in the human's messages are `upload-1`, `upload-2`... to the tools, in their order; in a loop of one's own, without
LangGraph's state, `ImageTools.upload` gives an id to speak of. Indexing reports as `imgret_progress` events through callbacks
and through `stream_mode="custom"`.
"""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.json_schema import SkipJsonSchema
from pydantic.v1 import ValidationError as ValidationErrorV1

from imgret_tools.errors import BadInput, ImgretError, own_words
from imgret_tools.extras import needs
from imgret_tools.records import Hit, Measure, Progress
from imgret_tools.schemas import PublishedTool, Report, available, call, explain, pictures
from imgret_tools.tools import ImageTools
from imgret_tools.uploads import MOST_BYTES, of_data_url

with needs("langchain"):
    from langchain_core.callbacks import (
        CallbackManagerForRetrieverRun,
        Callbacks,
        adispatch_custom_event,
        dispatch_custom_event,
    )
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.messages import HumanMessage
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.tools import BaseTool, BaseToolkit, InjectedToolArg, StructuredTool, ToolException

PROGRESS_EVENT = "imgret_progress"
"""Name of the custom event that carries a `Progress` as a dict."""

NUMBERED = re.compile(r"upload-(\d{1,4})")
"""An upload by its place among the pictures of a talk, from 1."""

Content = str | list[dict[str, str]]


@runtime_checkable
class AgentRuntime(Protocol):
    """What LangGraph's tool node hands a tool that has a parameter `runtime`."""

    state: object
    stream_writer: Callable[[object], None]


def as_langchain_tools(
    tools: ImageTools, *, with_images: bool = False, reported: Callable[[Report], None] | None = None
) -> list[BaseTool]:
    """One LangChain tool for each public tool.

    Args:
        tools: What they call.
        with_images: Show search results to the model: thumbnails of at most 256 px and 200 kB in all follow the text.
            Some providers take pictures in user messages only; leave it off for them. `show_image` is there to be seen:
            its picture follows its text unless this is off.
        reported: Called with the record of each answer, for a program that shows more of it than the model sees.
    """
    return [_as_langchain_tool(tools, tool, with_images, reported) for tool in available(tools)]


class ImageToolkit(BaseToolkit):
    """The tools as a LangChain toolkit; see `as_langchain_tools`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tools: ImageTools
    with_images: bool = False

    def get_tools(self) -> list[BaseTool]:
        """One LangChain tool for each public tool."""
        return as_langchain_tools(self.tools, with_images=self.with_images)


def sent_pictures(messages: Sequence[object]) -> list[bytes]:
    """The pictures in the human's messages, in their order; what is no picture in base64 stands as empty bytes."""
    found: list[bytes] = []
    for message in messages:
        if not isinstance(message, HumanMessage) or not isinstance(message.content, list):
            continue
        for block in message.content:
            if isinstance(block, dict) and (data := _picture_of(block)) is not None:
                found.append(data)
    return found


def _picture_of(block: Mapping[str, object]) -> bytes | None:
    """The bytes of a content block that is a picture, in any of the forms that providers have; None for another block."""
    if block.get("type") not in ("image", "image_url"):
        return None
    source = block.get("source")
    inner = source if isinstance(source, dict) else block  # Anthropic's form
    data = inner.get("base64") or inner.get("data")
    url = inner.get("url") or inner.get("image_url")
    url = url.get("url") if isinstance(url, dict) else url  # OpenAI's form
    try:
        if isinstance(url, str) and url.startswith("data:"):
            return of_data_url(url)
        return base64.b64decode(data, validate=True) if isinstance(data, str) and len(data) < 2 * MOST_BYTES else b""
    except (BadInput, ValueError):
        return b""


def _named_upload(tools: ImageTools, image: object, runtime: AgentRuntime) -> object:
    """`image`, or the id of the n-th picture of the talk where it says `upload-n`."""
    number = NUMBERED.fullmatch(image.strip()) if isinstance(image, str) else None
    if number is None:
        return image
    state = runtime.state
    messages = state.get("messages", []) if isinstance(state, Mapping) else getattr(state, "messages", state)
    sent = sent_pictures(messages if isinstance(messages, Sequence) else [])
    place = int(number[1])
    if not 1 <= place <= len(sent):
        there = f"there are upload-1 to upload-{len(sent)}" if sent else "the user has sent none"
        raise ToolException(f"There is no picture {number[0]} in this talk; {there}.")
    if not sent[place - 1]:
        raise ToolException(f"The picture {number[0]} cannot be read; ask the user to attach it again as a file.")
    return tools.upload(sent[place - 1])


def _arguments(tool: PublishedTool) -> type[BaseModel]:
    """The tool's arguments and, seen by LangGraph alone, `runtime`."""
    hidden = Annotated[SkipJsonSchema[object], InjectedToolArg]
    return create_model(tool.arguments.__name__, __base__=tool.arguments, runtime=(hidden, None))


def _as_langchain_tool(
    tools: ImageTools, tool: PublishedTool, with_images: bool, reported: Callable[[Report], None] | None
) -> BaseTool:
    def run(
        arguments: dict[str, object],
        runtime: object,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> tuple[Content, dict[str, object]]:
        def show(state: Progress) -> None:
            if isinstance(runtime, AgentRuntime):
                runtime.stream_writer({"type": PROGRESS_EVENT, **state.to_dict()})
            if progress:
                progress(state)

        try:
            if isinstance(runtime, AgentRuntime) and "image" in arguments:
                arguments = {**arguments, "image": _named_upload(tools, arguments["image"], runtime)}
            report = call(tools, tool.name, arguments, progress=show, cancelled=cancelled)
            if reported:
                reported(report)
            return _content(tools, report, with_images), report.to_dict()
        except ImgretError as error:
            raise ToolException(str(error)) from error
        except OSError as error:
            raise ToolException(
                f"The disk or a file refused: {own_words(error)}. Try another path, or tell the user."
            ) from error

    # LangChain fills `callbacks` with the call's own manager, LangGraph `runtime` with its own; the model sees neither.
    def func(
        callbacks: Callbacks = None, runtime: object = None, **arguments: object
    ) -> tuple[Content, dict[str, object]]:
        def show(progress: Progress) -> None:
            dispatch_custom_event(PROGRESS_EVENT, progress.to_dict(), config={"callbacks": callbacks})

        return run(arguments, runtime, show if callbacks else None, None)

    async def coroutine(
        callbacks: Callbacks = None, runtime: object = None, **arguments: object
    ) -> tuple[Content, dict[str, object]]:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()

        def show(progress: Progress) -> None:
            event = adispatch_custom_event(PROGRESS_EVENT, progress.to_dict(), config={"callbacks": callbacks})
            asyncio.run_coroutine_threadsafe(event, loop)

        try:
            return await asyncio.to_thread(run, arguments, runtime, show if callbacks else None, cancelled.is_set)
        finally:  # an agent that is cancelled leaves no indexing behind
            cancelled.set()

    def invalid(error: ValidationError | ValidationErrorV1) -> str:
        return explain(tool.name, error) if isinstance(error, ValidationError) else str(error)

    return StructuredTool.from_function(
        func=func,
        coroutine=coroutine,
        name=tool.name,
        description=tool.description,
        args_schema=_arguments(tool),
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=invalid,
    )


def _content(tools: ImageTools, report: Report, with_images: bool) -> Content:
    seen = pictures(tools, report, found=True) if with_images else []
    if not seen:
        return str(report)
    blocks = [{"type": "text", "text": str(report)}]
    for line, data in seen:
        blocks += [
            {"type": "text", "text": line},
            {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/jpeg"},
        ]
    return blocks


class ImageRetriever(BaseRetriever):
    """Pictures of a library as documents: `page_content` names the picture, `metadata` is the whole hit."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tools: ImageTools
    library: str = "default"
    k: int = 5
    measure: Measure = "cosine"
    where: list[str] | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        report = self.tools.search_similar_image(
            text=query, k=self.k if k is None else k, measure=self.measure, library=self.library, where=self.where
        )
        return [_document(hit) for hit in report.hits]


def _document(hit: Hit) -> Document:
    return Document(id=hit.id, page_content=str(hit), metadata=hit.to_dict())


class ImageEmbeddings(Embeddings):
    """The rows of a library's own encoder, of texts and of pictures, for vector stores that hold its pictures' rows.

    With langchain-chroma, `add_images` and `similarity_search_by_image` work on it.
    """

    def __init__(self, tools: ImageTools, library: str = "default") -> None:
        self._tools, self._library = tools, tools.runtime.library(library).card.name

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A unit row of `dim` numbers for each text."""
        if not texts:
            return []
        with self._tools.runtime.view(self._library) as view:
            found: list[list[float]] = self._tools.runtime.encode_texts(view, texts).tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """The unit row of `dim` numbers of a text."""
        return self.embed_documents([text])[0]

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        """A unit row of `dim` numbers for each picture: paths inside the roots, ids, upload ids or data URLs."""
        runtime, rows = self._tools.runtime, []
        for start in range(0, len(uris), _BATCH):
            batch = [self._tools.picture(uri, self._library) for uri in uris[start : start + _BATCH]]
            with runtime.view(self._library) as view:
                side = runtime.at_least(view)
                rows += runtime.encode_images(view, [runtime.open_query(image, side) for image in batch]).tolist()
        return rows


_BATCH = 32
"""Pictures that are opened and encoded at once."""


__all__ = ["PROGRESS_EVENT", "ImageEmbeddings", "ImageRetriever", "ImageToolkit", "as_langchain_tools"]
