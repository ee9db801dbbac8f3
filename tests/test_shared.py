"""A shared app: a login, nothing that writes, no paths; and why there is no public link where there is none."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import httpx
import pytest
from conftest import READ_ONLY, ROOT, serving

from imgret_tools.errors import BadInput
from imgret_tools.ui.app import _login, _public_link

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of an app as one shares it, and its folder."""
    folder = tmp_path_factory.mktemp("shared")
    command = [sys.executable, "-u", str(ROOT / "gradio_app.py"), "--read-only", "--auth", "ann:s3cret"]
    environment = {"IMGRET_DATA_DIR": str(folder / "data"), "IMGRET_ROOTS": str(folder)}
    with serving(command, folder, ready="is ready", **environment) as address:
        yield address, folder


def logged_in(browser: Browser, address: str) -> Page:
    """A visit of somebody who knows the login."""
    page = browser.new_context(locale="en-GB").new_page()
    page.set_default_timeout(30_000)
    page.goto(address)
    page.get_by_label("username").fill("ann")
    page.get_by_label("password").fill("s3cret")
    page.get_by_role("button", name="Login").click()
    page.wait_for_selector("#status p")
    return page


def test_a_stranger_sees_a_login_and_nothing_else(shared: tuple[str, Path]) -> None:
    address, folder = shared
    for path in ("/config", "/gradio_api/info", "/thumbnail/demo/0123456789ab"):
        assert httpx.get(address + path).status_code == 401, path
    assert httpx.post(f"{address}/mcp", json={}).status_code == 401
    token = re.search(r"Bearer (\S+)", (folder / "log").read_text())
    assert token
    assert httpx.post(f"{address}/mcp", json={}, headers={"Authorization": token[0]}).status_code != 401
    assert httpx.post(f"{address}/login", data={"username": "ann", "password": "wrong"}).status_code == 400


def test_a_visitor_searches_but_writes_nothing_and_learns_no_path(browser: Browser, shared: tuple[str, Path]) -> None:
    from gradio_client import Client

    address, folder = shared
    client = Client(address, auth=("ann", "s3cret"), verbose=False)
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == READ_ONLY
    answer = client.predict(text="a lion", k=2, library="demo", api_name="/search_similar_image")
    assert json.loads(answer)["hits"][0]["path"] == "lion.jpg"
    assert str(folder) not in answer
    client.close()

    page = logged_in(browser, address)
    page.get_by_role("tab", name="Chat").wait_for()  # however the app is started
    assert [tab for tab in ("Index", "Collect") if page.get_by_role("tab", name=tab).count()] == []
    page.goto(f"{address}/?text=a+lion")
    page.wait_for_selector("#hits img")
    page.locator("#hits .grid-container button").first.click()
    page.wait_for_selector("#full_picture img")
    assert not page.locator("#save_label").is_visible()
    assert str(folder) not in page.locator("#detail").inner_text()
    page.keyboard.press("Escape")
    page.locator("#filters button").first.click()
    assert not page.locator("#in_folder").is_visible()
    page.context.close()


def test_a_picture_that_is_gone_leaves_its_place_and_says_so(browser: Browser, shared: tuple[str, Path]) -> None:
    address, folder = shared
    page = logged_in(browser, address)
    next((folder / "data" / "demo").rglob("lion.jpg")).unlink()
    shutil.rmtree(folder / "data" / "thumbnails")
    page.goto(f"{address}/?text=a+lion&k=3")
    page.wait_for_selector("#hits img")
    page.wait_for_function("[...document.querySelectorAll('#hits img')].every(one => one.naturalWidth)")
    assert page.locator("#hits img[src^='data:']").count() == 1
    page.locator("#hits .grid-container button").first.click()
    page.locator("#full_picture [role=alert]").wait_for()
    page.wait_for_selector("#facts td")
    told = page.locator("#detail").inner_text()
    assert "cannot be opened any more" in told
    assert "lion.jpg" in told
    assert str(folder) not in told
    page.context.close()


def test_without_a_share_server_it_says_why() -> None:
    with gr.Blocks() as page:
        pass
    link, told = _public_link(page, 7860)  # the suite lets no socket out
    assert link == ""
    assert told.startswith("There is no public link: Gradio's share server cannot be reached from here (")
    assert told.endswith("The app runs locally all the same.")


@pytest.mark.parametrize("auth", ["ann", ":s3cret", "ann:", ""])
def test_a_login_needs_both_parts(auth: str) -> None:
    with pytest.raises(BadInput, match="USER:PASS"):
        _login(auth)
