"""The layering: imports go only down, heavy packages stay where they belong, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# fmt: off
LAYERS = [
    {"errors", "files"}, {"records", "exif"}, {"settings", "metrics", "ranking", "images", "filters", "snapshot", "pixel_rows",
     "projection"},
    {"encoders", "library", "collect"}, {"indexing", "bench", "comparison", "findings"}, {"compare", "comparison_html"},
    {"runtime"}, {"plots", "explain", "chance", "labelling"}, {"tools"}, {"demo", "export", "published", "talk"}, {"langchain", "mcp"}, {"ui"}, {"cli"},
]
# fmt: on
RANK = {name: number for number, layer in enumerate(LAYERS) for name in layer}
HEAVY = {
    "torch": {"encoders"},
    "torchvision": {"encoders"},
    "open_clip": {"encoders"},
    "timm": {"encoders"},
    "chromadb": {"library"},
    "langchain_core": {"langchain"},
    "gradio": {"ui"},
    "mcp": {"mcp"},
    "matplotlib": {"plots"},
    "playwright": {"collect"},
}
FILES = sorted(path for path in (ROOT / "imgret_tools").rglob("*.py") if path.name != "__init__.py")


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "imgret_tools").parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names += (
                [node.module or ""] if node.module != "imgret_tools" else [f"imgret_tools.{a.name}" for a in node.names]
            )
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_and_heavy_packages_stay_home(path: Path) -> None:
    here = part_of(path)
    assert here in RANK, f"{here} has no layer yet"
    for name in imported(path):
        head, _, rest = name.partition(".")
        if head == "imgret_tools" and rest and rest.split(".")[0] in RANK:
            other = rest.split(".")[0]
            assert other == here or RANK[other] <= RANK[here], f"{path.name} imports {name}, which is above it"
        assert head != "agents", f"{path.name} imports agents"
        assert here in HEAVY.get(head, {here}), f"{path.name} imports {head}"


def test_importing_the_package_and_the_command_is_light() -> None:
    heavy = "('torch', 'gradio', 'chromadb', 'open_clip', 'matplotlib', 'langchain_core', 'playwright')"
    for module in ("imgret_tools", "imgret_tools.cli"):
        code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.strip() == "[]", module


def test_all_is_sorted_and_there() -> None:
    import imgret_tools

    assert imgret_tools.__all__ == sorted(imgret_tools.__all__)
    assert all(getattr(imgret_tools, name) for name in imgret_tools.__all__)
