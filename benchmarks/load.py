"""The app under load: many clients at once on the API and on MCP while a folder is indexed, every answer held against the exact one.

    python benchmarks/load.py                      # 1, 8 and 50 clients, 15 s each; 2,000 pictures indexed meanwhile
    python benchmarks/load.py --searches 20000     # and the memory of the app over so many more
    python benchmarks/load.py --encoder fake       # without the work of an encoder: what the app itself costs

`imgret serve` runs in a process of its own on 360 small pictures. The clients are plain HTTP connections in threads of another
process, on the same cores: API clients call `search_similar_image` as gradio_client does over `/gradio_api/call`, MCP clients
post `tools/call`, by words that all differ and by ids. Before, the bare tool answers the same searches in this process, exactly; an answer
with other hits, or the same in another order, is wrong. While they ask, the app indexes another folder into another library. Last,
the app is sent SIGTERM with all clients asking, and must be gone within ten seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.schemas import published

ROOT = Path(__file__).parent.parent
SEARCH = next(tool for tool in published() if tool.name == "search_similar_image")
WORDS = (
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "lion",
    "tower",
    "boat",
    "tree",
    "car",
    "old",
    "small",
    "bright",
    "dark",
    "wet",
    "round",
)
FAKE = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import fake_encoder; fake_encoder.use(); "
SERVE = "from imgret_tools.cli import main; main()"
LIBRARY, K = "load", 5
Kind = Literal["api", "mcp"]


@dataclass
class Load:
    """What some clients saw: seconds of each answer, errors, wrong answers, and answers of "busy"."""

    took: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: int = 0
    busy: int = 0
    seconds: float = 0.0
    cpu: float = float("nan")

    def __str__(self) -> str:
        took = np.sort(np.array(self.took or [float("nan")])) * 1000
        return (
            f"{len(self.took) / self.seconds:6.1f}/s, median {np.quantile(took, 0.5):6.0f} ms, p99 {np.quantile(took, 0.99):6.0f} ms, "
            f"{len(self.errors)} errors, {self.wrong} wrong, {self.busy} busy, "
            f"{1000 * self.cpu / max(len(self.took), 1):.1f} ms of processor time each"
        )


def pictures(folder: Path, count: int, seed: int) -> Path:
    """`count` small JPEGs that all differ, in twelve labels."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"class{number % 12}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        grid = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(grid).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=85)
    return folder


def searches(ids: list[str], count: int) -> list[dict[str, Any]]:
    """Searches by words and by ids in turn."""
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]
    return [{"image": ids[n % len(ids)]} if n % 4 == 3 else {"text": texts[n]} for n in range(count)]


def expected(tools: ImageTools, asked: list[dict[str, Any]]) -> list[list[str]]:
    """The ids of the hits of each search, by the exact scan of the bare tool."""
    return [
        [hit.id for hit in tools.search_similar_image(**one, k=K, library=LIBRARY, search="exact").hits]
        for one in asked
    ]


def arguments(asked: dict[str, Any]) -> dict[str, Any]:
    """What a search is called with: its hits are held against the exact scan's, so their order is not refined."""
    return {**asked, "k": K, "library": LIBRARY, "refine": "off"}


def by_api(connection: http.client.HTTPConnection, asked: dict[str, Any]) -> tuple[int, list[str]]:
    """The status and the hits of a search over Gradio's API."""
    data = list(SEARCH.checked(arguments(asked)).values())  # the endpoint takes them by place
    status, body = _asked(connection, "POST", "/gradio_api/call/search_similar_image", json.dumps({"data": data}))
    if status != 200:
        return status, []
    event = json.loads(body)["event_id"]
    status, body = _asked(connection, "GET", f"/gradio_api/call/search_similar_image/{event}", None)
    if "event: complete" not in body:
        raise ValueError(body[:300])
    return status, [hit["id"] for hit in json.loads(json.loads(body.rpartition("data: ")[2])[0])["hits"]]


def by_mcp(connection: http.client.HTTPConnection, asked: dict[str, Any]) -> tuple[int, list[str]]:
    """The status and the hits of a search over MCP."""
    call = {"name": "search_similar_image", "arguments": arguments(asked)}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    status, body = _asked(connection, "POST", "/mcp", json.dumps(request))
    if status != 200:
        return status, []
    result = json.loads(body.partition("data: ")[2] or body)["result"]
    if result.get("isError"):
        raise ValueError(str(result)[:300])
    return status, [hit["id"] for hit in result["structuredContent"]["hits"]]


def _asked(connection: http.client.HTTPConnection, method: str, path: str, body: str | None) -> tuple[int, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


ASK: dict[Kind, Callable[[http.client.HTTPConnection, dict[str, Any]], tuple[int, list[str]]]] = {
    "api": by_api,
    "mcp": by_mcp,
}


def load(
    port: int,
    kind: Kind,
    clients: int,
    seconds: float,
    asked: list[dict[str, Any]],
    right: list[list[str]],
    most: int = 10**9,
) -> Load:
    """`clients` ask for `seconds`, or `most` times in all."""
    seen, lock, end = Load(), threading.Lock(), time.monotonic() + seconds
    left = iter(range(most))

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        at = number * 7919
        while time.monotonic() < end:
            with lock:
                if next(left, None) is None:
                    return
            at += 1
            begun = time.monotonic()
            try:
                status, hits = ASK[kind](connection, asked[at % len(asked)])
            except Exception as error:
                with lock:
                    seen.errors.append(repr(error)[:300])
                connection.close()
                continue
            with lock:
                if status == 503:
                    seen.busy += 1
                elif status != 200:
                    seen.errors.append(f"status {status}")
                else:
                    seen.took.append(time.monotonic() - begun)
                    seen.wrong += hits != right[at % len(asked)]
            if status == 503:
                time.sleep(0.2)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds = time.monotonic() - begun
    return seen


def resident(pid: int) -> float:
    """Memory of a process in MB (VmRSS)."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1000


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken: what does not depend on who else uses the machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns once somebody listens."""
    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            raise SystemExit("the app ended by itself")
        time.sleep(0.1)
    raise SystemExit("the app did not start")


def index_meanwhile(port: int, folder: Path, stop: threading.Event, rounds: list[int]) -> None:
    """Have the app index `folder` again and again, into a library that is new each time."""
    while not stop.is_set():
        call = {"name": "index_folder", "arguments": {"folder": str(folder), "library": f"new{len(rounds)}"}}
        request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        try:
            status, body = _asked(connection, "POST", "/mcp", json.dumps(request))
            result = json.loads(body.partition("data: ")[2] or body)["result"]
            rounds.append(int(result["structuredContent"]["added"]) if status == 200 else -1)
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            if stop.is_set():
                return
            rounds.append(-1)
            time.sleep(1)


def in_another_process(*arguments: Any) -> Load:
    """`load` in a process of its own, so that clients and app do not share an interpreter."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(load, arguments)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--encoder", choices=["mini", "fake"], default="mini")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 50])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--searches", type=int, default=0, help="how many more for the memory")
    parser.add_argument("--pictures", type=int, default=2000, help="how many are indexed meanwhile")
    given = parser.parse_args()
    if given.encoder == "fake":
        sys.path.insert(0, str(ROOT / "tests"))
        import fake_encoder

        fake_encoder.use()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pictures(folder / "photos", 360, 1)
        pictures(folder / "more", given.pictures, 2)
        data = folder / "data"
        with Runtime.open(Settings(data_dir=data, roots=(folder,), encoder="mini")) as runtime:
            runtime.index(folder / "photos", library=LIBRARY)
            tools = ImageTools(runtime)
            with runtime.view(LIBRARY) as view:
                ids = [entry.id for entry in view.entries()]
            asked = searches(ids, 1000)
            begun = time.monotonic()
            right = expected(tools, asked)
            bare = (time.monotonic() - begun) / len(asked)
        print(f"encoder {given.encoder}; the bare tool takes {1000 * bare:.1f} ms a search")
        port = free_port()
        environment = os.environ | {
            "IMGRET_DATA_DIR": str(data),
            "IMGRET_ROOTS": str(folder),
            "PYTHONPATH": str(ROOT),
            "IMGRET_ENCODER": "mini",
        }
        code = (FAKE if given.encoder == "fake" else "") + SERVE
        command = [sys.executable, "-c", code, "serve", "--port", str(port), "--library", LIBRARY]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(port, server)
            in_another_process(port, "api", 4, 5.0, asked, right)  # warm
            for indexing in (False, True):
                stop, rounds = threading.Event(), list[int]()
                if indexing:
                    threading.Thread(
                        target=index_meanwhile, args=(port, folder / "more", stop, rounds), daemon=True
                    ).start()
                for kind in ("api", "mcp"):
                    for clients in given.clients:
                        before = processor_time(server.pid)
                        seen = in_another_process(port, kind, clients, given.seconds, asked, right)
                        seen.cpu = processor_time(server.pid) - before
                        print(f"{kind} {clients:3} clients{', indexing' if indexing else ''}: {seen}", flush=True)
                        for error in sorted(set(seen.errors))[:3]:
                            print(f"    {error}")
                stop.set()
                if indexing:
                    print(f"index runs that ended meanwhile: {rounds}")
            if given.searches:
                for part in range(5):
                    before = resident(server.pid)
                    seen = in_another_process(port, "api", 16, 3600.0, asked, right, given.searches // 5)
                    print(
                        f"after {(part + 1) * given.searches // 5} searches: {before:.0f} -> {resident(server.pid):.0f} MB; {seen}",
                        flush=True,
                    )
            threading.Thread(target=load, args=(port, "api", 50, 8.0, asked, right), daemon=True).start()
            time.sleep(3)
            begun = time.monotonic()
            server.send_signal(signal.SIGTERM)
            code_ = server.wait(60)
            print(f"ended {time.monotonic() - begun:.1f} s after SIGTERM with 50 clients asking (status {code_})")
            text = (folder / "log").read_text("utf-8", "replace")
            print(f"lines in its log: {len(text.splitlines())}; tracebacks: {text.count('Traceback')}")
        finally:
            if server.poll() is None:
                server.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
