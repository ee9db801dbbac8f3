"""README says what is so: its commands, options, settings and tools exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from imgret_tools.tools import TOOLS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_two_commands_name_files_that_are_there() -> None:
    start = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e . && .venv/bin/python gradio_app.py"
    test = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest"
    assert start in README
    assert test in README
    assert all((ROOT / name).is_file() for name in ("constraints.txt", "pyproject.toml", "gradio_app.py"))


def test_every_tool_setting_and_command_stands_in_readme() -> None:
    settings = set(re.findall(r"`(IMGRET_[A-Z_]+)`", (ROOT / "imgret_tools/settings.py").read_text("utf-8")))
    assert settings <= set(re.findall(r"IMGRET_[A-Z_]+", README))
    assert all(f"`{tool}`" in README for tool in TOOLS)
    usage = subprocess.run(
        [sys.executable, "-m", "imgret_tools.cli", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    commands = re.findall(r"^  ([a-z]+)  ", usage.stdout, re.MULTILINE)
    assert len(commands) >= 9
    assert all(f"imgret {command}" in README for command in commands)


def test_options_in_readme_exist() -> None:
    for command, options in re.findall(r"^imgret ([a-z]+)((?: .*)?)$", README, re.MULTILINE):
        if command == "collect":
            continue
        usage = subprocess.run(
            [sys.executable, "-m", "imgret_tools.cli", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        for option in re.findall(r"--[a-z-]+", options):
            assert option in usage.stdout, f"imgret {command} has no {option}"


def test_every_file_that_readme_names_is_there() -> None:
    for name in re.findall(r"\b(?:benchmarks|docs|imgret_tools|agents|tests)/[\w/.-]+\.\w+", README):
        assert (ROOT / name).is_file(), name
