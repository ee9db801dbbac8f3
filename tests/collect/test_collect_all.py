"""From words to a split data set, politely, also after kill -9; and the commands."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from imgret_tools.collect.commands import app
from imgret_tools.collect.spec import load_spec
from imgret_tools.collect.steps.pipeline import collect_all
from imgret_tools.pictures.find import content_hash

from .sites import Answer, Site, picture

PAGE = """<!doctype html><title>results</title><style>img{width:300px;height:300px}</style>
<div id=feed></div><button id=more>Show more</button><script>
let page = 0;
async function load() {
  const ids = await (await fetch(`/api?term=TERM&page=${page++}`)).json();
  for (const id of ids) feed.insertAdjacentHTML('beforeend', `<img loading=lazy src="/img/${id}.jpg">`);
  if (ids.length < 20) more.remove();
}
more.onclick = load; load();</script>"""
DELAY = 0.012


def shop(site: Site) -> None:
    """Ten terms of fifty pictures each, twenty a page, the last of a page shown again on the next."""

    def route(path: str, _: dict[str, str]) -> Answer | None:
        asked = parse_qs(urlsplit(path).query)
        if path.startswith("/search"):
            return Answer(PAGE.replace("TERM", asked["q"][0].removeprefix("term ")).encode())
        if path.startswith("/api"):
            start = int(asked["page"][0]) * 19
            ids = [int(asked["term"][0]) * 50 + n for n in range(start, min(start + 20, 50))]
            return Answer(json.dumps(ids).encode(), type="application/json")
        return None

    site.routes.append(route)
    site.images(size=(64, 64))


def spec_file(folder: Path, site: Site) -> Path:
    path = folder / "spec.json"
    spec = {
        "url": f"{site.url}/search?q={{search_term}}",
        "categories": {"even": [f"term {n}" for n in range(0, 10, 2)], "odd": [f"term {n}" for n in range(1, 10, 2)]},
        "max_images": 60,
        "parallel": 5,
        "settle": 0.2,
        "delay": DELAY,
        "contact": "https://example.org/bot",
    }
    path.write_text(json.dumps(spec))
    return path


def command(*args: object) -> list[str]:
    code = "from imgret_tools.collect.commands import app; app()"
    return [sys.executable, "-c", code, *map(str, args)]


def test_500_images_once_each_politely_and_again_after_kill(tmp_path: Path, site: Site, chromium: str) -> None:
    shop(site)
    out, spec = tmp_path / "out", spec_file(tmp_path, site)
    all_of_it = command("all", spec, "--out", out, "--allow-private", "--json")
    process = subprocess.Popen(all_of_it, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(site.paths("/img")) < 200:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    killed = len(site.log)
    kept = {json.loads(line)["url"] for line in (out / "images/manifest.jsonl").read_text().splitlines()}
    assert 100 < len(kept) < 500

    done = subprocess.run(all_of_it, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["crawl"]["urls"] == 500
    assert (report["crawl"]["kept"], report["crawl"]["failed"]) == (10, [])
    assert report["download"]["saved"] + report["download"]["kept"] == 500
    assert report["download"]["failed"] == []
    assert report["clean"]["kept"] == 500
    assert (report["split"]["train"], report["split"]["test"]) == (190, 10)

    counts = Counter(site.paths("/img"))
    assert len(counts) == 500
    twice = {site.url + path for path, count in counts.items() if count > 1}
    again = [(n, asked) for n, asked in enumerate(site.log) if site.url + asked.path in twice & kept]
    assert not again, f"killed after {killed}: {again}"
    assert len(twice) <= 8, "only what was under way when the process died may be asked for again"
    assert not [path for path in site.paths()[killed:] if path.startswith(("/search", "/api"))]
    files = [path for path in (out / "images").rglob("*.jpg") if ".partial" not in path.parts]
    assert {content_hash(path) for path in files} == {content_hash_of(n) for n in range(500)}

    # Politeness, from the server's own log: never more requests in any second than the delay allows.
    for part in (site.log[:killed], site.log[killed:]):
        times = sorted(asked.at for asked in part)
        allowed = 1 / DELAY + 2
        assert max(sum(1 for t in times[i : i + 99] if t - times[i] < 1.0) for i in range(len(times))) <= allowed
    assert all("(+https://example.org/bot" in asked.headers["user-agent"] for asked in site.log)
    assert Counter(site.paths("/robots"))["/robots.txt"] <= 4, "once a run and step"


def content_hash_of(number: int) -> str:
    import hashlib

    return hashlib.sha256(picture(number, size=(64, 64))).hexdigest()


@pytest.mark.slow
def test_requests_to_one_host_keep_their_distance(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = tmp_path / "urls.json"
    urls.write_text(json.dumps({"a": {"b": [f"{site.url}/img/{n}.jpg" for n in range(9)]}}))
    from imgret_tools.collect.steps.download import download

    download(urls, tmp_path / "images", delay=0.2, allow_private=True)
    times = [asked.at for asked in site.log]
    assert times[-1] - times[0] > 7 * 0.2  # of 8 distances: a server under load notes an arrival late
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.05


def test_stopping_between_steps_keeps_what_is_done(tmp_path: Path, site: Site) -> None:
    site.on("/s?q=x", Answer(b"".join(b'<img src="/img/%d.jpg">' % n for n in range(30))))
    site.images()
    spec = load_spec(
        {"url": site.url + "/s?q={search_term}", "categories": {"a": ["x"]}, "mode": "html", "delay": 0.02}
    )
    seen: list[str] = []

    def stage_is_download() -> bool:
        return "download" in seen

    report = collect_all(
        spec, tmp_path, allow_private=True, progress=lambda at: seen.append(at.stage), cancelled=stage_is_download
    )
    assert report.cancelled
    assert report.clean is None
    report = collect_all(spec, tmp_path, allow_private=True)
    assert (report.crawl.kept, report.cancelled) == (1, False)
    assert "imgret index" in str(report)
    assert report.split is not None
    assert report.split.train == 19


def test_commands_one_after_the_other(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site.on("/s?q=x", Answer(b"".join(b'<img src="/img/%d.jpg">' % n for n in range(6))))
    site.images()
    text = f"url: {site.url}/s?q={{search_term}}\ncategories: {{a: [x]}}\nmode: html\ndelay: 0\n"
    Path("spec.yaml").write_text(text)
    shell = CliRunner()
    for words, key, value in (
        ("crawl spec.yaml --max-images 5 --allow-private", "urls", 5),
        ("download --delay 0 --allow-private", "saved", 5),
        ("clean --dry-run", "kept", 5),
        ("clean", "checked", 5),
        ("split --train 3 --zip", "train", 3),
    ):
        done = shell.invoke(app, [*words.split(), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[key] == value
        assert done.stderr == ""
        assert shell.invoke(app, words.split()).stdout.count("\n") >= 1
    assert Path("data.zip").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("crawl nowhere.yaml", 1, "There is no file"),
        ("download nowhere.json", 1, "There is no file"),
        ("clean nowhere", 1, "There is no folder"),
        ("split nowhere", 1, "nowhere"),
        ("all nowhere.yaml --out x", 1, "There is no file"),
        ("download x.json --workers 0", 2, "workers"),
        ("clean x --near 99", 2, "near"),
        ("frobnicate", 2, "frobnicate"),
    ],
)
def test_errors_are_one_plain_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == code
    assert says in done.stderr
    assert "Traceback" not in done.output
    if code == 1:
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_ctrl_c_stops_a_command_and_keeps_what_is_done(tmp_path: Path, site: Site) -> None:
    site.images()
    (tmp_path / "image_urls.json").write_text(json.dumps({"a": {"b": [f"{site.url}/img/{n}.jpg" for n in range(300)]}}))
    words = command(
        "download", tmp_path / "image_urls.json", "--out", tmp_path / "images", "--delay", 0.02, "--allow-private"
    )
    process = subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(site.paths("/img")) < 30:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "what is done is kept" in err
    assert "Traceback" not in err
    report = json.loads(out)
    assert report["cancelled"]
    assert len((tmp_path / "images/filename.txt").read_text().splitlines()) == report["saved"] >= 25


def test_help_is_instant_in_what_it_loads() -> None:
    heavy = "('httpx', 'PIL', 'numpy', 'playwright')"
    code = f"import sys, imgret_tools.collect.commands; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
