"""CONTRIBUTING.md is followed to the letter: its measure and its tool work where it says they do."""

from __future__ import annotations

import re
import subprocess
import sys

import yaml
from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def follow(*code: str) -> str:
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_measure_is_one_of_the_family() -> None:
    (block,) = [block for block in BLOCKS if "METRICS[" in block]
    after = """
from imgret_tools.metrics import all_values
rows = np.array([[4, 5, 6], [1, 2, 4]], np.uint8)
values = all_values([1, 2, 3], rows, ["rms", "l2"])
print(values["rms"].tolist() == values["l2"].tolist() and values["l2"][1] == 1)
"""
    assert follow(block, after).strip() == "True"


def test_the_tool_is_published_with_its_docstring_and_types() -> None:
    (block,) = [block for block in BLOCKS if "def count_pictures" in block]
    after = """
ImageTools.count_pictures = count_pictures
from imgret_tools import schemas
schemas.TOOLS = (*schemas.TOOLS, "count_pictures")
tool = schemas.published()[-1]
print(tool.name, "Count the pictures" in tool.description, "library" in tool.arguments.model_json_schema()["properties"])
"""
    assert follow(block, after).split() == ["count_pictures", "True", "True"]


def test_what_it_names_is_there() -> None:
    for name in re.findall(r"\b(?:docs|imgret_tools|tests|\.ci)/[\w/]+(?:\.\w+)?", TEXT):
        assert (ROOT / name).exists(), name
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks), "no hook is downloaded"
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format"}
