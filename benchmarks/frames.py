"""How smoothly the page moves: layout shift of the first visit, frames while 1,000 photos are scrolled, frames of a map of 20,000.

    python benchmarks/frames.py

`gradio_app.py` with a library of 1,000 pieces of the demo's photos and one of 20,000 rows around 40 centres. Frames are the times
between two calls of requestAnimationFrame. A headless Chromium draws without a graphics card, on the same cores as the app.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from app import _WATCH, app, pieces
from playwright.sync_api import Page, sync_playwright

from imgret_tools import Runtime, Settings
from imgret_tools.demo import collect_demo

PHOTOS, DOTS, CENTRES = 1_000, 20_000, 40

_SHIFT = """
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift = (window.shift || 0) + entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
_FRAMES = """(act) => new Promise((done) => {
  const took = [], step = new Function("n", act);
  let last = performance.now();
  const next = (now) => {
    took.push(now - last);
    last = now;
    if (took.length > 200) return done(took.slice(1));
    step(took.length);
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""
_SCROLL = "window.scrollBy(0, 60)"
_DRAG = """
const canvas = document.querySelector("#map canvas"), frame = canvas.getBoundingClientRect();
const at = { clientX: frame.left + 300 + 200 * Math.sin(n / 9), clientY: frame.top + 200 + 150 * Math.cos(n / 7), bubbles: true, pointerId: 1 };
canvas.setPointerCapture = () => {};
if (n === 1) canvas.dispatchEvent(new PointerEvent("pointerdown", at));
else canvas.dispatchEvent(new PointerEvent("pointermove", at));
"""


def told(what: str, took: list[float]) -> None:
    """One line about frames, in ms."""
    late = sum(each > 50 for each in took)
    print(
        f"{what:<40} median {statistics.median(took):5.1f} ms, 95 of 100 within {np.percentile(took, 95):5.1f}, longest {max(took):5.1f}, "
        f"{late} of {len(took)} over 50 ms, {1000 / statistics.fmean(took):.0f} a second",
        flush=True,
    )


def made(top: Path) -> None:
    """The two libraries, in `top / data`."""
    pieces(collect_demo(top / "demo"), top / "photos", PHOTOS, seed=1)
    random = np.random.default_rng(0)
    with Runtime.open(Settings(data_dir=top / "data", encoder="mini", roots=(top,))) as runtime:
        runtime.index(top / "photos", library="photos")
        dim = runtime.library("photos").card.dim
        rows = random.standard_normal((CENTRES, dim))[random.integers(0, CENTRES, DOTS)]
        rows += random.standard_normal((DOTS, dim))
        np.save(top / "rows.npy", (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
        with (top / "rows.csv").open("w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["path", "label"])
            lines.writerows([f"/far/{number}.jpg", f"label {number % 50}"] for number in range(DOTS))
        runtime.import_rows(top / "rows.npy", top / "rows.csv", library="dots", encoder="mini")


def visit(page: Page, address: str) -> None:
    """Open the page and wait till it can be used."""
    page.add_init_script(_WATCH + _SHIFT)
    page.goto(address)
    page.wait_for_function("window.usable")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        made(top)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        with app(top / "data", [top], ["--folder", str(top / "photos")]) as served, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for width, height in ((1280, 900), (390, 844)):
                page = browser.new_page(viewport={"width": width, "height": height})
                visit(page, f"{served.url}/?library=photos")
                page.wait_for_timeout(3000)
                print(f"layout shift at {width} px: {page.evaluate('window.shift || 0'):.4f}", flush=True)
                told(f"scrolling {PHOTOS} photos at {width} px", page.evaluate(_FRAMES, _SCROLL))
                far, shown = page.evaluate("[scrollY, document.querySelectorAll('#hits img').length]")
                print(f"   {far:.0f} px down, {shown} photos laid out", flush=True)
                page.close()
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            visit(page, f"{served.url}/?library=dots")
            page.get_by_role("tab", name="Map").click()
            page.wait_for_function("document.querySelector('#map_library input')?.value === 'dots'")
            page.locator("#draw_map").click()
            page.wait_for_selector("#map canvas[data-zoom]", timeout=180_000)
            told(f"dragging a map of {DOTS}", page.evaluate(_FRAMES, _DRAG))
            page.locator("#map [data-act=nearer]").click()
            told("the same, nearer", page.evaluate(_FRAMES, _DRAG))
            browser.close()


if __name__ == "__main__":
    main()
