"""The chat tab in a real browser: an answer with pictures, folded calls, an upload to ask about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import entries_of, free_port, multiply

from imgret_tools import ImageTools, Runtime
from imgret_tools.chat.events import Called, Said
from imgret_tools.chat.offline import OfflineModel
from imgret_tools.chat.talk import Chat
from imgret_tools.ui.tabs.chat import STARTERS
from imgret_tools.ui.texts.table import Language, said

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chatting(tools: ImageTools) -> Iterator[str]:
    """The address of a page with the chat alone."""
    import gradio as gr

    from imgret_tools.ui.tabs.chat import chat_tab

    with gr.Blocks(analytics_enabled=False) as demo:
        chat_tab(tools.runtime, lambda: Chat(tools, OfflineModel()), gr.State("en"))
    port = free_port()
    demo.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        demo.close()


@pytest.fixture
def address(indexed: ImageTools) -> Iterator[str]:
    with chatting(indexed) as found:
        yield found


def test_a_file_name_cannot_make_the_page_fetch_anything() -> None:
    from imgret_tools.ui.tabs.chat import harmless

    shown = harmless("1. ![x](http://evil.example/leak) <img src='http://evil.example/leak'> a & b")
    assert "![" not in shown
    assert "<" not in shown
    assert shown.endswith("a &amp; b")


def test_what_a_visitor_writes_cannot_make_the_page_fetch_anything(indexed: ImageTools) -> None:
    from imgret_tools.ui.tabs.chat import Conversation, answer

    now = Conversation(Chat(indexed, OfflineModel()))
    shown = next(
        answer(indexed.runtime, now, {"text": "thanks ![x](http://evil.example/leak) <img src=x>", "files": []})
    )
    assert "![" not in str(shown[0].content)
    assert "<" not in str(shown[0].content)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_visitor_asks_and_sees_pictures(browser: Browser, address: str, indexed: ImageTools) -> None:
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(address)
    page.locator("#chat_box textarea").fill("find 3 pictures of a rocket")
    page.keyboard.press("Enter")
    expect(page.locator("#chat")).to_contain_text("Found 3 pictures", timeout=60_000)
    expect(page.locator("#chat")).to_contain_text("search_similar_image")
    expect(page.locator("#chat img")).to_have_count(3, timeout=60_000)
    lion = next(entry.path for entry in entries_of(indexed.runtime) if entry.label == "lion")
    page.locator("#chat_box input[type=file]").set_input_files(lion)
    expect(page.locator("#chat_box img")).to_be_visible(timeout=60_000)  # only then is it uploaded
    page.locator("#chat_box textarea").fill("show 2 like this")
    page.locator("#chat_box textarea").press("Enter")
    expect(page.locator("#chat_box textarea")).to_have_value("", timeout=60_000)
    page.locator("#chat_box textarea").fill("written while the answer comes")
    expect(page.locator("#chat")).to_contain_text("upload-1", timeout=60_000)
    expect(page.locator("#chat")).to_contain_text(re.compile(r'Found 2 pictures, best first:\s+"lion"'))
    expect(page.locator("#chat_box textarea")).to_have_value("written while the answer comes")
    page.locator("#chat_box textarea").fill("compare the measures for #1")
    page.locator("#chat_box textarea").press("Enter")
    expect(page.locator("#chat .bot .image-frame img")).to_be_visible(timeout=60_000)
    expect(page.locator("#chat li", has_text="Mean overlap@5")).to_be_visible(timeout=60_000)
    assert " | " not in page.locator("#chat .prose").last.inner_text()
    page.locator("#chat_clear").click()
    expect(page.locator("#chat")).not_to_contain_text("Found 3 pictures")
    page.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_one_may_begin_with_a_click_and_open_a_picture_of_an_answer(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(address)
    page.locator("#chat_box textarea").fill("half a question")
    page.get_by_role("button", name="show the 5 newest pictures").click()
    expect(page.locator("#chat img")).to_have_count(5, timeout=60_000)
    expect(page.locator("#chat_box textarea")).to_have_value("half a question")
    page.locator("#chat button[data-id]").nth(1).click()
    large = page.locator("dialog.imgret-large img")
    expect(large).to_be_visible(timeout=60_000)
    assert large.evaluate("image => image.naturalWidth") > 256
    page.keyboard.press("Escape")
    expect(large).not_to_be_visible()
    page.close()


@pytest.mark.parametrize("key", STARTERS)
@pytest.mark.parametrize("language", ["en", "vi"])
def test_what_one_may_begin_with_is_understood(indexed: ImageTools, key: str, language: Language) -> None:
    events = list(Chat(indexed, OfflineModel()).ask(said(language, key)))
    called = {"chat_try_describe": "describe_library", "chat_try_newest": "search_similar_image"}
    called["chat_try_twice"] = "find_duplicates"
    assert [one.name for one in events if isinstance(one, Called)] == ([called[key]] if key in called else [])
    assert any(isinstance(one, Said) for one in events)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_stop_ends_indexing_and_keeps_what_is_done(browser: Browser, runtime: Runtime, photos: Path) -> None:
    from playwright.sync_api import expect

    multiply(photos, 20)
    total = len(list(photos.rglob("*.*")))
    with chatting(ImageTools(runtime)) as address:
        page = browser.new_page()
        page.goto(address)
        page.locator("#chat_box textarea").fill(f"index {photos}")
        page.keyboard.press("Enter")
        expect(page.locator("#chat")).to_contain_text(re.compile(rf"[1-9]\d* / {total} · "), timeout=60_000)
        page.locator("#chat_stop").click()
        page.locator("#chat_box textarea").fill("find 2 lions")  # sent at once, answered in its turn
        page.locator("#chat_box textarea").press("Enter")
        expect(page.locator("#chat")).to_contain_text("Found 2 pictures", timeout=60_000)
        expect(page.locator("#chat")).to_contain_text("⏹ Stopped.")
        page.get_by_role("button", name="Clear").first.click()
        expect(page.locator("#chat")).not_to_contain_text("Found 2 pictures")
        page.wait_for_timeout(500)  # a question sent while the chat is being cleared goes with it
        page.locator("#chat_box textarea").fill("find 1 cat")
        page.locator("#chat_box textarea").press("Enter")
        expect(page.locator("#chat")).to_contain_text("Found 1 pictures", timeout=60_000)
        expect(page.locator("#chat")).not_to_contain_text("Found 2 pictures")
        page.close()
    assert 0 < len(runtime.library()) < total
