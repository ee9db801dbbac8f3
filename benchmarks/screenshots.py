"""The pictures in README: starts the app on its demo library and photographs it.

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

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
PORT = 7899
SHOTS = {
    "search": ({"viewport": {"width": 1280, "height": 900}}, "?text=a+cheetah"),
    "phone": (
        {"viewport": {"width": 390, "height": 844}, "locale": "vi-VN", "color_scheme": "dark"},
        "?text=con+m%C3%A8o&k=4",
    ),
}


def main() -> None:
    """Write the screenshots."""
    (ROOT / "docs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, str(ROOT / "gradio_app.py"), "--port", str(PORT)]
        environment = os.environ | {"IMGRET_DATA_DIR": data, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment) as server:
            while socket.socket().connect_ex(("127.0.0.1", PORT)):
                time.sleep(0.2)
            with sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                for name, (context, query) in SHOTS.items():
                    page = browser.new_context(**context).new_page()
                    page.goto(f"http://127.0.0.1:{PORT}/{query}")
                    page.wait_for_selector("#hits img")
                    page.wait_for_timeout(1500)
                    page.screenshot(path=str(ROOT / "docs" / f"{name}.png"))
            server.terminate()


if __name__ == "__main__":
    main()
