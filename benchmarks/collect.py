"""How fast, and in how much memory, pictures are downloaded: `python benchmarks/collect.py`.

A loopback server in a process of its own answers every picture after a fixed latency. With w workers and a latency of
L seconds nobody can do better than w / L pictures a second: that is the ideal. In the same run the loop of the course
this tool grew out of does the same work: a thread pool of as many workers, one plain GET a picture, a pause after each.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from imgret_tools.collect.steps.download import download
from imgret_tools.records import Progress


def serve(latency: float, kinds: int, pipe: Connection) -> None:
    """Answers `/<anything>` with one of `kinds` photo-like JPEGs of about 60 kB after `latency` seconds."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(kinds):
        noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
        pictures.append(out.getvalue())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            """One picture; robots.txt is not there and costs no latency."""
            robots = self.path == "/robots.txt"
            if not robots:
                time.sleep(latency)
            body = b"" if robots else pictures[hash(self.path) % kinds]
            self.send_response_only(404 if robots else 200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    pipe.send((f"http://127.0.0.1:{server.server_port}", sum(map(len, pictures)) // kinds))
    server.serve_forever()


def urls_file(folder: Path, url: str, images: int) -> Path:
    """An `image_urls.json` of that many pictures."""
    path = folder / "image_urls.json"
    path.write_text(json.dumps({"bench": {"images": [f"{url}/{n}.jpg" for n in range(images)]}}))
    return path


def ours(url: str, images: int, workers: int) -> float:
    """Pictures a second of `imgret collect download --delay 0`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        report = download(urls_file(folder, url, images), folder / "out", workers=workers, delay=0, allow_private=True)
        seconds = time.perf_counter() - started
        assert (report.saved, report.failed) == (images, [])
        return images / seconds


def course_loop(url: str, images: int, workers: int, pause: float) -> float:
    """Pictures a second of a thread pool, one GET a picture on a new connection, and `pause` seconds after each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def one(number: int) -> None:
            answer = httpx.get(f"{url}/{number}.jpg", trust_env=False)
            if answer.status_code == 200:
                (folder / f"{number}.jpg").write_bytes(answer.content)
            time.sleep(pause)

        started = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, range(images)))
        return images / (time.perf_counter() - started)


def resident() -> float:
    """This process's resident memory in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("/proc/self/status has no VmRSS")


def memory(url: str, images: int, workers: int) -> dict[int, float]:
    """Resident MB after every tenth of a download."""
    seen: dict[int, float] = {}

    def note(at: Progress) -> None:
        if at.done % (images // 10) == 0:
            seen[at.done] = resident()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        download(
            urls_file(folder, url, images), folder / "out", workers=workers, delay=0, allow_private=True, progress=note
        )
    return seen


def main() -> None:
    """Runs all of it and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--memory-images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(args.latency, 20, there), daemon=True)
    server.start()
    url, size = here.recv()
    ideal = args.workers / args.latency
    print(
        f"{args.images} pictures of {size / 1000:.0f} kB, latency {args.latency * 1000:.0f} ms, {args.workers} workers"
    )
    print(f"{'ideal':<28}{ideal:6.1f} images/s  1.00")
    rows = [("imgret collect download", [ours(url, args.images, args.workers) for _ in range(args.runs)])]
    few = max(args.workers * 4, args.images // 4)
    for pause in (0.0, 0.5, 1.0):
        rows.append((f"course's loop, pause {pause} s", [course_loop(url, few, args.workers, pause)]))
    for name, rates in rows:
        median = sorted(rates)[len(rates) // 2]
        spread = f"  ({min(rates):.1f} to {max(rates):.1f} in {len(rates)} runs)" if len(rates) > 1 else ""
        print(f"{name:<28}{median:6.1f} images/s  {median / ideal:.2f}{spread}")
    seen = memory(url, args.memory_images, args.workers)
    steps = sorted(seen)
    print("memory, MB resident after images: " + ", ".join(f"{step}: {seen[step]:.0f}" for step in steps))
    print(f"growth from {steps[0]} to {steps[-1]} images: {seen[steps[-1]] - seen[steps[0]]:+.1f} MB")
    server.terminate()
    server.join()


if __name__ == "__main__":
    main()
