"""The pictures in README: starts the app on those demo photos that may be shown to everybody, and photographs it.

python benchmarks/screenshots.py    (needs a Chromium; writes docs/*.png)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from imgret_tools.demo import collect_demo

ROOT = Path(__file__).parent.parent
PORT = 7899
DESKTOP = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB"}
PHONE = {"viewport": {"width": 390, "height": 844}, "locale": "vi-VN", "color_scheme": "dark"}


def searched(page: Page) -> None:
    """The results of a link."""
    page.wait_for_selector("#hits img")


def hit(page: Page) -> None:
    """The panel of the first hit, explained."""
    searched(page)
    page.locator("#hits .grid-container button").first.click()
    page.wait_for_selector("#full_picture img")
    page.locator("#why").click()
    page.wait_for_selector("#why_explained img")


def scrolled(page: Page) -> None:
    """The results where a narrow page shows them."""
    searched(page)
    page.locator("#status").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#status').scrollIntoView()")


def mapped(page: Page) -> None:
    """The map with a picture pointed at."""
    page.wait_for_selector("#status p")
    page.get_by_role("tab", name="Map").click()
    page.locator("#draw_map").click()
    page.wait_for_selector("#map canvas[data-zoom]", timeout=120_000)
    page.locator("#map canvas").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".imgret-point img")


def compared(page: Page) -> None:
    """The first hit under every measure."""
    searched(page)
    page.locator("#hits .grid-container button").first.click()
    page.locator("#compare_this").click()
    page.wait_for_selector("#comparison td.hit img")
    page.evaluate("document.querySelector('#comparison').scrollIntoView()")


def asked(page: Page) -> None:
    """Two requests to the chat."""
    page.wait_for_selector("#status p")
    page.get_by_role("tab", name="Chat").click()
    for text, answered in (
        ("find 4 motorcycles", "#chat .imgret-answer img"),
        ("more like the second one", "#chat li >> nth=7"),
    ):
        page.locator("#chat_box textarea").fill(text)
        page.locator("#chat_box textarea").press("Enter")
        page.wait_for_selector(answered)
        page.wait_for_timeout(1500)


SHOTS = {
    "search": (DESKTOP, "?text=a+motorcycle", searched),
    "hit": (DESKTOP, "?text=a+motorcycle", hit),
    "compare": (DESKTOP, "?text=a+motorcycle", compared),
    "map": (DESKTOP, "", mapped),
    "chat": (DESKTOP, "", asked),
    "phone": (PHONE, "?text=con+m%C3%A8o", scrolled),
}


def main() -> None:
    """Write the screenshots."""
    (ROOT / "docs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        photos = collect_demo(Path(data) / "photos", public=True)
        command = [sys.executable, str(ROOT / "gradio_app.py"), "--port", str(PORT), "--folder", str(photos)]
        environment = os.environ | {"IMGRET_DATA_DIR": data, "IMGRET_ENCODER": "mini", "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment) as server:
            while socket.socket().connect_ex(("127.0.0.1", PORT)):
                time.sleep(0.2)
            with sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                first = browser.new_page()  # it waits for the encoder
                first.goto(f"http://127.0.0.1:{PORT}/?text=warm")
                searched(first)
                for name, (context, query, shown) in SHOTS.items():
                    page = browser.new_context(**context).new_page()
                    page.goto(f"http://127.0.0.1:{PORT}/{query}")
                    shown(page)
                    page.wait_for_timeout(1500)
                    page.screenshot(path=str(ROOT / "docs" / f"{name}.png"))
            server.terminate()


if __name__ == "__main__":
    main()
