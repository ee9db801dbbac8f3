"""Downloading from sites that are slow, wrong, hostile or forgetful."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from imgret_tools.collect.net.polite import referer
from imgret_tools.collect.steps.download import DownloadReport, download
from imgret_tools.collect.steps.names import short_hash
from imgret_tools.errors import BadInput, CollectError
from imgret_tools.pictures.find import content_hash

from .sites import Answer, Site, picture, with_range


def listed(folder: Path, urls: dict[str, dict[str, list[str]]]) -> Path:
    path = folder / "image_urls.json"
    path.write_text(json.dumps(urls), encoding="utf-8")
    return path


def fetch(folder: Path, urls: list[str], **options: object) -> DownloadReport:
    given = {"delay": 0.0, "allow_private": True, "timeout": 5.0} | options
    return download(listed(folder, {"fruit": {"orange": urls}}), folder / "images", **given)  # type: ignore[arg-type]


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "images/manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def test_saves_under_category_and_term_with_manifest_and_list(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = listed(tmp_path, {"fruit": {"orange": [f"{site.url}/img/1.jpg"], "red apple": [f"{site.url}/img/2.jpg"]}})
    (tmp_path / "image_urls.sources.json").write_text(
        json.dumps({"sources": {f"{site.url}/img/1.jpg": {"page": "https://h/p", "license": "CC0"}}})
    )
    seen = []
    report = download(urls, tmp_path / "images", delay=0, allow_private=True, progress=seen.append)
    assert (report.saved, report.failed, report.cancelled) == (2, [], False)
    assert (tmp_path / "images/filename.txt").read_text().split("\n") == [
        "fruit/orange/1.jpg",
        "fruit/red apple/2.jpg",
        "",
    ]
    saved = tmp_path / "images/fruit/orange/1.jpg"
    assert saved.read_bytes() == picture(1)
    first = next(line for line in lines(tmp_path) if line["term"] == "orange")
    assert first["sha256"] == content_hash(saved)
    assert (first["page"], first["license"], first["bytes"]) == ("https://h/p", "CC0", len(picture(1)))
    assert (first["width"], first["height"], first["format"]) == (160, 120, "JPEG")
    assert [p.done for p in seen] == [1, 2]
    assert seen[-1].stage == "download"


def test_a_second_run_asks_for_nothing(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = [f"{site.url}/img/{n}.jpg" for n in range(5)] + [f"{site.url}/gone.jpg"]
    fetch(tmp_path, urls)
    (tmp_path / "images/fruit/orange/3.jpg").unlink()
    before = len(site.paths("/img/")) + len(site.paths("/gone"))
    report = fetch(tmp_path, urls)
    assert len(site.paths("/img/")) + len(site.paths("/gone")) == before == 6
    assert (report.saved, report.kept, report.missing) == (0, 5, 1)
    assert [failure.path for failure in report.failed] == [urls[-1]]
    fetch(tmp_path, urls, retry_failed=True)
    assert len(site.paths("/gone")) == 2


def test_refresh_asks_with_the_validators(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = [f"{site.url}/img/7.jpg"]
    fetch(tmp_path, urls)
    report = fetch(tmp_path, urls, refresh=True)
    assert site.log[-1].headers["if-none-match"] == '"7"'
    assert (site.log[-1].status, report.saved, report.kept) == (304, 0, 1)


def test_two_urls_of_one_name_stay_two_pictures(tmp_path: Path, site: Site) -> None:
    for folder, number in (("a", 1), ("b", 2), ("B", 3)):
        site.on(f"/{folder}/photo.jpg", Answer(picture(number), type="image/jpeg"))
    site.on("/c/PHOTO.JPG", Answer(picture(4), type="image/jpeg"))
    report = fetch(tmp_path, [f"{site.url}/{f}/photo.jpg" for f in "abB"] + [f"{site.url}/c/PHOTO.JPG"])
    files = sorted((tmp_path / "images/fruit/orange").iterdir())
    assert report.saved == len(files) == len({f.name.casefold() for f in files}) == 4
    assert {f.read_bytes() for f in files} == {picture(n) for n in (1, 2, 3, 4)}


def test_a_url_listed_twice_is_fetched_once(tmp_path: Path, site: Site) -> None:
    site.images()
    url = f"{site.url}/img/1.jpg"
    urls = listed(tmp_path, {"fruit": {"orange": [url, f"{url}#top"], "apple": [url]}})
    report = download(urls, tmp_path / "images", delay=0, allow_private=True)
    assert (report.saved, report.duplicate_urls, site.paths("/img")) == (1, 2, ["/img/1.jpg"])


def test_unicode_and_percent_encoded_names_stay_inside(tmp_path: Path, site: Site) -> None:
    hostile = [
        "/%E6%A9%98%E5%AD%90.jpg",
        "/qu%E1%BA%A3%20cam.jpg",
        "/..%2F..%2F..%2Fetc%2Fpasswd.jpg",
        "/%2e%2e/%2e%2e%5c%2e%2e%5cboot.jpg",
        "/con.jpg",
        "/a%00b%0d%0a.jpg",
        "/...",
        "/" + "x" * 3000 + ".jpg",
        "/photo?file=../../up.jpg",
        "/%ff%fe.jpg",
    ]
    site.routes.append(lambda path, _: None if "robots" in path else Answer(picture(len(path)), type="image/jpeg"))
    urls = listed(
        tmp_path, {"../../out": {"..": [site.url + path for path in hostile], "a/b:c": [f"{site.url}/1.jpg"]}}
    )
    report = download(urls, tmp_path / "deep/images", delay=0, allow_private=True)
    assert report.saved == len(hostile) + 1, report.failed
    made = list(tmp_path.rglob("*.jpg"))
    assert len(made) == len(hostile) + 1
    assert all(
        path.is_relative_to(tmp_path / "deep/images") and len(path.relative_to(tmp_path).parts) == 5 for path in made
    )
    names = {path.stem for path in made}
    assert {"橘子", "quả cam", "_con"} <= names
    assert not any(set(name) & set('/\\:\0\r\n<>"|?*') or len(name.encode()) > 120 for name in names)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"<html>not found</html>", type="image/jpeg"), "not a picture"),
        (Answer(picture(1)[:2000], type="image/jpeg"), "not a picture that can be read"),
        (Answer(b"", type="image/jpeg"), "not a picture"),
        (Answer(picture(1), 404, "image/jpeg"), "answers 404"),
        (Answer(picture(1), headers={"X-Robots-Tag": "noimageindex"}), "X-Robots-Tag"),
        (Answer(picture(1), type="image/jpeg", length=3_000_000_000), "larger than the limit"),
        (Answer(iter([b"\xff\xd8\xff" + b"\0" * 60_000] * 40), type="image/jpeg"), "larger than the limit"),
        (
            Answer(gzip.compress(b"\xff\xd8\xff" + b"\0" * 200_000_000, 1), headers={"Content-Encoding": "gzip"}),
            "larger than",
        ),
        (Answer(picture(1), headers={"Content-Encoding": "br"}), "not asked for"),
        (Answer(b"", 302, headers={"Location": "/x"}), "redirects"),
        (Answer(b"", 302, headers={"Location": "file:///etc/passwd"}), "only http"),
    ],
    ids=["html", "truncated", "empty", "404", "tag", "3gb", "endless", "bomb", "brotli", "loop", "file"],
)
def test_what_is_no_picture_is_a_reason_and_no_file(tmp_path: Path, site: Site, answer: Answer, reason: str) -> None:
    site.on("/x", answer)
    site.images()
    report = fetch(tmp_path, [f"{site.url}/x", f"{site.url}/img/1.jpg"], max_bytes=2_000_000)
    assert reason in report.failed[0].reason
    assert report.saved == 1
    assert sorted(p.name for p in (tmp_path / "images/.partial").iterdir()) == ["lock"]


def test_wrong_content_type_and_suffix_are_not_believed(tmp_path: Path, site: Site) -> None:
    site.on("/a.jpg", Answer(picture(1, kind="PNG"), type="text/plain"))
    site.on(
        "/b", Answer(gzip.compress(picture(2)), type="application/octet-stream", headers={"Content-Encoding": "gzip"})
    )
    site.on("/c?id=3", Answer(zlib.compress(picture(3)), headers={"Content-Encoding": "deflate"}))
    fetch(tmp_path, [site.url + path for path in ("/a.jpg", "/b", "/c?id=3")])
    assert sorted(p.name for p in (tmp_path / "images/fruit/orange").iterdir()) == ["a.png", "b.jpg", "c.jpg"]


@pytest.mark.slow
def test_too_many_requests_holds_the_host_as_long_as_asked(tmp_path: Path, site: Site) -> None:
    refused = iter([True] * 2)
    site.routes.append(
        lambda path, _: (
            Answer(b"", 429, headers={"Retry-After": "1"}) if path[:4] == "/img" and next(refused, 0) else None
        )
    )
    site.images()
    report = fetch(tmp_path, [f"{site.url}/img/{n}.jpg" for n in range(4)], workers=1)
    assert (report.saved, report.failed) == (4, [])
    asked = [entry for entry in site.log if entry.path.startswith("/img")]
    assert [entry.status for entry in asked] == [429, 429, 200, 200, 200, 200]
    assert all(later.at - earlier.at >= 0.99 for earlier, later in itertools.pairwise(asked[:3]))


def test_a_host_that_asks_for_an_hour_is_left_alone(tmp_path: Path, site: Site) -> None:
    site.routes.append(
        lambda path, _: Answer(b"", 503, headers={"Retry-After": "3600"}) if path[:4] == "/img" else None
    )
    report = fetch(tmp_path, [f"{site.url}/img/{n}.jpg" for n in range(20)], workers=1)
    assert len(report.failed) == 20
    assert "asks to wait 3600 s" in report.failed[-1].reason
    assert len(site.paths("/img")) == 1


def test_a_broken_connection_goes_on_where_it_stopped(tmp_path: Path, site: Site) -> None:
    body, tries = picture(9), iter(range(9))

    def route(path: str, headers: dict[str, str]) -> Answer | None:
        if path != "/big.jpg":
            return None
        answer = with_range(body, '"v1"', headers)
        if next(tries) == 0:
            answer.drop = 1500
        return answer

    site.routes.append(route)
    report = fetch(tmp_path, [f"{site.url}/big.jpg"])
    assert report.saved == 1
    asked = [entry for entry in site.log if entry.path == "/big.jpg"]
    assert [entry.status for entry in asked] == [200, 206]
    assert (asked[1].headers["range"], asked[1].headers["if-range"]) == ("bytes=1500-", '"v1"')
    assert (tmp_path / "images/fruit/orange/big.jpg").read_bytes() == body


def test_a_changed_picture_is_not_glued_to_its_old_half(tmp_path: Path, site: Site) -> None:
    tries = iter(range(9))

    def route(path: str, headers: dict[str, str]) -> Answer | None:
        if path != "/big.jpg":
            return None
        if next(tries) == 0:
            return Answer(picture(1), type="image/jpeg", headers={"ETag": '"old"'}, drop=1500)
        return with_range(picture(2), '"new"', headers)

    site.routes.append(route)
    fetch(tmp_path, [f"{site.url}/big.jpg"])
    assert (tmp_path / "images/fruit/orange/big.jpg").read_bytes() == picture(2)


@pytest.mark.slow
def test_server_errors_and_silence_are_tried_again(tmp_path: Path, site: Site) -> None:
    tries = iter(range(9))

    def answer() -> Answer:
        turn = next(tries)
        if turn == 0:
            return Answer(b"", 500)
        if turn == 1:
            time.sleep(0.6)
        return Answer(picture(1), type="image/jpeg")

    site.on("/flaky.jpg", answer)
    report = fetch(tmp_path, [f"{site.url}/flaky.jpg", "http://127.0.0.1:9/dead.jpg"], timeout=0.3, retries=2)
    assert report.saved == 1
    assert len(site.paths("/flaky")) == 3
    assert "connection failed" in report.failed[0].reason or "robots.txt" in report.failed[0].reason


def test_a_slow_host_does_not_hold_up_another(tmp_path: Path, site: Site, other_site: Site) -> None:
    site.images()
    other_site.images()
    urls = [f"{site.url}/img/{n}.jpg" for n in range(8)] + [f"{other_site.url}/img/{n}.jpg" for n in range(8)]
    fetch(tmp_path, urls, delay=0.1, workers=2)
    assert other_site.log[0].at < site.log[-1].at, "both are asked at once"


def test_robots_txt_is_obeyed_unless_told_otherwise(tmp_path: Path, site: Site) -> None:
    site.on(
        "/robots.txt",
        Answer(b"User-agent: *\nDisallow: /\n\nUser-agent: imgret-collect\nDisallow: /img/*2.jpg$", type="text/plain"),
    )
    site.images()
    urls = [f"{site.url}/img/{n}.jpg" for n in (1, 2)]
    report = fetch(tmp_path, urls, contact="https://example.org/bot")
    assert report.saved == 1
    assert "robots.txt" in report.failed[0].reason
    assert site.paths() == ["/robots.txt", "/img/1.jpg"]
    assert site.log[-1].headers["user-agent"].startswith("imgret-collect")
    assert site.log[-1].headers["user-agent"].endswith("(+https://example.org/bot)")
    assert fetch(tmp_path, urls, obey_robots=False).saved == 1
    assert site.paths().count("/robots.txt") == 1


def test_a_host_whose_robots_txt_fails_is_not_asked(tmp_path: Path, site: Site) -> None:
    site.on("/robots.txt", Answer(b"", 503))
    site.images()
    report = fetch(tmp_path, [f"{site.url}/img/1.jpg"], retries=0)
    assert report.saved == 0
    assert "robots.txt" in report.failed[0].reason
    assert site.paths("/img") == []


def test_private_addresses_are_refused(tmp_path: Path, site: Site) -> None:
    site.images()
    report = fetch(tmp_path, [f"{site.url}/img/1.jpg", "http://169.254.169.254/latest/meta-data"], allow_private=False)
    assert report.saved == 0
    assert "loopback" in report.failed[0].reason
    assert "link-local" in report.failed[1].reason
    assert site.log == []


def test_stopping_keeps_what_is_done(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = [f"{site.url}/img/{n}.jpg" for n in range(60)]
    done: list[int] = []
    first = fetch(tmp_path, urls, delay=0.02, progress=lambda p: done.append(p.done), cancelled=lambda: len(done) >= 10)
    assert first.cancelled
    assert 10 <= first.saved < 60
    second = fetch(tmp_path, urls)
    assert (first.saved + second.saved, second.kept, second.cancelled) == (60, first.saved, False)
    assert Counter(site.paths("/img")).most_common(1)[0][1] <= 2
    assert len((tmp_path / "images/filename.txt").read_text().splitlines()) == 60


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
from pathlib import Path
from imgret_tools.collect.steps.download import download
download(Path(sys.argv[1]), Path(sys.argv[2]), delay=0.012, workers=8, allow_private=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_nothing_kept_is_fetched_twice(tmp_path: Path, site: Site, how: signal.Signals) -> None:
    site.images()
    urls = listed(
        tmp_path, {"c": {f"term {t}": [f"{site.url}/img/{t * 50 + n}.jpg" for n in range(50)] for t in range(10)}}
    )
    out = tmp_path / "images"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, urls, out], stderr=subprocess.DEVNULL)
    while len(site.paths("/img")) < 150:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, how)
    process.wait(20)
    asked = len(site.paths("/img"))
    assert asked < 500
    kept = {line["url"] for line in lines(tmp_path)}
    report = download(urls, out, delay=0, allow_private=True)
    assert report.saved + report.kept == 500
    assert report.failed == []
    counts = Counter(site.url + path for path in site.paths("/img"))
    twice = {url for url, count in counts.items() if count > 1}
    assert len(counts) == 500
    assert not twice & kept
    assert len(twice) <= 8, "only pictures under way at that moment may be asked for again"
    files = [path for path in out.rglob("*.jpg") if ".partial" not in path.parts]
    assert len(files) == len({content_hash(path) for path in files}) == 500


def test_a_manifest_line_without_its_file_gets_it_from_the_partial(tmp_path: Path, site: Site) -> None:
    site.images()
    urls = [f"{site.url}/img/1.jpg"]
    fetch(tmp_path, urls)
    saved = tmp_path / "images/fruit/orange/1.jpg"
    saved.rename(tmp_path / "images/.partial" / short_hash(urls[0], 24))
    with (tmp_path / "images/manifest.jsonl").open("a") as file:
        file.write('{"url": "http://torn')
    report = fetch(tmp_path, [*urls, f"{site.url}/img/2.jpg"])
    assert (report.kept, report.missing, report.saved) == (1, 0, 1)
    assert saved.read_bytes() == picture(1)
    assert fetch(tmp_path, [*urls, f"{site.url}/img/2.jpg"]).kept == 2


def test_two_downloads_into_one_folder_are_refused(tmp_path: Path, site: Site) -> None:
    started, gate = threading.Event(), threading.Event()

    def slow() -> Answer:
        started.set()
        gate.wait(5)
        return Answer(picture(1), type="image/jpeg")

    site.on("/slow.jpg", slow)
    first = threading.Thread(target=fetch, args=(tmp_path, [f"{site.url}/slow.jpg"]))
    first.start()
    assert started.wait(5)
    with pytest.raises(CollectError, match="Another download"):
        fetch(tmp_path, [f"{site.url}/slow.jpg"])
    gate.set()
    first.join()


@pytest.mark.parametrize("text", ["[]", '{"a": ["b"]}', '{"a": {"b": [1]}}', "{", '{"a": {"b": "http://h"}}'])
def test_lists_of_another_shape_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "image_urls.json"
    path.write_text(text)
    with pytest.raises(BadInput):
        download(path, tmp_path / "images")


def test_a_broken_sources_file_is_named(tmp_path: Path) -> None:
    path = listed(tmp_path, {"a": {"b": ["https://h/x.jpg"]}})
    (tmp_path / "image_urls.sources.json").write_text("[]")
    with pytest.raises(BadInput, match=r"sources\.json"):
        download(path, tmp_path / "images")


def test_urls_of_other_kinds_are_reasons(tmp_path: Path) -> None:
    report = fetch(tmp_path, ["ftp://h/a.jpg", "file:///etc/passwd", "nonsense", "http://[bad/a.jpg", "javascript:x"])
    assert len(report.failed) == 5
    assert all("only http" in failure.reason or "not a URL" in failure.reason for failure in report.failed)


def with_sources(folder: Path, url: str, **source: object) -> Path:
    urls = listed(folder, {"fruit": {"orange": [url]}})
    (folder / "image_urls.sources.json").write_text(json.dumps({"sources": {url: source}}), encoding="utf-8")
    return urls


def test_a_link_that_leads_to_a_page_does_not_cost_the_picture(tmp_path: Path, site: Site) -> None:
    """Wikis link a picture to a page called like it; the picture shown was dropped."""
    site.images()
    site.on("/wiki/File:Orange.jpg", Answer(b"<!doctype html><title>File page</title>"))
    site.on("/l/gone.jpg", Answer(b"gone", 410))
    url = f"{site.url}/wiki/File:Orange.jpg"
    urls = with_sources(tmp_path, url, page=f"{site.url}/p", also=[f"{site.url}/l/gone.jpg", f"{site.url}/img/7.jpg"])
    report = download(urls, tmp_path / "images", delay=0.0, allow_private=True, retries=0)
    assert (report.saved, report.failed) == (1, [])
    (line,) = lines(tmp_path)
    assert (line["url"], line["fetched"]) == (url, f"{site.url}/img/7.jpg")
    assert (tmp_path / "images" / str(line["path"])).read_bytes() == picture(7)
    before = len(site.log)
    again = download(urls, tmp_path / "images", delay=0.0, allow_private=True)
    assert (again.saved, again.kept, len(site.log)) == (0, 1, before)
    refreshed = download(urls, tmp_path / "images", delay=0.0, allow_private=True, refresh=True)
    assert (refreshed.saved, refreshed.failed) == (0, [])
    assert site.log[-1].path == "/img/7.jpg"


def test_of_several_addresses_that_fail_the_first_one_s_reason_is_told(tmp_path: Path, site: Site) -> None:
    site.on("/a.jpg", Answer(b"<!doctype html>", 200))
    url = f"{site.url}/a.jpg"
    urls = with_sources(tmp_path, url, page=site.url, also=[f"{site.url}/b.jpg", "ftp://x/c.jpg", 7])
    report = download(urls, tmp_path / "images", delay=0.0, allow_private=True, retries=0)
    assert [(fail.path, "not a picture" in fail.reason) for fail in report.failed] == [(url, True)]
    assert site.paths("/b.jpg") == ["/b.jpg"]


def test_the_page_is_told_to_the_host_as_a_browser_does(tmp_path: Path, site: Site, other_site: Site) -> None:
    """Hosts that refuse hot links answered 403 to every picture."""
    site.images()
    other_site.images()
    for host, name in ((site, "own"), (other_site, "other")):
        folder = tmp_path / name
        folder.mkdir()
        urls = with_sources(
            folder, f"{host.url}/img/1.jpg", page=f"{site.url}/photo/1", found_on=f"{site.url}/s?q=đỏ#x"
        )
        assert download(urls, folder / "images", delay=0.0, allow_private=True).saved == 1
    assert site.log[-1].headers["referer"] == f"{site.url}/s?q=%C4%91%E1%BB%8F"
    assert other_site.log[-1].headers["referer"] == f"{site.url}/"
    assert all("referer" not in asked.headers for asked in site.log if asked.path == "/robots.txt")
    for page, url, told in (
        ("https://u:p@h/a?b#c", "https://h/x", "https://h/a?b"),
        ("https://h/a", "http://h/x", ""),
        ("http://h/a", "https://h/x", "http://h/"),
        ("https://h/a", "https://h:444/x", "https://h/"),
        ("", "https://h/x", ""),
        ("ftp://h/a", "https://h/x", ""),
    ):
        assert referer(page, url) == told
