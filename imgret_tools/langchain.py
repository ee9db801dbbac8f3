"""The LangChain adapter: the typed tools for any agent, a retriever, and the encoder as embeddings.

    agent = create_agent(model, ImageToolkit(tools=tools).get_tools())

A tool message's content is the short text for the model and its artifact the whole record. What a tool refuses
arrives as a message of status "error" that says what to do next. Indexing reports through callbacks as `imgret_progress`
events.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable

from langchain_core.callbacks import (
    CallbackManagerForRetrieverRun,
    Callbacks,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, ToolException
from pydantic import ConfigDict, ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from imgret_tools.errors import ImgretError
from imgret_tools.records import Hit, Measure, Progress
from imgret_tools.schemas import PublishedTool, Report, call, explain, published, thumbnails
from imgret_tools.tools import ImageTools

PROGRESS_EVENT = "imgret_progress"
"""Name of the custom event that carries a `Progress` as a dict."""

Content = str | list[dict[str, str]]


def as_langchain_tools(tools: ImageTools, *, with_images: bool = False) -> list[BaseTool]:
    """One LangChain tool for each public tool.

    Args:
        tools: What they call.
        with_images: Show search results to the model: thumbnails of at most 256 px and 200 kB in all follow the text.
            Some providers take pictures in user messages only; leave it off for them.
    """
    return [_as_langchain_tool(tools, tool, with_images) for tool in published()]


class ImageToolkit(BaseToolkit):
    """The tools as a LangChain toolkit; see `as_langchain_tools`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tools: ImageTools
    with_images: bool = False

    def get_tools(self) -> list[BaseTool]:
        """One LangChain tool for each public tool."""
        return as_langchain_tools(self.tools, with_images=self.with_images)


def _as_langchain_tool(tools: ImageTools, tool: PublishedTool, with_images: bool) -> BaseTool:
    def run(
        arguments: dict[str, object], progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool] | None
    ) -> tuple[Content, Report]:
        try:
            report = call(tools, tool.name, arguments, progress=progress, cancelled=cancelled)
        except ImgretError as error:
            raise ToolException(str(error)) from error
        except OSError as error:
            raise ToolException(f"The disk or a file refused: {error}. Try another path, or tell the user.") from error
        return _content(tools, report, with_images), report

    # LangChain fills `callbacks` with the call's own manager, and leaves them out of what the model sees.
    def func(callbacks: Callbacks = None, **arguments: object) -> tuple[Content, Report]:
        def show(progress: Progress) -> None:
            dispatch_custom_event(PROGRESS_EVENT, progress.to_dict(), config={"callbacks": callbacks})

        return run(arguments, show if callbacks else None, None)

    async def coroutine(callbacks: Callbacks = None, **arguments: object) -> tuple[Content, Report]:
        loop, cancelled = asyncio.get_running_loop(), threading.Event()

        def show(progress: Progress) -> None:
            event = adispatch_custom_event(PROGRESS_EVENT, progress.to_dict(), config={"callbacks": callbacks})
            asyncio.run_coroutine_threadsafe(event, loop)

        try:
            return await asyncio.to_thread(run, arguments, show if callbacks else None, cancelled.is_set)
        finally:  # an agent that is cancelled leaves no indexing behind
            cancelled.set()

    def invalid(error: ValidationError | ValidationErrorV1) -> str:
        return explain(tool.name, error) if isinstance(error, ValidationError) else str(error)

    return StructuredTool.from_function(
        func=func,
        coroutine=coroutine,
        name=tool.name,
        description=tool.description,
        args_schema=tool.arguments,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=invalid,
    )


def _content(tools: ImageTools, report: Report, with_images: bool) -> Content:
    shown = thumbnails(tools, report) if with_images else []
    if not shown:
        return str(report)
    blocks = [{"type": "text", "text": str(report)}]
    for hit, data in shown:
        blocks += [
            {"type": "text", "text": f"{hit.rank}. id {hit.id}:"},
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
    """The text rows of a library's own encoder, for vector stores that hold its pictures' rows."""

    def __init__(self, tools: ImageTools, library: str = "default") -> None:
        self._runtime = tools.runtime
        self._library = tools.runtime.library(library).card.name

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A unit row of `dim` numbers for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The unit row of `dim` numbers of a text."""
        with self._runtime.view(self._library) as view:
            return [float(value) for value in self._runtime.encode_text(view, text)]


__all__ = ["PROGRESS_EVENT", "ImageEmbeddings", "ImageRetriever", "ImageToolkit", "as_langchain_tools"]
