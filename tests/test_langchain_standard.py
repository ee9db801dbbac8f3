"""LangChain's own suites for tools and for embeddings and retrievers, nothing switched off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_photos
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests, ToolsUnitTests

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.langchain import ImageEmbeddings, ImageRetriever, as_langchain_tools
from imgret_tools.tools import TOOLS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ImageTools, Path]]:
    folder = tmp_path_factory.mktemp("standard")
    photos = copy_photos(folder / "photos")
    with Runtime.open(Settings(data_dir=folder / "data", encoder="mini", roots=(folder,))) as opened:
        opened.index(photos)
        yield ImageTools(opened), photos
    shutil.rmtree(folder)


class OneTool:
    """What both suites ask of a tool; `NAME` is the tool's."""

    NAME: str

    @pytest.fixture(autouse=True)
    def _library(self, library: tuple[ImageTools, Path]) -> None:
        self.tools, self.photos = library

    @property
    def tool_constructor(self) -> BaseTool:
        return next(tool for tool in as_langchain_tools(self.tools) if tool.name == self.NAME)

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {
            "index_folder": {"folder": str(self.photos)},
            "search_similar_image": {"text": "a cat", "k": 3},
            "compare_metrics": {"image": str(self.photos / "lion" / "lion.jpg"), "k": 3},
            "list_libraries": {},
            "describe_library": {"library": "default"},
            "show_image": {"image": str(self.photos / "lion" / "lion.jpg")},
            "find_duplicates": {"like": "near"},
        }[self.NAME]


class TestIndexFolderUnit(OneTool, ToolsUnitTests):
    NAME = "index_folder"


class TestIndexFolder(OneTool, ToolsIntegrationTests):
    NAME = "index_folder"


class TestSearchUnit(OneTool, ToolsUnitTests):
    NAME = "search_similar_image"


class TestSearch(OneTool, ToolsIntegrationTests):
    NAME = "search_similar_image"


class TestCompareUnit(OneTool, ToolsUnitTests):
    NAME = "compare_metrics"


class TestCompare(OneTool, ToolsIntegrationTests):
    NAME = "compare_metrics"


class TestLibrariesUnit(OneTool, ToolsUnitTests):
    NAME = "list_libraries"


class TestLibraries(OneTool, ToolsIntegrationTests):
    NAME = "list_libraries"


class TestDescribeUnit(OneTool, ToolsUnitTests):
    NAME = "describe_library"


class TestDescribe(OneTool, ToolsIntegrationTests):
    NAME = "describe_library"


class TestShowUnit(OneTool, ToolsUnitTests):
    NAME = "show_image"


class TestShow(OneTool, ToolsIntegrationTests):
    NAME = "show_image"


class TestDuplicatesUnit(OneTool, ToolsUnitTests):
    NAME = "find_duplicates"


class TestDuplicates(OneTool, ToolsIntegrationTests):
    NAME = "find_duplicates"


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _library(self, library: tuple[ImageTools, Path]) -> None:
        self.tools, _ = library

    @property
    def retriever_constructor(self) -> type[ImageRetriever]:
        return ImageRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"tools": self.tools}

    @property
    def retriever_query_example(self) -> str:
        return "a cat"


class EmbeddingsOfTheLibrary:
    @pytest.fixture(autouse=True)
    def _library(self, library: tuple[ImageTools, Path]) -> None:
        self.tools, _ = library

    @property
    def embeddings_class(self) -> type[ImageEmbeddings]:
        return ImageEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"tools": self.tools}


class TestEmbeddingsUnit(EmbeddingsOfTheLibrary, EmbeddingsUnitTests):
    pass


class TestEmbeddings(EmbeddingsOfTheLibrary, EmbeddingsIntegrationTests):
    pass


def test_every_tool_has_both_suites() -> None:
    names = [cls.NAME for cls in OneTool.__subclasses__()]
    assert sorted(names) == sorted([*TOOLS, *TOOLS])
