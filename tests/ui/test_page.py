"""The page in a real Chromium, and its API by Gradio's own client."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from conftest import READ_ONLY, ROOT, photo

from imgret_tools.demo import PHOTOS
from imgret_tools.tools import TOOLS, ImageTools
from imgret_tools.ui.texts.table import TEXTS, Language, language_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def first_caption(page: Page) -> str:
    page.wait_for_selector("#hits img")
    return page.locator("#hits .caption-label").first.inner_text()


def visit(page: Page, url: str) -> None:
    """Open the page and wait until the server has filled in its texts."""
    page.goto(url)
    page.wait_for_selector("#title h1")
    page.wait_for_selector("#status p")


def downloaded(page: Page, kind: str) -> bytes:
    with page.expect_download() as waited:
        page.locator(f"#download_{kind}").click()
    return Path(waited.value.path()).read_bytes()


def test_an_uploaded_photo_comes_back_first(page: Page, app: str) -> None:
    visit(page, app)
    page.locator("#query_image input[type=file]").set_input_files(photo("skimage/data/coffee.png"))
    page.wait_for_selector("#chips img")
    page.wait_for_url(re.compile("image=upload-"))
    assert first_caption(page) == "coffee"
    assert page.locator("#hits .match").first.inner_text() == "strong"


def test_words_then_more_like_this_then_the_link_in_a_second_browser(page: Page, browser: Browser, app: str) -> None:
    visit(page, app)
    page.locator("#query_text textarea, #query_text input").fill("a motorcycle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits .match")
    assert first_caption(page).startswith("motorcycle")
    assert "text=a" in page.url
    page.locator("#hits button.thumbnail-item, #hits .grid-container button").first.click()
    page.locator("#more_like_this").click()
    page.wait_for_url(re.compile("image="))
    page.wait_for_selector("#board:not(.asking)")
    caption = first_caption(page)
    assert caption.startswith("motorcycle")
    second = browser.new_context().new_page()
    second.goto(page.url)
    assert first_caption(second) == caption
    second.context.close()


def test_results_are_downloaded(page: Page, app: str) -> None:
    page.goto(f"{app}/?text=lion&k=4")
    first_caption(page)
    page.locator("#downloads button").first.click()
    for kind, begins in (("csv", b"\xef\xbb\xbfrank,id"), ("json", b"{"), ("html", b"<!doctype html>")):
        assert downloaded(page, kind).startswith(begins)


def test_indexing_reports_and_escapes_a_broken_file(page: Page, app: str) -> None:
    visit(page, app)
    page.get_by_role("tab", name="Index").click()
    page.locator("#folder textarea, #folder input").fill("photos")
    page.locator("#new_library textarea, #new_library input").fill("mine")
    page.locator("#index").click()
    page.wait_for_selector("#report .imgret-failed", timeout=60_000)
    report = page.locator("#report").inner_text()
    assert "12 added" in report
    assert "broken.jpg" in report
    page.goto(f"{app}/?library=mine&text=a+rocket")
    assert first_caption(page).startswith("rocket")


def test_a_library_is_encoded_anew_by_one_click(page: Page, app: str) -> None:
    visit(page, app)
    page.get_by_role("tab", name="Index").click()
    page.locator("#folder textarea, #folder input").fill("photos/cheetah")
    page.locator("#new_library textarea, #new_library input").fill("anew")
    page.locator("#index").click()
    page.wait_for_selector("#report a", timeout=60_000)
    page.locator("#anew").get_by_text("Encode a library anew").click()
    page.locator("#anew_library input").fill("anew")
    page.get_by_role("option", name="anew", exact=True).click()  # there once the page knows of the new library
    page.locator("#anew_encoder input").fill("mini:2")
    page.locator("#anew_encoder input").press("Enter")
    page.locator("#anew_start").click()
    page.wait_for_selector("#report :text('rows of mini:2')", timeout=60_000)
    assert "3 pictures of anew" in page.locator("#report").inner_text()


def test_the_comparison_is_drawn(page: Page, app: str) -> None:
    visit(page, app)
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare_image input[type=file]").set_input_files(photo("gradio/media_assets/images/cheetah.jpg"))
    page.wait_for_selector("#compare_image img")
    page.locator("#compare").click()
    page.wait_for_selector("#comparison table img")
    assert "By construction" in page.locator("#comparison").inner_text()


def test_bad_input_gives_a_message(page: Page, app: str) -> None:
    alert = page.locator("#status [role=alert]")
    for query in ("library=gone&text=cat", "image=0123456789ab", "text=cat&where=nonsense", "image=/etc/passwd"):
        page.goto(f"{app}/?{query}")
        alert.wait_for()
        named = re.split("[=&]", query)[-1] if "library" not in query else "gone"
        assert named in alert.inner_text()
        assert page.locator("#hits img").count() == 0
    visit(page, app)
    page.get_by_role("tab", name="Index").click()
    page.locator("#folder textarea, #folder input").fill("/etc")
    page.locator("#index").click()
    page.wait_for_selector("#report [role=alert]")
    assert "/etc" in page.locator("#report").inner_text()


SHIFT = """new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) window.shift = (window.shift || 0) + one.value;
}).observe({ type: "layout-shift", buffered: true })"""


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("language", get_args(Language))
def test_what_comes_late_moves_nothing(browser: Browser, app: str, width: int, language: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.add_init_script(SHIFT)
    page.goto(f"{app}/?lang={language}")
    page.wait_for_selector("#trying:not(.coming) button")
    page.wait_for_function("document.querySelector('#hits img')?.complete")
    assert page.evaluate("window.shift || 0") < 0.02
    page.close()


def test_a_phone_in_vietnamese_needs_no_sideways_scrolling(browser: Browser, app: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="vi-VN", color_scheme="dark")
    page = context.new_page()
    page.goto(f"{app}/?text=con+m%C3%A8o")
    assert first_caption(page).startswith("cat")
    page.get_by_role("tab", name="Tìm kiếm").wait_for()
    page.wait_for_function("document.documentElement.lang === 'vi'")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name in ("So sánh", "Bản đồ", "Trò chuyện"):  # in sight, not in the menu of what has no room
        page.get_by_role("tab", name=name).wait_for()
    page.mouse.wheel(0, 900)
    page.wait_for_function("scrollY > 300 && document.querySelector('#ask').getBoundingClientRect().top >= 0")
    context.close()


@pytest.mark.slow
def test_the_api_holds_exactly_the_typed_tools(app: str) -> None:
    from gradio_client import Client

    client = Client(app, verbose=False)
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    for tool in TOOLS:
        parameters = [parameter["parameter_name"] for parameter in endpoints[f"/{tool}"]["parameters"]]
        assert parameters == [
            name for name in inspect.signature(getattr(ImageTools, tool)).parameters if name != "self"
        ]
    assert set(endpoints) == READ_ONLY | {"/index_folder"}
    found = json.loads(client.predict(text="a lion", k=2, library="demo", api_name="/search_similar_image"))
    assert found["hits"][0]["label"] == "lion"
    with pytest.raises(Exception, match="k: Input should be greater than or equal to 1"):
        client.predict(text="a lion", k=0, library="demo", api_name="/search_similar_image")
    client.close()


def test_every_text_has_both_languages_and_the_same_fields() -> None:
    for key, (english, vietnamese) in TEXTS.items():
        assert english.strip(), key
        assert vietnamese.strip(), key
        assert sorted(re.findall(r"\{(\w+)", english)) == sorted(re.findall(r"\{(\w+)", vietnamese)), key


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    sources = "".join(
        path.read_text("utf-8") for path in (ROOT / "imgret_tools" / "ui").rglob("*.py") if path.parent.name != "texts"
    )
    unused = [key for key in TEXTS if f'"{key}"' not in sources and f"'{key}'" not in sources]
    assert unused == []


def test_language_is_asked_for_or_accepted() -> None:
    assert language_of(None, "vi-VN,vi;q=0.9,en;q=0.8") == "vi"
    assert language_of("en", "vi") == "en"
    assert language_of(None, None) == "en"


def test_the_demo_has_at_least_25_different_photos(tmp_path: Path) -> None:
    from imgret_tools.demo import collect_demo

    files = [path for path in collect_demo(tmp_path).rglob("*") if path.is_file()]
    assert len(files) >= 25
    assert len({path.read_bytes() for path in files}) == len(files)
    assert sum(len(names) > 1 for names in PHOTOS.values()) >= 5
