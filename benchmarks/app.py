"""How the app feels: its first paint, a click on search, eight people at once, and its memory after 2,000 searches.

    python benchmarks/app.py                     # the demo library
    python benchmarks/app.py --photos 2000       # so many pieces of the demo's photos
    python benchmarks/app.py --folder ~/Pictures
    python benchmarks/app.py --searches 200      # a short run

`gradio_app.py` runs in a process of its own with the encoder `mini`. What it takes is set against the bare call
`tools.search_similar_image` in this process, on a copy of the same library and with queries of the same kind, no text and no
picture twice. First useful paint is when the search box can be typed in and the page says what to do; a click on search ends
when the first picture of the new gallery is loaded. The eight people are plain HTTP clients in another process (on the same
cores), each with a session of its own, calling the endpoint `search_similar_image` as gradio_client does. For the memory every
search comes from a new visitor: what Gradio keeps of a session counts. Needs a Chromium and Linux (/proc).
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.demo import collect_demo
from imgret_tools.pictures.find import find_images
from imgret_tools.schemas import published
from imgret_tools.ui.link import PAGE

ROOT = Path(__file__).parent.parent
SEARCH = next(tool for tool in published() if tool.name == "search_similar_image")
PEOPLE, TURNS = 8, 4
MOST_TIMES_BARE, LEAST_SHARE, MOST_GROWTH = 3.0, 0.8, 50.0
"""Targets: a click in bare calls, throughput as a share of the runtime's own, and MB that the second 1,500 searches may add."""

_WATCH = """
(() => {
  const one = (selector) => document.querySelector(selector);
  const state = () => [one("#status p")?.textContent, ...[...document.querySelectorAll("#hits img")].map((img) => img.src)].join();
  let before = null, from = 0;
  const look = () => {
    const box = one("#query_text textarea, #query_text input");
    if (!window.usable && box && !box.disabled && one("#status p")?.textContent) window.usable = performance.now();
    const first = one("#hits img");
    if (before !== null && first?.complete && first.naturalWidth && state() !== before) {
      window.took = performance.now() - from;
      before = null;
    }
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributes: true, characterData: true });
  document.addEventListener("load", look, true);
  const begin = () => { from = performance.now(); before = state(); window.took = null; };
  document.addEventListener("click", (event) => { if (event.target.closest?.("#search")) begin(); }, true);
  document.addEventListener("change", (event) => { if (event.target.closest?.("#query_image")) begin(); }, true);
})();
"""
"""Notes in the page itself when it can be used, and how long a click on search or a picture that is given took, in ms."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search by words or by the picture at a path."""

    text: str | None = None
    image: str | None = None


def phrases() -> Iterator[str]:
    """Texts that all differ, of three to six words."""
    kinds = ("small", "large", "old", "new", "red", "green", "blue", "yellow", "dark", "bright", "wet", "quiet", "round",
             "broken", "striped", "wooden")  # fmt: skip
    things = ("cat", "lion", "flower", "tower", "motorcycle", "rocket", "coin", "clock", "page", "cup", "face", "moon",
              "wall", "toy", "bridge", "bird", "tree", "car", "dog")  # fmt: skip
    places = ("", " at night", " on a table", " in the rain", " by the sea", " in a city", " on grass", " far away")
    for article, place, thing, kind in itertools.product(("a", "one", "that", "some"), places, things, kinds):
        yield f"{article} {kind} {thing}{place}"


def pieces(photos: Path, folder: Path, count: int, seed: int) -> list[Path]:
    """`count` JPEG files of 640 x 480 pixels in `folder`, each another piece of a photo under `photos`."""
    rng = np.random.default_rng(seed)
    sources = [Image.open(image.path).convert("RGB") for image in find_images(photos).images]
    folder.mkdir(parents=True)
    made = []
    for number in range(count):
        source = sources[number % len(sources)]
        share = rng.uniform(0.4, 0.9)
        width, height = int(source.width * share), int(source.height * share)
        left, top = int(rng.integers(source.width - width + 1)), int(rng.integers(source.height - height + 1))
        made.append(folder / f"{number:05}.jpg")
        source.resize((640, 480), box=(left, top, left + width, top + height)).save(made[-1], quality=88)
    return made


def queries(texts: Iterator[str], pictures: Iterator[Path], count: int) -> list[Query]:
    """`count` searches, by words and by pictures in turn."""
    return [
        Query(image=str(next(pictures))) if number % 2 else Query(text=next(texts)) for number in range(count)
    ]  # fmt: skip


# The app


@dataclass(frozen=True, slots=True)
class App:
    """The app's address, process and cache."""

    url: str
    pid: int
    cache: Path

    @property
    def resident(self) -> float:
        """Its memory in MB (VmRSS)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def size(folder: Path) -> float:
    """MB in the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


@contextmanager
def app(data: Path, roots: Sequence[Path], arguments: Sequence[str]) -> Iterator[App]:
    """`gradio_app.py` on `data`; its tools may read `roots`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cache = data.parent / "gradio"
    environment = os.environ | {
        "IMGRET_DATA_DIR": str(data),
        "IMGRET_ENCODER": "mini",
        "IMGRET_ROOTS": os.pathsep.join(map(str, roots)),
        "GRADIO_TEMP_DIR": str(cache),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "gradio_app.py"), "--port", str(port), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if server.poll() is not None:
                    raise RuntimeError(f"the app ended with {server.returncode} before it could be reached")
                time.sleep(0.1)
            yield App(f"http://127.0.0.1:{port}", server.pid, cache)
        finally:
            server.terminate()


# In the browser


def paint(browser: Browser, url: str) -> tuple[float, float]:
    """Seconds until a new visitor can search, and until Chromium has painted anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(_WATCH)
    page.goto(url)
    page.wait_for_function("window.usable")
    usable, painted = page.evaluate(
        "[window.usable, performance.getEntriesByName('first-contentful-paint')[0]?.startTime]"
    )
    context.close()
    return usable / 1000, painted / 1000


def click(page: Page) -> float:
    """Seconds from a click on search to the first picture."""
    page.locator("#search").click()
    return gallery(page)


def gallery(page: Page) -> float:
    """Seconds from what began a search to the first picture."""
    page.wait_for_function("window.took")
    return float(page.evaluate("window.took")) / 1000


def clicks(
    browser: Browser, url: str, texts: Sequence[str], pictures: Sequence[Path], once: Callable[[Query], float]
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of a click, by words and by uploads, each beside those of the bare call with the same query.

    The two take turns, so that whatever else the machine does slows both; but a call that comes alone finds cold caches, so
    calls in a row are timed too, and a click is set against the faster of the two. The first of each is not counted.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.add_init_script(_WATCH)
    page.goto(url)
    page.wait_for_function("window.usable")
    by_text, by_upload = [], []
    for text in texts:
        page.locator("#query_text textarea, #query_text input").fill(text)
        by_text.append((click(page), once(Query(text=text))))
    page.goto(url)
    page.wait_for_function("window.usable")
    for picture in pictures:
        page.evaluate("window.took = null")
        page.locator("#query_image input[type=file]").set_input_files(picture)  # it searches by itself
        by_upload.append((gallery(page), once(Query(image=str(picture)))))
    page.close()
    return {"text": by_text[1:], "upload": by_upload[1:]}


# Many at once


def in_threads(given: Sequence[Query], workers: int, ask: Callable[[Query], object]) -> tuple[float, list[str]]:
    """Seconds that `workers` threads take to ask everything, and what went wrong."""
    errors: list[str] = []

    def one(query: Query) -> None:
        try:
            ask(query)
        except Exception as error:  # counted, whatever it is
            errors.append(f"{type(error).__name__}: {error}")

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, given))
    return time.perf_counter() - started, errors


def visitors(url: str, library: str, pipe: Connection) -> None:
    """A process that asks the app what comes through `pipe`, by PEOPLE at once, until a list is empty.

    It is sent queries, and whether each comes from a visitor who was never there before.
    """
    host, name, kept = urlsplit(url).netloc, "/gradio_api/run/search_similar_image", threading.local()
    sessions = itertools.count()

    def ask(query: Query) -> None:
        if not hasattr(kept, "connection"):
            kept.connection = http.client.HTTPConnection(host, timeout=60)
            kept.session = f"person{next(sessions)}"
        elif new_each:
            kept.session = f"person{next(sessions)}"
        given = {"image": query.image, "text": query.text, "k": PAGE, "library": library}
        data = list(SEARCH.checked(given).values())  # the endpoint takes them by place
        body = json.dumps({"data": data, "session_hash": kept.session})
        kept.connection.request("POST", name, body, {"Content-Type": "application/json"})
        response = kept.connection.getresponse()
        answer = response.read().decode()
        if response.status != 200 or "hits" not in answer:
            raise RuntimeError(answer[:200])

    while True:
        given, new_each = pipe.recv()
        if not given:
            return
        pipe.send(in_threads(given, PEOPLE, ask))


# The table


def row(what: str, figure: str, target: str = "", met: bool | None = None) -> None:
    """One line of the table."""
    print(
        f"{what:<58}{figure:>30}  {target:<12}{'' if met is None else 'met' if met else 'NOT MET'}".rstrip(), flush=True
    )


def spread(seconds: Sequence[float]) -> str:
    """Median and range in ms."""
    return f"{statistics.median(seconds) * 1e3:.0f} ms ({min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f})"


def bare(tools: ImageTools, library: str, query: Query) -> float:
    """Seconds of one call of the tool."""
    started = time.perf_counter()
    tools.search_similar_image(image=query.image, text=query.text, k=PAGE, library=library)
    return time.perf_counter() - started


def measure(tools: ImageTools, served: App, library: str, args: argparse.Namespace, made: Path) -> None:
    """All of it, as one table."""
    texts, pictures = phrases(), iter(find_images(made).images)
    files = (image.path for image in pictures)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    few = args.clicks + 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        paints = [paint(browser, served.url) for _ in range(args.visits)]
        row("first useful paint", spread([usable for usable, _ in paints]))
        row("first contentful paint (Chromium's)", spread([painted for _, painted in paints]))
        clicked = clicks(
            browser,
            served.url,
            list(itertools.islice(texts, few)),
            list(itertools.islice(files, few)),
            lambda query: bare(tools, library, query),
        )
        browser.close()
    for kind, pairs in clicked.items():
        clicking, between = zip(*pairs, strict=True)
        calls = [query for query in queries(texts, files, 2 * few) if bool(query.text) == (kind == "text")]
        in_a_row = [bare(tools, library, query) for query in calls][1:]
        times = statistics.median(clicking) / min(map(statistics.median, (between, in_a_row)))
        row(f"bare call between clicks, {kind}", spread(between))
        row(f"bare calls in a row, {kind}", spread(in_a_row))
        row(
            f"click to gallery, {kind}",
            f"{spread(clicking)} = {times:.1f}x",
            f"<= {MOST_TIMES_BARE:.0f}x",
            times <= MOST_TIMES_BARE,
        )
    row("Gradio's cache after the page's searches", f"{size(served.cache):.1f} MB")

    here, there = multiprocessing.Pipe()
    asking = multiprocessing.get_context("spawn").Process(
        target=visitors, args=(served.url, library, there), daemon=True
    )
    asking.start()

    def asked(given: list[Query], new_each: bool = False) -> tuple[float, list[str]]:
        here.send((given, new_each))
        return here.recv()  # type: ignore[no-any-return]

    ways: dict[str, Callable[[list[Query]], tuple[float, list[str]]]] = {
        "the app": asked,
        "the runtime alone": lambda given: in_threads(given, PEOPLE, lambda query: bare(tools, library, query)),
    }
    spent, wrong = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)
    asked(queries(texts, files, PEOPLE))  # warm
    for way, ask in list(ways.items()) * TURNS:
        seconds, errors = ask(queries(texts, files, args.crowd // TURNS))
        spent[way], wrong[way] = spent[way] + seconds, wrong[way] + len(errors)
    for way in ways:
        rate = args.crowd // TURNS * TURNS / spent[way]
        row(
            f"{PEOPLE} at once, {way}", f"{rate:.1f} searches/s, {wrong[way]} errors", "0 errors", not wrong[way]
        )  # fmt: skip
    share = spent["the runtime alone"] / spent["the app"]
    row(f"{PEOPLE} at once, the app's share", f"{share:.2f}", f">= {LEAST_SHARE}", share >= LEAST_SHARE)

    done, held = 0, dict[int, float]()
    for step in sorted({args.searches // part for part in (20, 4, 2, 1)} - {0}):
        _, errors = asked(queries(texts, files, step - done), new_each=True)
        done, held[step] = step, served.resident
        row(f"memory after {step} searches", f"{held[step]:.0f} MB, {len(errors)} errors", "0 errors", not errors)
    if args.searches // 4 in held:
        growth = held[args.searches] - held[args.searches // 4]
        row(
            f"growth from {args.searches // 4} to {args.searches} searches",
            f"{growth:+.1f} MB",
            f"<= {MOST_GROWTH:.0f} MB",
            growth <= MOST_GROWTH,
        )
    row("Gradio's cache in the end", f"{size(served.cache):.1f} MB")
    here.send(([], False))
    asking.join()


def main() -> None:
    """Make a library, serve it, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    library_of = parser.add_mutually_exclusive_group()
    library_of.add_argument("--photos", type=int, help="a library of so many pieces of the demo's photos")
    library_of.add_argument("--folder", type=Path, help="a library of one's own pictures")
    parser.add_argument("--searches", type=int, default=2000, help="for the memory")
    parser.add_argument("--clicks", type=int, default=20, help="of each kind")
    parser.add_argument("--visits", type=int, default=5, help="for the first paint")
    parser.add_argument("--crowd", type=int, default=400, help="searches of eight at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        demo = collect_demo(top / "data" / "demo")
        folder = args.folder or demo
        if args.photos:
            folder = top / "photos"
            pieces(demo, folder, args.photos, seed=1)
        library = "demo" if folder == demo else "default"
        wanted = 3 * args.clicks + args.crowd + args.searches // 2 + 50
        pieces(demo, top / "queries", wanted, seed=0)
        with Runtime.open(Settings(data_dir=top / "data", encoder="mini", roots=(top,))) as runtime:
            report = runtime.index(folder, library=library, encoder="mini")
        print(f"{report.added} pictures in the library; {os.cpu_count()} cores")
        shutil.copytree(top / "data", top / "copy")
        arguments = [] if folder == demo else ["--folder", str(folder)]
        with Runtime.open(Settings(data_dir=top / "copy", roots=(top,))) as runtime:
            with app(top / "data", [top, folder], arguments) as served:
                measure(ImageTools(runtime), served, library, args, top / "queries")


if __name__ == "__main__":
    main()
