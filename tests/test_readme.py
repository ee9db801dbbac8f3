"""README and docs/ say what is so: commands, options, settings, tools and files that they name exist; the site builds; the transcript is real."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgret_tools.cli import app
from imgret_tools.demo import collect_demo
from imgret_tools.tools import TOOLS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCS = "\n".join([README, *(page.read_text("utf-8") for page in PAGES)])
START = (
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[all]' && .venv/bin/python gradio_app.py"
)
TEST = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest"


@cache
def usage(command: str = "") -> str:
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"}, prog_name="imgret")
    assert done.exit_code == 0, done.output
    return re.sub(r"\x1b\[[0-9;]*m", "", done.output)


def test_readme_is_a_screenful_and_a_half() -> None:
    assert len(README.splitlines()) <= 150


def test_the_two_commands_name_files_that_are_there() -> None:
    assert START in README
    assert TEST in README
    assert all((ROOT / name).is_file() for name in ("constraints.txt", "pyproject.toml", "gradio_app.py"))


def test_every_tool_stands_in_readme_and_every_setting_and_command_in_docs() -> None:
    assert all(f"`{tool}`" in README for tool in TOOLS)
    settings = set(re.findall(r"`(IMGRET_[A-Z_]+)`", (ROOT / "imgret_tools/settings.py").read_text("utf-8")))
    assert settings <= set(re.findall(r"IMGRET_[A-Z_]+", (ROOT / "docs/settings.md").read_text("utf-8")))
    commands = re.findall(r"^  ([a-z]+)  ", usage(), re.MULTILINE)
    assert len(commands) >= 9
    assert all(f"`imgret {command}" in DOCS for command in commands)


def test_options_in_docs_exist() -> None:
    found = re.findall(r"^imgret ([a-z]+)((?: --[a-z0-9-]+)+)$", DOCS, re.MULTILINE)
    assert {"index", "search", "compare", "serve"} <= {command for command, _ in found}
    for command, options in found:
        for option in options.split():
            assert option in usage(command), f"imgret {command} has no {option}"


def test_every_file_that_readme_and_docs_name_is_there() -> None:
    for name in re.findall(
        r"\b(?:benchmarks|docs|imgret_tools|agents|tests|notebooks)/[\w/.-]+\.(?:py|md|png|txt|ipynb)", DOCS
    ):
        if "/docs/" not in DOCS[: DOCS.index(name)][-80:]:
            assert (ROOT / name).is_file(), name


def test_links_of_readme_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).is_file(), target


def without_times(text: str) -> str:
    """What the shell printed, without seconds and speeds and with the home folder that README has."""
    return re.sub(r"[\d.]+ s, [\d.]+ images/s", "N s", re.sub(r'"/[^"]*?/(photos[^"]*)"', r'"/home/me/\1"', text))


@pytest.mark.slow
def test_the_transcript_is_what_the_shell_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect_demo(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMGRET_ENCODER", "mini")
    transcript = re.search(r"```\n(\$ imgret index.*?)```", README, re.DOTALL)
    assert transcript
    for command, printed in re.findall(r"\$ imgret (.*)\n((?:[^$].*\n)*)", transcript[1]):
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert without_times(done.stdout) == without_times(printed)


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    assert {str(page.relative_to(ROOT / "docs").with_suffix(".html")) for page in PAGES} <= written
    api = (tmp_path / "site" / "api.html").read_text("utf-8")
    assert all(f"ImageTools.{tool}" in api for tool in TOOLS)


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Home\n\n[gone](gone.md)\n")
    config = re.sub(
        r"plugins:.*?(?=markdown_extensions:)|nav:.*", "", (ROOT / "mkdocs.yml").read_text(), flags=re.DOTALL
    )
    (tmp_path / "mkdocs.yml").write_text(config)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "gone.md" in done.stderr
