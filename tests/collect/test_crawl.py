"""Crawling with a real Chromium and without: lazy pages, buttons, feeds, refusals, resuming."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from imgret_tools.collect.spec import Spec, load_spec, load_urls
from imgret_tools.collect.steps.crawl import CrawlReport, crawl
from imgret_tools.errors import BadInput, CollectError

from .sites import Answer, Site

LAZY = """<!doctype html><title>lazy</title>
<style>img{display:block;width:300px;height:400px}.logo{width:40px;height:40px}
.bg{width:300px;height:200px;background-image:url(/img/900.jpg)}</style>
<meta property="og:image" content="/img/999.jpg"><img class=logo src="/logo.png"><div class=bg></div><div id=feed></div>
<script>
for (let n = 0; n < COUNT; n++) {
  const image = new Image(); image.dataset.hidden = n; feed.append(image);
  new IntersectionObserver((seen, self) => { if (seen[0].isIntersecting) {
    image.src = `/thumb/TERM_${n}_m.jpg`; self.disconnect(); } }).observe(image);
}</script>"""

MORE = """<!doctype html><title>more</title>
<style>img{width:300px;height:200px}</style><div id=feed></div><div id=foot></div>
<script>
let next = 0;
async function load() {
  for (const id of await (await fetch(`/api?from=${next}`)).json()) {
    const image = new Image(); image.src = `/img/${id}.jpg`; feed.append(image); next++;
  }
  foot.innerHTML = next < 30 ? `<button id="b${Math.random().toString(36).slice(2)}">LABEL</button>` : '';
  if (next < 30) foot.firstChild.onclick = load;
}
load();</script>"""

ENDLESS = """<!doctype html><title>endless</title>
<style>img{width:300px;height:300px}</style><div id=feed></div><script>
let page = 0, busy = false;
async function load() {
  if (busy) return; busy = true;
  for (const id of await (await fetch(`/feed?page=${page++}`)).json())
    feed.insertAdjacentHTML('beforeend', `<a href="/photo/${id}"><img src="/img/${id}.jpg?size=small"></a>`);
  busy = false;
}
addEventListener('scroll', () => { if (scrollY + innerHeight > document.body.scrollHeight - 400) load(); });
load();</script>"""


def spec(site: Site, path: str, terms: list[str], **options: object) -> Spec:
    given = {"settle": 0.5, "delay": 0.02, "parallel": 2} | options
    return Spec(url=site.url + path, categories={"things": terms}, **given)  # type: ignore[arg-type]


def run(wanted: Spec, folder: Path, **options: object) -> tuple[CrawlReport, dict[str, list[str]]]:
    report = crawl(wanted, folder / "image_urls.json", allow_private=True, **options)  # type: ignore[arg-type]
    found = load_urls(folder / "image_urls.json").get("things", {})
    return report, {term: [url[url.index("/", 8) :] for url in urls] for term, urls in found.items()}


def lazy_page(site: Site, count: int) -> None:
    def route(path: str, _: dict[str, str]) -> Answer | None:
        if not path.startswith("/search"):
            return None
        term = parse_qs(urlsplit(path).query)["text"][0]
        return Answer(LAZY.replace("COUNT", str(count)).replace("TERM", term.replace(" ", "-")).encode())

    site.routes.append(route)


def test_lazy_pages_are_scrolled_to_the_end(tmp_path: Path, site: Site, chromium: str) -> None:
    lazy_page(site, 25)
    seen = []
    wanted = spec(
        site, "/search?text={search_term}", ["red apple", "quả cam"], rewrite=[(r"_m\.jpg|_n\.jpg|_w\.jpg", "_b.jpg")]
    )
    report, found = run(wanted, tmp_path, progress=seen.append)
    assert set(found) == {"red apple", "quả cam"}
    assert sorted(found["red apple"]) == sorted(
        ["/img/900.jpg", "/img/999.jpg", *(f"/thumb/red-apple_{n}_b.jpg" for n in range(25))]
    )
    assert len(found["quả cam"]) == 27
    assert [term.stopped for term in report.terms] == ["nothing new", "nothing new"]
    assert not report.failed
    assert not report.cancelled
    assert seen[-1].done == seen[-1].total
    assert not site.paths("/thumb"), "pictures are for the download, not for the crawl"
    assert not site.paths("/logo")


def test_max_images_ends_a_term(tmp_path: Path, site: Site, chromium: str) -> None:
    lazy_page(site, 60)
    report, found = run(spec(site, "/search?text={search_term}", ["a"], max_images=10), tmp_path)
    assert len(found["a"]) == 10
    assert report.terms[0].stopped == "enough"


@pytest.mark.parametrize(
    ("label", "load_more"), [("Load more", ""), ("Encore", "text=Encore"), ("Xem thêm", "#foot button")]
)
def test_a_button_whose_id_changes_is_pressed_until_it_is_gone(
    tmp_path: Path, site: Site, chromium: str, label: str, load_more: str
) -> None:
    site.routes.append(
        lambda path, _: Answer(MORE.replace("LABEL", label).encode()) if path.startswith("/s?") else None
    )
    site.routes.append(
        lambda path, _: (
            Answer(json.dumps([int(path.partition("=")[2]) + n for n in range(10)]).encode())
            if path[:4] == "/api"
            else None
        )
    )
    _, found = run(spec(site, "/s?q={search_term}", ["x"], load_more=load_more), tmp_path)
    assert found["x"] == [f"/img/{n}.jpg" for n in range(30)]


def endless_site(site: Site, *, pages: int) -> None:
    """A feed whose pages overlap, and which repeats its last page for ever."""

    def route(path: str, _: dict[str, str]) -> Answer | None:
        if path.startswith("/s?"):
            return Answer(ENDLESS.encode())
        if path.startswith("/feed"):
            page = min(int(path.partition("=")[2]), pages - 1)
            return Answer(json.dumps([page * 8 + n for n in range(12)]).encode())
        return None

    site.routes.append(route)


def test_an_endless_feed_with_duplicates_ends_when_nothing_new_comes(tmp_path: Path, site: Site, chromium: str) -> None:
    endless_site(site, pages=4)
    _, found = run(spec(site, "/s?q={search_term}", ["x"]), tmp_path)
    assert sorted(found["x"]) == sorted({f"/img/{n}.jpg?size=small" for n in range(36)})
    sources = json.loads((tmp_path / "image_urls.sources.json").read_text())["sources"]
    assert sources[f"{site.url}/img/3.jpg?size=small"] == {"page": f"{site.url}/photo/3"}


def test_the_largest_of_each_picture_and_its_licence(tmp_path: Path, site: Site, chromium: str) -> None:
    page = b"""<!doctype html><title>x</title><link rel=license href="/terms">
    <style>img{width:300px;height:200px}</style>
    <figure><img src="/s/1.jpg" srcset="/m/1.jpg 640w, /l/1.jpg 1920w, /s/1.jpg 320w">
      <a rel=license href="https://creativecommons.org/licenses/by/4.0/">CC BY</a></figure>
    <picture><source srcset="/l/2.webp 2x, /s/2.webp"><img src="/s/2.jpg"></picture>
    <a href="/full/3.jpg"><img src="/s/3.jpg" srcset="/m/3.jpg 9999w"></a>
    <img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="/l/4.jpg">
    <img src="/icon.jpg" style="width:32px;height:32px"><img src="/drawing.svg"><img src="ftp://h/5.jpg">
    <img src="/l/6.jpg#frag"><script type="application/ld+json">
      {"@graph":[{"@type":"ImageObject","contentUrl":"/l/6.jpg",
      "license":"https://h/own","creditText":"Ann"}]}</script>"""
    site.routes.append(lambda path, _: Answer(page) if path.startswith("/s?") else None)
    for mode in ("browser", "html"):
        folder = tmp_path / mode
        _, found = run(spec(site, "/s?q={search_term}", ["x"], mode=mode, min_side=50), folder)
        wanted = ["/l/1.jpg", "/l/2.webp", "/full/3.jpg", "/l/4.jpg", "/l/6.jpg"]
        if mode == "html":
            wanted.insert(4, "/icon.jpg")  # its size is in a style, which only a browser lays out
        assert found["x"] == wanted, mode
        sources = json.loads((folder / "image_urls.sources.json").read_text())["sources"]
        assert sources[f"{site.url}/l/1.jpg"]["license"] == "https://creativecommons.org/licenses/by/4.0/"
        assert sources[f"{site.url}/l/4.jpg"]["license"] == f"{site.url}/terms"
        assert sources[f"{site.url}/l/6.jpg"] == {
            "page": f"{site.url}/s?q=x",
            "license": "https://h/own",
            "credit": "Ann",
        }


def test_html_mode_follows_the_next_page(tmp_path: Path, site: Site) -> None:
    for number in range(3):
        following = f'<a rel=next href="/s?q=x&p={number + 1}">next</a>' if number < 2 else ""
        body = "".join(f'<img src="/img/{number * 4 + n}.jpg" width=200>' for n in range(5)) + following
        site.on("/s?q=x" + (f"&p={number}" if number else ""), Answer(body.encode()))
    report, found = run(spec(site, "/s?q={search_term}", ["x"], mode="html"), tmp_path)
    assert found["x"] == [f"/img/{n}.jpg" for n in range(13)]
    assert report.terms[0].stopped == "last page"


def test_json_mode_reads_pages_of_an_api(tmp_path: Path, site: Site) -> None:
    def route(path: str, _: dict[str, str]) -> Answer | None:
        asked = parse_qs(urlsplit(path).query)
        if "p" not in asked:
            return None
        page = int(asked["p"][0])
        items = [
            {"urls": {"full": f"/img/{page * 10 + n}.jpg"}, "link": f"/p/{n}", "license": "CC0", "user": {"name": "Bo"}}
            for n in range(10 if page < 3 else 0)
        ]
        return Answer(json.dumps({"data": {"results": items}}).encode(), type="application/json")

    site.routes.append(route)
    wanted = load_spec(
        {
            "url": site.url + "/api?q={search_term}&p={page}",
            "categories": {"things": ["x"]},
            "mode": "json",
            "delay": 0.0,
            "json": {
                "items": "data.results",
                "image": "urls.full",
                "page": "link",
                "license": "license",
                "credit": "user",
            },
        }
    )
    report, found = run(wanted, tmp_path)
    assert found["x"] == [f"/img/{n}.jpg" for n in range(10, 30)]
    assert (report.licensed, report.terms[0].stopped) == (20, "nothing new")
    source = json.loads((tmp_path / "image_urls.sources.json").read_text())["sources"][f"{site.url}/img/10.jpg"]
    assert source == {"page": f"{site.url}/p/0", "license": "CC0", "credit": "Bo"}


@pytest.mark.parametrize("mode", ["browser", "html"])
def test_refusals_of_robots_are_reasons(tmp_path: Path, site: Site, chromium: str, mode: str) -> None:
    picture = b'<!doctype html><title>x</title><img src="/img/1.jpg" width=200 height=200>'
    site.on("/robots.txt", Answer(b"User-agent: imgret-collect\nDisallow: /s?q=secret", type="text/plain"))
    site.on("/s?q=open", Answer(picture))
    site.on("/s?q=secret", Answer(picture))
    site.on("/s?q=tagged", Answer(picture, headers={"X-Robots-Tag": "otherbot: noindex, imgret-collect: x"}))
    site.on("/s?q=kept", Answer(picture, headers={"X-Robots-Tag": "noimageindex"}))
    site.on("/s?q=meta", Answer(b'<meta name="robots" content="noindex, nofollow">' + picture))
    wanted = spec(site, "/s?q={search_term}", ["open", "secret", "tagged", "kept", "meta"], mode=mode)
    report, found = run(wanted, tmp_path, retries=0)
    reasons = {failure.path: failure.reason for failure in report.failed}
    assert set(reasons) == {"things/secret", "things/kept", "things/meta"}
    assert "robots.txt" in reasons["things/secret"]
    assert "X-Robots-Tag" in reasons["things/kept"]
    assert "meta" in reasons["things/meta"]
    assert found["open"] == found["tagged"] == ["/img/1.jpg"]
    assert "/s?q=secret" not in site.paths()
    report, found = run(wanted, tmp_path, obey_robots=False)
    assert (report.failed, report.kept) == ([], 2)
    assert len(found["secret"]) == 1


@pytest.mark.parametrize("mode", ["browser", "html"])
def test_busy_and_broken_pages(tmp_path: Path, site: Site, chromium: str, mode: str) -> None:
    page = Answer(b'<!doctype html><title>x</title><img src="/img/1.jpg" width=200 height=200>')
    turns = iter([Answer(b"", 429, headers={"Retry-After": "1"}), Answer(b"", 500)])
    site.on("/s?q=busy", lambda: next(turns, page))
    site.on("/s?q=moved", Answer(b"", 302, headers={"Location": "/s?q=busy"}))
    report, found = run(spec(site, "/s?q={search_term}", ["busy", "gone"], mode=mode), tmp_path)
    assert found["busy"] == ["/img/1.jpg"]
    assert [(failure.path, "404" in failure.reason) for failure in report.failed] == [("things/gone", True)]
    times = [asked.at for asked in site.log if asked.path == "/s?q=busy"]
    assert times[1] - times[0] >= 0.99
    _, found = run(spec(site, "/s?q={search_term}", ["moved"], mode=mode), tmp_path)
    assert found["moved"] == ["/img/1.jpg"]


def test_finished_terms_are_not_read_again(tmp_path: Path, site: Site) -> None:
    site.routes.append(
        lambda path, _: Answer(b'<img src="/img/1.jpg">') if path.startswith("/s?") and path != "/s?q=c" else None
    )
    wanted = spec(site, "/s?q={search_term}", ["a", "b", "c"], mode="html")
    report, _ = run(wanted, tmp_path)
    assert len(report.failed) == 1
    report, found = run(spec(site, "/s?q={search_term}", ["a", "c", "d"], mode="html"), tmp_path)
    assert (report.kept, set(found)) == (1, {"a", "c", "d"})
    assert Counter(site.paths("/s?")) == {"/s?q=a": 1, "/s?q=b": 1, "/s?q=c": 2, "/s?q=d": 1}
    run(spec(site, "/s?q={search_term}", ["a"], mode="html", max_images=3), tmp_path)
    assert site.paths("/s?q=a") == ["/s?q=a"] * 2


def test_stopping_keeps_what_was_found(tmp_path: Path, site: Site, chromium: str) -> None:
    endless_site(site, pages=10_000)
    count: list[int] = []
    wanted = spec(site, "/s?q={search_term}", ["x", "y"], max_images=100_000, parallel=1)
    started = time.monotonic()
    report, found = run(wanted, tmp_path, progress=lambda p: count.append(p.done), cancelled=lambda: len(count) > 60)
    assert time.monotonic() - started < 15
    assert report.cancelled
    assert len(found["x"]) > 60
    assert report.terms[0].stopped == "stopped"


SSRF = """<!doctype html><title>x</title><img src="/img/1.jpg" width=200 height=200><script>
for (const url of ["INSIDE/fetch", "/hop", "file:///etc/passwd"]) fetch(url, {mode: 'no-cors'}).catch(() => 0);
new WebSocket("INSIDE/socket".replace('http', 'ws'));
document.write('<iframe src="INSIDE/frame"></iframe>');
document.write('<script src="INSIDE/script"><\\/script><link rel=stylesheet href="INSIDE/style">');
window.open("INSIDE/popup"); navigator.sendBeacon("INSIDE/beacon");
</script>"""


LET_ONE_THROUGH = """
import sys
from pathlib import Path
from imgret_tools.collect.net import guard
from imgret_tools.collect.steps.crawl import crawl
from imgret_tools.collect.spec import load_spec
judge = guard.why_refused
guard.why_refused = lambda address: "" if address in sys.argv[3].split() else judge(address)
print(crawl(load_spec(Path(sys.argv[1])), Path(sys.argv[2]), retries=0).urls)
"""


@pytest.mark.parametrize("through", ["127.0.0.1", "127.0.0.1 127.0.0.2"])
def test_page_scripts_cannot_reach_private_addresses(tmp_path: Path, site: Site, chromium: str, through: str) -> None:
    """The search page's own address is let through; the other, as private as it, sees nothing unless it is too."""
    inside = Site("127.0.0.2")
    site.on("/hop", Answer(b"", 302, headers={"Location": inside.url + "/redirected"}))
    site.routes.append(
        lambda path, _: Answer(SSRF.replace("INSIDE", inside.url).encode()) if path[:3] == "/s?" else None
    )
    wanted = {"url": site.url + "/s?q={search_term}", "categories": {"a": ["x"]}, "settle": 0.5, "delay": 0}
    (tmp_path / "spec.json").write_text(json.dumps(wanted))
    code = [sys.executable, "-c", LET_ONE_THROUGH, tmp_path / "spec.json", tmp_path / "image_urls.json", through]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    inside.close()
    assert done.stdout.strip() == "1"
    assert "/hop" in site.paths()
    reached = {path.strip("/") for path in inside.paths()}
    if "127.0.0.2" in through:
        assert reached >= {"fetch", "redirected", "socket", "frame", "script", "style"}
    else:
        assert reached == set()


@pytest.mark.parametrize("mode", ["browser", "html"])
def test_private_search_pages_are_refused(tmp_path: Path, site: Site, chromium: str, mode: str) -> None:
    wanted = spec(site, "/s?q={search_term}", ["x"], mode=mode)
    for obey in (True, False):
        report = crawl(wanted, tmp_path / f"{obey}.json", retries=0, obey_robots=obey)
        assert "loopback" in report.failed[0].reason
    assert site.log == []


def test_without_a_browser_the_error_names_one(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    with pytest.raises(CollectError, match="playwright install chromium"):
        crawl(spec(site, "/s?q={search_term}", ["x"]), tmp_path / "image_urls.json", allow_private=True)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"url": "https://h/?q="}, "search_term"),
        ({"url": "file:///{search_term}"}, "http"),
        ({"url": "https://h/{search_term}/{nonsense}"}, "nonsense"),
        ({"categories": {}}, "categories"),
        ({"categories": {"a": "b"}}, "list of search terms"),
        ({"mode": "magic"}, "browser"),
        ({"mode": "json"}, "json"),
        ({"max_images": "many"}, "max_images"),
        ({"max_images": 0}, "at least 1"),
        ({"rewrite": [["(", "x"]]}, "regular expression"),
        ({"typo": 1}, "typo"),
        ({"json": {"items": "x"}}, "image"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(changed: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load_spec({"url": "https://h/?q={search_term}", "categories": {"a": ["b"]}} | changed)


def test_specs_are_read_from_json_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "url: https://h/?q={search_term}\ncategories:\n  fruit: [orange, 7]\nrewrite:\n  '_m': _b\ndelay: 1\n", "utf-8"
    )
    (tmp_path / "spec.json").write_text(
        '{"url": "https://h/?q={search_term}", "categories": {"fruit": ["orange", "7"]},'
        ' "rewrite": [["_m", "_b"]], "delay": 1}'
    )
    assert load_spec(tmp_path / "spec.yaml") == load_spec(tmp_path / "spec.json")
    assert load_spec(tmp_path / "spec.yaml").page_url("fruit", "quả cam/&", 1) == "https://h/?q=qu%E1%BA%A3%20cam%2F%26"
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(BadInput, match="not YAML"):
        load_spec(tmp_path / "bad.yaml")
