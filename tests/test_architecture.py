"""The layering: imports go only down, heavy packages stay where they belong, and importing the package is light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"errors", "files", "hosts"},
    {"extras"},
    {"records", "settings"},
    {"metrics"},
    {"pictures"},
    {"sources"},
    {"encoders", "library"},
    {"engine"},
    {"comparing", "collect", "uploads"},
    {"tools"},
    {"schemas", "export", "demo", "mcp_sdk"},
    {"langchain", "mcp"},
    {"chat"},
    {"ui", "course"},
    {"cli"},
]
"""From the ground up: a part imports from the layers below its own, never from its siblings or from above."""

RANK = {name: number for number, layer in enumerate(LAYERS) for name in layer}
HEAVY = {
    "torch": {"encoders"},
    "torchvision": {"encoders"},
    "open_clip": {"encoders"},
    "timm": {"encoders"},
    "onnxruntime": {"encoders"},
    "openvino": {"encoders"},
    "chromadb": {"library"},
    "faiss": {"library"},
    "pyarrow": {"engine", "sources"},
    "fsspec": {"sources"},
    "datasets": {"sources"},
    "ray": {"engine"},
    "langchain": {"chat"},
    "langchain_core": {"langchain", "chat"},
    "gradio": {"ui"},
    "mcp": {"mcp", "mcp_sdk"},
    "matplotlib": {"comparing", "course"},
    "playwright": {"collect"},
}
FILES = sorted(
    path
    for path in (ROOT / "imgret_tools").rglob("*.py")
    if path.parent != ROOT / "imgret_tools" or path.stem != "__init__"
)


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path, source: str | None = None) -> list[str]:
    """Absolute names of all modules that a file imports, wherever the import stands and however it is written."""
    package = path.relative_to(ROOT).parts[:-1]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text() if source is None else source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            module = base if node.level else node.module or ""
            names += [f"{module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_and_heavy_packages_stay_home(path: Path) -> None:
    here = path.relative_to(ROOT / "imgret_tools").parts[0].removesuffix(".py")
    assert here in RANK, f"{here} has no layer yet"
    for name in imported(path):
        head = name.split(".")[0]
        other = part_of(name)
        if head == "imgret_tools" and other in RANK and other != here:
            assert RANK[other] < RANK[here], f"{path.name} imports {name}, which is not below it"
        assert here in HEAVY.get(head, {here}), f"{path.name} imports {head}"


def test_only_one_file_knows_chroma() -> None:
    users = {path.name for path in FILES if any(name.split(".")[0] == "chromadb" for name in imported(path))}
    assert users == {"chroma.py"}


def test_relative_imports_and_those_inside_functions_count() -> None:
    source = "from ..library.view import View\ndef f():\n    from . import open\n    import imgret_tools.engine.runtime"
    names = imported(ROOT / "imgret_tools" / "pictures" / "find.py", source)
    assert names == ["imgret_tools.library.view.View", "imgret_tools.pictures.open", "imgret_tools.engine.runtime"]


def test_importing_the_package_and_the_command_is_light() -> None:
    heavy = "('torch', 'gradio', 'chromadb', 'faiss', 'pyarrow', 'open_clip', 'matplotlib', 'langchain_core', 'playwright', 'fsspec', 'ray', 'datasets')"
    for module in ("imgret_tools", "imgret_tools.cli"):
        code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.strip() == "[]", module


def test_all_is_sorted_and_there() -> None:
    import imgret_tools

    assert imgret_tools.__all__ == sorted(imgret_tools.__all__)
    assert all(getattr(imgret_tools, name) for name in imgret_tools.__all__)


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = [*chain(*project["optional-dependencies"].values()), "langchain"]  # the chat asks for it, and says so
    declared = {
        re.split(r"[<>=!~\[; ]", one)[0].lower().replace("_", "-") for one in project["dependencies"] + optional
    }
    known = packages_distributions()
    for path in FILES:
        for name in {one.split(".")[0] for one in imported(path)} - set(sys.stdlib_module_names) - {"imgret_tools"}:
            packages = {one.lower().replace("_", "-") for one in known.get(name, [])}
            assert packages & declared, f"{path.name} imports {name}, which pyproject.toml does not name"
