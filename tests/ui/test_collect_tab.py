"""The collect tab in a real Chromium, against a small picture site on loopback."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import pytest
import uvicorn
from collect.sites import Answer, Site
from conftest import PHOTOS, photo
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.errors import BadInput
from imgret_tools.pictures.find import find_images
from imgret_tools.ui.app import mount
from imgret_tools.ui.collect_spec import categories_of, read_spec, spec_of, written
from imgret_tools.ui.patches import spoken
from imgret_tools.ui.tabs.collect import FOLDER, CollectTab
from imgret_tools.ui.texts.table import language_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The page runs in this process, and Gradio's own queue uses what pandas has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
MARKUP = "<img src=x onerror=alert(1)>"
SLOW, FAST = 40, 10


class Gallery:
    """A site with a search page a label: its real photos, their mirrors and crops, and what goes wrong on the net."""

    def __init__(self) -> None:
        self.site = Site()
        self.open = threading.Event()
        """While unset, the slow pictures after the first `FAST` are held back."""
        self.site.routes.append(self._answer)

    def _answer(self, path: str, _: dict[str, str]) -> Answer | None:
        if path.startswith("/search"):
            term = parse_qs(urlsplit(path).query)["q"][0]
            if term == "slow":
                names = [f"/slow/{number}.jpg" for number in range(SLOW)]
            else:
                label = "lion" if term == MARKUP else term
                names = [f"/{label}/{number}.jpg?{len(term)}" for number in range(3 * len(PHOTOS[label]))]
                names += ["/gone.jpg", "/page.jpg", "/tiny.jpg"] if label == "cheetah" else []
            return Answer(f"<title>{escape(term)}</title>{''.join(f'<img src={name}>' for name in names)}".encode())
        if path == "/page.jpg":
            return Answer(b"<b>no picture</b>", type="image/jpeg")
        if path == "/tiny.jpg":
            return Answer(jpeg(Image.new("RGB", (20, 20), "red")), type="image/jpeg")
        label, _, name = path.partition("?")[0].strip("/").partition("/")
        if label == "slow":
            if int(name.removesuffix(".jpg")) >= FAST:
                self.open.wait(15)
            label = "coffee"
        if label in PHOTOS and name.endswith(".jpg"):
            return Answer(variant(label, int(name.removesuffix(".jpg"))), type="image/jpeg")
        return None


def variant(label: str, number: int) -> bytes:
    """The `number`th picture of a label: a different part of one of its photos each time."""
    with Image.open(photo(PHOTOS[label][number % len(PHOTOS[label])])) as opened:
        image = opened.convert("RGB")
        width, height = image.size
        part = number // len(PHOTOS[label])
        left, top = (part * 0.17) % 0.5 * width, (part * 0.29) % 0.5 * height
        image = image.crop((int(left), int(top), int(left + width / 2), int(top + height / 2)))
        return jpeg(image.resize((240, 180)))


def jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def gallery() -> Iterator[Gallery]:
    running = Gallery()
    yield running
    running.site.close()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageTools]:
    folder = tmp_path_factory.mktemp("collect")
    settings = Settings(data_dir=folder / "data", encoder="mini", roots=(folder / "data" / FOLDER, folder / "mine"))
    with Runtime.open(settings) as runtime:
        yield ImageTools(runtime)


def page_of(tools: ImageTools, *, allow_private: bool) -> gr.Blocks:
    """A page that is the tab alone."""
    with gr.Blocks(analytics_enabled=False, fill_width=True) as page:
        language = gr.State("en")
        tab = CollectTab(tools, language, allow_private=allow_private)

        def begin(request: gr.Request) -> list[object]:
            chosen = language_of(request.query_params.get("lang"), request.headers.get("accept-language"))
            return [chosen, *spoken(tab.bound, chosen)]

        page.load(begin, None, [language, *(component for component, _ in tab.bound)], api_visibility="private")
    return page


@pytest.fixture(scope="module")
def served(tools: ImageTools) -> Iterator[dict[bool, str]]:
    """The address of a page that may fetch from private addresses (True), and of one that may not."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []
    addresses: dict[bool, str] = {}
    for private in (True, False):
        listening = socket.create_server(("127.0.0.1", 0))
        app = mount(tools, page_of(tools, allow_private=private))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread))
        addresses[private] = f"http://127.0.0.1:{listening.getsockname()[1]}"
    yield addresses
    for server, thread in running:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def visit(browser: Browser, served: dict[bool, str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(20_000)
    open_page(page, served[True])
    yield page
    context.close()


def open_page(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_function("document.querySelector('#collect_lead')?.innerText.length > 20")


def fill(page: Page, **fields: object) -> None:
    for name, value in fields.items():
        page.locator(f"#collect_{name} textarea, #collect_{name} input").first.fill(str(value))


def choose(page: Page, radio: str, value: str) -> None:
    page.locator(f"#collect_{radio} input[value={value}]").check()


def unfold(page: Page, *accordions: str) -> None:
    for name in accordions:
        page.locator(f"#collect_{name} > button").first.click()


def wait_for(page: Page, text: str, *, part: str = "report") -> str:
    """The text of the report once it holds `text`."""
    page.wait_for_function(
        "([part, text]) => document.querySelector(part)?.innerText.includes(text)", arg=[f"#collect_{part}", text]
    )
    return page.locator(f"#collect_{part}").inner_text()


def address(gallery: Gallery) -> str:
    return f"{gallery.site.url}/search?q={{search_term}}"


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_words_become_a_data_set_that_is_searched(visit: Page, gallery: Gallery, tools: ImageTools) -> None:
    unfold(visit, "more")
    words = f"cats: cheetah, lion\ndrinks: coffee\n{MARKUP}"
    fill(visit, url=address(gallery), words=words, name="wild & tame", contact="me@example.org", delay=0.01)
    choose(visit, "mode", "html")
    visit.locator("#collect").click()
    report = wait_for(visit, "The data set is in")
    assert "21 picture addresses for 4 words" in report
    assert "gone.jpg: the server answers 404" in report
    assert "page.jpg: not a picture" in report
    assert "(3 duplicate, 1 too small)" in report
    assert "No e-mail" not in report
    visit.wait_for_selector("#collected img")
    assert set(visit.locator("#collected .caption-label").all_inner_texts()) >= {"cheetah", "coffee"}
    visit.get_by_text("Word by word").click()
    assert f"words / {MARKUP}" in visit.locator("#collect_report table").first.inner_text()
    assert visit.locator("#collect_report img").count() == 0, "a word is text, never markup"
    (out,) = (tools.runtime.settings.data_dir / FOLDER).glob("wild-tame-*")
    assert str(out / "data") in report
    assert (out / "images-quarantine" / "too_small" / "cats" / "cheetah" / "tiny.jpg").exists()
    assert all("(+me@example.org)" in asked.headers["user-agent"] for asked in gallery.site.log)

    visit.locator("#collect_index").click()
    wait_for(visit, "Search the", part="indexed")
    assert visit.locator("#collect_indexed a").get_attribute("href") == "?library=wild%20%26%20tame&lang=en"
    count = len(find_images(out / "data" / "train").images)
    found = tools.search_similar_image(text="a cup of coffee", library="wild & tame", k=200)
    assert len(found.hits) == count > 5
    assert found.hits[0].label == "coffee"


def test_cancel_keeps_what_is_done_and_start_goes_on(
    visit: Page, gallery: Gallery, tools: ImageTools, served: dict[bool, str]
) -> None:
    def begin(page: Page) -> None:
        unfold(page, "more")
        fill(page, url=address(gallery), words="slow", name="slow", delay=0.05)
        choose(page, "mode", "html")
        page.locator("#collect").click()

    begin(visit)
    wait_for(visit, "Download: 10 of 40")
    assert visit.locator("#collect_report [role=progressbar]").get_attribute("aria-valuenow") == "25"
    second = visit.context.new_page()
    open_page(second, served[True])
    begin(second)
    wait_for(second, "Another run is writing to")
    second.close()
    visit.locator("#collect_cancel").click()
    visit.wait_for_timeout(500)
    gallery.open.set()
    assert "Start again to go on" in wait_for(visit, "Cancelled; what was done is kept")
    out = tools.runtime.settings.data_dir / FOLDER / "slow"
    kept = list((out / "images" / "words" / "slow").glob("*.jpg"))
    assert FAST <= len(kept) < SLOW
    assert not (out / "data").exists()

    before = gallery.site.paths("/slow")
    visit.locator("#collect").click()
    report = wait_for(visit, "The data set is in")
    assert "(1 of them from an earlier run)" in report
    assert f"{len(kept)} were there already" in report
    again = gallery.site.paths("/slow")[len(before) :]
    assert not {Path(path).name for path in again} & {path.name for path in kept}, "nothing is fetched twice"


def test_a_phone_in_vietnamese_takes_the_steps_of_a_spec_file_one_by_one(
    browser: Browser, served: dict[bool, str], gallery: Gallery, tools: ImageTools, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    form = {"url": address(gallery), "categories": "cats: cheetah", "mode": "html", "delay": 0.01, "test": 2}
    spec.write_text(written(spec_of("en", form)), "utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="vi-VN", color_scheme="dark")
    page = context.new_page()
    page.set_default_timeout(20_000)
    open_page(page, served[True])
    assert page.locator("#collect").inner_text() == "Bắt đầu"
    page.wait_for_function("document.querySelector('#collect_step').innerText.includes('Làm sạch')")
    assert "Làm sạch" in page.locator("#collect_steps").inner_text()
    unfold(page, "more", "text")
    fill(page, name="từng bước")
    with page.expect_file_chooser() as chooser:
        page.locator("#collect_file").click()
    chooser.value.set_files(spec)
    page.wait_for_function("document.querySelector('#collect_spec textarea').value.includes('cheetah')")
    for step, told in (
        ("split", "Trong "),
        ("crawl", "12 địa chỉ ảnh cho 1 từ khóa"),
        ("download", "2 lỗi"),
        ("clean", "(1 quá nhỏ)"),
        ("split", "2 ảnh test"),
    ):
        choose(page, "step", step)
        page.locator("#collect").click()
        wait_for(page, told)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.wait_for_selector("#collect_index")
    (out,) = (tools.runtime.settings.data_dir / FOLDER).glob("tung-buoc-*")
    assert {path.name for path in out.iterdir()} == {
        "image_urls.json",
        "image_urls.sources.json",
        "images",
        "images-quarantine",
        "data",
    }
    context.close()


def test_bad_input_is_one_clear_message_and_nothing_else(
    browser: Browser, served: dict[bool, str], gallery: Gallery, tools: ImageTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tools.runtime.settings.roots[-1]
    (mine / "images").mkdir(parents=True)
    (mine / "images" / "holiday.jpg").write_bytes(variant("cat", 0))
    page = browser.new_page(locale="en-US")
    page.set_default_timeout(20_000)
    open_page(page, served[False])
    unfold(page, "more", "text")
    good = {"url": "http://203.0.113.1/?q={search_term}", "words": "fruit: orange", "name": "bad", "contact": ""}
    rest = {"folder": "", "near": 6, "spec": ""}
    before, asked = tree(tools.runtime.settings.data_dir / FOLDER), len(gallery.site.log)
    for wrong, message in (
        ({"words": " \n "}, "There are no words"),
        ({"words": "fruit:"}, "The line 'fruit:' lacks"),
        ({"url": "http://203.0.113.1/<b>"}, "'http://203.0.113.1/<b>'; it needs {search_term}"),
        ({"url": "http://203.0.113.1/{nobody}{search_term}"}, "cannot be filled in"),
        ({"url": "ftp://203.0.113.1/{search_term}"}, "only http:// and https://"),
        ({"folder": "/etc"}, "outside the folders"),
        ({"folder": str(mine)}, "pictures that were not collected here"),
        ({"name": ""}, "cannot be used; give 1 to 80"),
        ({"contact": "ü"}, "give a URL or an e-mail address"),
        ({"near": 99}, "near is 99"),
        ({"spec": "- a"}, "The spec is a list"),
        ({"spec": "a: [*b]"}, "The spec uses a YAML alias"),
        ({"spec": "a: ["}, "neither JSON nor YAML"),
        ({"spec": "url: x\nwords: y"}, "keys nobody knows: words"),
        ({"url": "http://nowhere.invalid/{search_term}"}, "'nowhere.invalid' does not resolve"),
        ({"url": gallery.site.url + "/search?q={search_term}"}, "is a loopback address"),
        ({"url": "http://169.254.169.254/{search_term}"}, "is a link-local address"),
    ):
        fill(page, **{**good, **rest, **wrong})
        page.locator("#collect").click()
        assert message in wait_for(page, message)
        assert page.locator("#collect_report [role=alert]").count() == 1
        assert page.locator("#collect_report b").count() == 0
    monkeypatch.setattr(tools.runtime, "settings", replace(tools.runtime.settings, read_only=True))
    fill(page, **good, **rest)
    page.locator("#collect").click()
    wait_for(page, "shared read-only")
    assert tree(tools.runtime.settings.data_dir / FOLDER) == before
    assert [path.name for path in tree(mine)] == ["images", "holiday.jpg"]
    assert len(gallery.site.log) == asked
    page.close()


def test_a_silent_host_and_a_missing_browser_are_said(
    visit: Page, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    fill(visit, url=address(gallery), words="lion", name="silent")
    visit.locator("#collect").click()
    wait_for(visit, "No Chromium or Chrome was found")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fill(visit, url=f"http://127.0.0.1:{port}/{{search_term}}")
    choose(visit, "mode", "html")
    visit.locator("#collect").click()
    assert f"robots.txt of 127.0.0.1:{port} cannot be read" in wait_for(visit, "No picture address was found")


def test_the_form_is_written_as_a_spec(visit: Page) -> None:
    unfold(visit, "text")
    assert not visit.locator("#collect_image").is_visible()
    choose(visit, "mode", "json")
    visit.wait_for_selector("#collect_image textarea, #collect_image input")
    fill(
        visit, url="https://api.example.org/?q={search_term}", words="cam\ntáo, lê", items="results", image="urls.full"
    )
    visit.locator("#collect_from_form").click()
    visit.wait_for_function("document.querySelector('#collect_spec textarea').value.includes('urls.full')")
    text = visit.locator("#collect_spec textarea").input_value()
    spec = read_spec("en", text, {}, crawled=True)
    assert spec.categories == {"words": ["cam", "táo", "lê"]}
    assert spec.json is not None
    assert (spec.mode, spec.json.items, spec.json.image, spec.max_images) == ("json", "results", "urls.full", 50)


def test_words_are_read_by_category_or_alone() -> None:
    text = " fruit : orange, apple ,\n\nlion\nfruit: apple, pear\nred panda, wolf\n"
    assert categories_of("en", text) == {"fruit": ["orange", "apple", "pear"], "words": ["lion", "red panda", "wolf"]}
    for half in ("fruit:", ": orange", "fruit: ,", ":"):
        with pytest.raises(BadInput, match="lacks a category or words"):
            categories_of("en", half)
    with pytest.raises(BadInput, match="Chưa có từ khóa"):
        categories_of("vi", "")


def test_steps_after_the_crawl_need_no_search_page_and_empty_fields_are_defaults() -> None:
    spec = read_spec("en", "", {"url": "", "categories": "", "mode": "html", "near": None, "train": 3}, crawled=False)
    assert (spec.near, spec.train) == (6, 3)
    with pytest.raises(BadInput, match=r"it needs \{search_term\}"):
        read_spec("en", "", {"url": "", "categories": ""}, crawled=True)
