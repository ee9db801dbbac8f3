"""The compare tab in a real Chromium, and its Vietnamese, key by key."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import copy_photos, photo, serving
from PIL import Image

from imgret_tools.comparing.html import WORDS
from imgret_tools.comparing.report import DEFINITIONS, NOTES, note
from imgret_tools.ui.texts.comparison import VIETNAMESE_NOTES, VIETNAMESE_WORDS, sentence

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the page on a library of photos, and a folder that tools may read."""
    folder = tmp_path_factory.mktemp("tab")
    copy_photos(folder / "photos")
    environment = {"IMGRET_DATA_DIR": str(folder / "data"), "IMGRET_ROOTS": str(folder)}
    command = [
        sys.executable,
        "-m",
        "imgret_tools.cli",
        "serve",
        "--encoder",
        "mini",
        "--folder",
        str(folder / "photos"),
    ]
    with serving(command, folder, **environment) as address:
        yield address, folder


@pytest.fixture
def tab(browser: Browser, served: tuple[str, Path]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, locale="vi-VN", accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(served[0])
    page.get_by_role("tab", name="So sánh").click()
    yield page
    context.close()


def test_one_picture_is_compared_explained_and_downloaded(tab: Page, tmp_path: Path) -> None:
    tab.locator("#compare_image input[type=file]").set_input_files(photo("gradio/media_assets/images/cheetah.jpg"))
    tab.wait_for_selector("#compare_image img")
    tab.locator("#compare").click()
    tab.wait_for_selector("#comparison td.hit.right img")
    text = tab.locator("#comparison").inner_text()
    assert "Do cách xây dựng, không phải phát hiện" in text
    assert "đã được loại khỏi kết quả" in text  # the upload is known by its content, and its label with it
    assert tab.locator("#comparison td.hit").count() == 10 * 5
    tab.get_by_text("Vì sao khớp?").locator("visible=true").first.click()
    tab.locator("#compare_why").click()
    tab.wait_for_selector("#explained img >> nth=1")
    assert "che khuất" in tab.locator("#explained").inner_text()
    assert "cheetah" in tab.locator("#explained").inner_text()
    tab.locator("#compare_downloads button").first.click()
    for kind, begins in (("png", b"\x89PNG"), ("html", b"<!doctype html><html lang='vi'>"), ("json", b"{")):
        tab.wait_for_selector(f"#compare_{kind}:not([disabled])")
        with tab.expect_download() as started:
            tab.locator(f"#compare_{kind}").click()
        started.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(begins)
    assert len(json.loads((tmp_path / "json").read_text("utf-8"))["rows"]) == 14


def test_a_folder_of_labelled_queries_gives_quality_with_intervals(tab: Page, served: tuple[str, Path]) -> None:
    queries = served[1] / "test" / "cheetah"
    queries.mkdir(parents=True)
    with Image.open(photo("gradio/media_assets/images/cheetah.jpg")) as picture:
        picture.convert("RGB").crop((20, 0, 480, 340)).save(queries / "a.png")
    shutil.copyfile(photo("gradio/test_data/cheetah2.jpg"), queries / "b.jpg")
    tab.locator("#compare_folder textarea, #compare_folder input").fill(str(queries.parent))
    tab.locator("#compare").click()
    tab.wait_for_selector("#comparison .bar i")
    text = tab.locator("#comparison").inner_text()
    assert "Trung bình trên 2 trong 2 truy vấn" in text
    assert re.search(r"\[0\.\d{3}, [01]\.\d{3}\]", text)
    tab.locator("#compare_folder textarea, #compare_folder input").fill("/etc")
    tab.locator("#compare").click()
    tab.wait_for_selector(".toast-body")


def test_nothing_to_compare_is_said(tab: Page) -> None:
    tab.locator("#compare").click()
    tab.wait_for_selector(".toast-body")
    assert "Đưa vào một ảnh truy vấn" in tab.locator(".toast-body").first.inner_text()


def fields(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)", text))


def test_every_caption_and_sentence_is_said_in_vietnamese_with_the_same_facts() -> None:
    assert {name for name in VIETNAMESE_WORDS if not name.startswith("define_")} == set(WORDS)
    assert {f"define_{name}" for name in DEFINITIONS} <= set(VIETNAMESE_WORDS)
    assert set(VIETNAMESE_NOTES) == set(NOTES)
    for kind, english in NOTES.items():
        assert fields(VIETNAMESE_NOTES[kind]) == fields(english), kind
    for name, english in WORDS.items():
        assert fields(VIETNAMESE_WORDS[name]) == fields(english), name
    said = sentence("vi")(note("recall", l2=0.5, cosine=1.0, k=5))
    assert said.startswith("Chỉ mục tìm lại được 0,5 (l2)")
