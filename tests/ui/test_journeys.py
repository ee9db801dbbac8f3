"""What people do with the page, from the first click to the file in their hands, in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from conftest import ROOT, photo
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CI = bool(os.environ.get("CI"))
Size = Literal["desktop", "phone"]
VIEWPORTS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
TABS = {
    "en": {"search": "Search", "map": "Map", "index": "Index", "chat": "Chat", "collect": "Collect"},
    "vi": {"search": "Tìm kiếm", "map": "Bản đồ", "index": "Lập chỉ mục"},
}
HIT = "#hits .grid-container button"


def field(page: Page, name: str) -> str:
    return f"#{name} textarea, #{name} input"


def go_to(page: Page, name: str) -> None:
    """Open a tab by its name, out of the menu of those that a narrow page has no room for."""
    page.wait_for_selector("#title h1")  # the server has named the tabs
    tab = page.get_by_role("tab", name=name)
    if tab.count():
        tab.click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown").get_by_role("button", name=name).click()


def captions(page: Page) -> list[str]:
    page.wait_for_selector("#hits img")
    return [caption.split(" · ")[0] for caption in page.locator("#hits .caption-label").all_inner_texts()]


def open_first(page: Page) -> None:
    page.wait_for_selector("#hits img")
    page.locator(HIT).first.click()
    page.wait_for_selector("#full_picture img")


def wait_for_captions(page: Page, expected: set[str]) -> None:
    page.wait_for_function(
        """expected => { const found = [...document.querySelectorAll("#hits .caption-label")].map((one) => one.innerText.split(" · ")[0]);
        return found.length && found.every((one) => expected.includes(one)); }""",
        arg=sorted(expected),
    )


def download(page: Page, selector: str) -> bytes:
    with page.expect_download() as started:
        page.locator(selector).click()
    return Path(started.value.path()).read_bytes()


@pytest.mark.parametrize(
    ("size", "language", "words"), [("desktop", "en", "a rocket"), ("phone", "vi", "tên lửa")], ids=["desktop", "phone"]
)
def test_from_a_folder_to_a_link_and_files(
    browser: Browser, app: str, size: Size, language: Literal["en", "vi"], words: str, tmp_path: Path
) -> None:
    library, tabs = f"trip {language}", TABS[language]
    context = browser.new_context(viewport=VIEWPORTS[size], locale="vi-VN" if language == "vi" else "en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto(app)
    page.wait_for_selector("#status p")
    go_to(page, tabs["index"])
    page.locator(field(page, "folder")).fill("photos")
    page.locator(field(page, "new_library")).fill(library)
    page.locator("#index").click()
    page.wait_for_selector("#report .imgret-failed")
    assert "12" in page.locator("#report strong").inner_text()

    if size == "phone":
        page.locator("#report a").click()
        page.wait_for_url(re.compile("library="))
        page.wait_for_function("name => document.querySelector('#library')?.value === name", arg=library)
    else:
        go_to(page, tabs["search"])
        page.locator(f"#library option[value='{library}']").wait_for(state="attached")
        page.locator("#library").select_option(library)
    page.locator(field(page, "query_text")).fill(words)
    page.locator("#search").click()
    page.wait_for_selector("#hits .match")
    wait_for_captions(page, {"rocket", "tower", "motorcycle", "cat", "cheetah", "coffee", "lion", "people"})
    assert captions(page)[0] == "rocket"
    page.wait_for_url(re.compile("text="))

    open_first(page)
    page.locator("#more_like_this").click()
    page.wait_for_url(re.compile("image="))
    page.wait_for_selector("#board:not(.asking)")
    assert "rocket" not in captions(page)  # an indexed query is left out of its own hits
    shared, seen = page.url, captions(page)

    open_first(page)
    page.locator("#compare_this").click()
    page.wait_for_selector("#comparison td.hit img")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    go_to(page, tabs["search"])
    page.locator("#downloads button").first.click()
    rows = list(csv.DictReader(io.StringIO(download(page, "#download_csv").decode())))
    assert [row["label"] for row in rows] == seen
    assert [hit["label"] for hit in json.loads(download(page, "#download_json"))["hits"]] == seen
    (tmp_path / "results.html").write_bytes(download(page, "#download_html"))
    context.close()

    second = browser.new_context(viewport=VIEWPORTS[size]).new_page()
    second.set_default_timeout(30_000)
    second.goto(shared)
    assert captions(second) == seen
    second.context.close()

    offline = browser.new_context(offline=True).new_page()
    asked: list[str] = []
    offline.on("request", lambda request: asked.append(request.url))
    offline.goto((tmp_path / "results.html").as_uri())
    loaded = offline.eval_on_selector_all("img", "images => images.map((one) => one.naturalWidth > 0)")
    assert loaded == [True] * len(seen)
    assert all(url.startswith(("file:", "data:")) for url in asked)
    offline.context.close()


def test_filters_have_counts_and_a_link(page: Page, app: str) -> None:
    page.goto(f"{app}/?text=an+animal")
    page.locator("#filters button").first.click()
    page.locator("#label").select_option(label="cheetah (3)")
    wait_for_captions(page, {"cheetah"})
    page.wait_for_url(re.compile("where=label"))
    page.goto(page.url)
    wait_for_captions(page, {"cheetah"})
    assert len(captions(page)) == 3
    page.locator("#filters button").first.click()
    assert page.locator(field(page, "where")).input_value() == "label=cheetah"
    assert page.locator("#label").input_value() == "label=cheetah"
    page.locator("#label").select_option("")  # a facet could not be cleared
    page.wait_for_function("document.querySelectorAll('#hits img').length > 3")
    assert "where=" not in page.url
    assert "label" not in page.locator("#chips").inner_text()


def test_what_does_not_fit_is_left_out_and_the_page_says_so(page: Page, app: str) -> None:
    page.goto(f"{app}/?text=a+cheetah&match=strong")
    wait_for_captions(page, {"cheetah"})
    page.goto(f"{app}/?text=asdfgh&match=fair&lang=vi")
    page.wait_for_function("document.querySelector('#status')?.innerText.includes('Không có ảnh nào phù hợp')")
    page.goto(f"{app}/?also=text%3Da+cheetah%0Anot_text%3Da+lion:1&k=2")
    wait_for_captions(page, {"cheetah"})


def test_a_label_is_given_with_the_encoders_help(page: Page, app: str) -> None:
    page.goto(f"{app}/?text=a+cup+of+coffee&k=1")
    open_first(page)
    page.wait_for_selector("#suggested button")
    assert "espresso" in page.locator("#suggested").inner_text()
    page.locator("#give_label input").fill("cà phê <b>")
    page.locator("#save_label").click()
    page.wait_for_selector("#labelled small")
    assert "cà phê <b>" in page.locator("#labelled").inner_text()
    page.goto(f"{app}/?text=a+cup+of+coffee&where=label%3Dc%C3%A0+ph%C3%AA+%3Cb%3E")
    wait_for_captions(page, {"cà phê <b>"})
    open_first(page)
    page.locator("#suggested button").first.click()  # one click takes a suggestion
    page.wait_for_selector("#labelled small")
    page.locator("#give_label input").fill("")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#detail_name').innerText === 'coffee'")
    page.goto(f"{app}/?text=a+cup+of+coffee&k=1")
    wait_for_captions(page, {"coffee"})


def test_history_and_favourites_stay_in_the_browser(page: Page, app: str) -> None:
    for words in ("a lion", "the moon"):
        page.goto(app)
        page.wait_for_selector("#status p")
        page.locator(field(page, "query_text")).fill(words)
        page.keyboard.press("Enter")
        page.wait_for_selector("#hits .match")
        page.wait_for_url(re.compile("text="))
    open_first(page)
    page.locator("#favourite").click()
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("#hits img")
    page.locator("#history button").first.click()
    page.wait_for_selector("#history li a")
    assert page.locator("#history li a").all_inner_texts() == ["the moon", "a lion"]
    assert page.locator("#history time").count() == 2
    page.locator("#favourites button").first.click()
    page.locator("#favourites li a").click()
    page.wait_for_url(re.compile("image="))
    page.go_back()
    page.wait_for_url(re.compile("text=the"))
    assert page.locator("#query_text input").input_value() == "the moon", "the form shows what is asked"
    page.locator("#favourites button").first.click()
    page.locator("#favourites li button").click()
    page.wait_for_selector("#favourites li", state="detached")


def test_keys_alone_are_enough(page: Page, app: str) -> None:
    page.goto(app)
    page.wait_for_selector("#status p")
    page.keyboard.press("/")
    page.keyboard.type("a motorcycle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits .match")
    assert captions(page)[0] == "motorcycle"
    page.locator(HIT).first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#full_picture img")
    page.wait_for_selector("#facts td")
    first = page.locator("#facts td").last.inner_text()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "first => [...document.querySelectorAll('#facts td')].at(-1)?.innerText !== first", arg=first
    )
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail", state="hidden")


ON_SCREEN = """index => { const plot = JSON.parse(document.querySelector(".imgret-plot").textContent), canvas = document.querySelector("#map canvas");
const scale = Math.min(canvas.clientWidth, canvas.clientHeight) / 2.2, frame = canvas.getBoundingClientRect();
return [frame.left + frame.width / 2 + plot.x[index] * scale, frame.top + frame.height / 2 - plot.y[index] * scale]; }"""
"""Where a dot of the whole map lies."""


def draw_map(page: Page) -> None:
    page.wait_for_selector("#hits img", state="attached")
    go_to(page, "Map")
    page.wait_for_function("document.querySelector('#map_library input')?.value")  # it follows the search
    page.locator("#draw_map").click()
    page.wait_for_selector("#map canvas[data-zoom]", timeout=60_000)


def test_the_map_shows_pictures_and_leads_to_them(page: Page, app: str) -> None:
    page.goto(app)
    draw_map(page)
    ids = page.evaluate("JSON.parse(document.querySelector('.imgret-plot').textContent).ids")
    assert len(ids) >= 25
    page.mouse.move(*page.evaluate(ON_SCREEN, 3))
    page.wait_for_selector(".imgret-point > img")
    page.wait_for_selector("#map canvas:not([data-at=''])")
    page.locator("#map canvas").focus()
    at = "document.querySelector('#map canvas').dataset.at"
    first, before = page.evaluate(at), page.locator(".imgret-point > img").get_attribute("src")
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):  # beside a dot at the edge lies none in one of them
        page.keyboard.press(key)
        page.wait_for_timeout(100)
        if page.evaluate(at) != first:
            break
    page.wait_for_function("before => document.querySelector('.imgret-point > img').src !== before", arg=before)
    page.locator(".imgret-point a").click()
    page.wait_for_url(re.compile("image="))
    assert captions(page)
    assert page.evaluate(at), "the page was not loaded anew"


def test_the_map_is_moved_and_pictures_are_taken_from_it_with_a_lasso(page: Page, app: str) -> None:
    page.goto(f"{app}/?library=demo")
    draw_map(page)
    page.locator("[data-act=nearer]").click()
    page.wait_for_selector("#map canvas[data-zoom='1.60']")
    page.locator("#map canvas").hover()
    page.mouse.wheel(0, -400)
    page.wait_for_function("Number(document.querySelector('#map canvas').dataset.zoom) > 2")
    page.locator("[data-act=reset]").click()
    page.wait_for_selector("#map canvas[data-zoom='1.00']")
    page.locator("[data-act=lasso]").click()
    x, y = page.evaluate(ON_SCREEN, 3)
    page.mouse.move(x - 9, y - 9)
    page.mouse.down()
    for dx, dy in ((9, -9), (9, 9), (-9, 9)):
        page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()
    page.get_by_text(re.compile(r"Show these \d+ pictures")).click()
    page.wait_for_url(re.compile("where=id"))
    page.locator("#chips").get_by_text("chosen pictures").wait_for()
    page.wait_for_selector("#board:not(.asking) #hits img")
    taken = page.evaluate("new URL(location.href).searchParams.get('where').slice(3).split('|')")
    fourth = page.evaluate("JSON.parse(document.querySelector('.imgret-plot').textContent).ids[3]")
    assert fourth in taken
    assert page.locator("#hits .tile").count() == len(taken)


def test_why_a_hit_matches_is_shown(page: Page, app: str) -> None:
    page.goto(f"{app}/?text=a+cheetah&k=3")
    open_first(page)
    page.locator("#why").click()
    page.wait_for_selector("#why_explained img")
    assert "cheetah" in page.locator("#why_explained").inner_text()


@pytest.fixture
def strange(tmp_path: Path) -> dict[str, Path]:
    """Pictures that are none, or too much."""
    files = {"text.jpg": tmp_path / "text.jpg", "huge.png": tmp_path / "huge.png"}
    files["text.jpg"].write_text("not a picture")
    Image.new("1", (20_000, 10_500)).save(files["huge.png"])
    return files


@pytest.mark.parametrize("language", ["en", "vi"])
def test_the_chat_finds_the_pictures_of_the_library_that_is_open(page: Page, app: str, language: str) -> None:
    asked, found = {"en": ("find 3 lions", "Found 3 pictures"), "vi": ("tìm 3 ảnh sư tử", "Tìm thấy 3 ảnh")}[language]
    page.goto(f"{app}/?lang={language}")
    page.wait_for_selector("#status p")
    go_to(page, "Chat" if language == "en" else "Trò chuyện")
    page.locator("#chat_box textarea").fill(asked)
    page.locator("#chat_box textarea").press("Enter")
    page.wait_for_selector("#chat .imgret-answer img")
    page.get_by_text(found).wait_for()


def test_an_upload_that_is_no_picture_is_refused_in_words(page: Page, app: str, strange: dict[str, Path]) -> None:
    for name, told in (("text.jpg", "not a picture"), ("huge.png", "megapixel")):
        page.goto(app)
        page.wait_for_selector("#status p")
        page.wait_for_selector("#hits img")
        page.locator("#query_image input[type=file]").set_input_files(strange[name])
        page.wait_for_selector("#status [role=alert]")
        assert told in page.locator("#status").inner_text().lower()
        assert page.locator("#board.refused").count() == 1, "the old results are dimmed"


def test_markup_in_names_and_exif_is_shown_not_run(page: Page, app: str, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    exif = Image.Exif()
    exif[0x0110] = evil  # the camera's model
    with Image.open(photo("skimage/data/coffee.png")) as picture:
        picture.convert("RGB").save(tmp_path / f"{evil}.jpg", exif=exif)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(app)
    page.wait_for_selector("#status p")
    go_to(page, "Index")
    page.locator("#uploads input[type=file]").set_input_files(tmp_path / f"{evil}.jpg")
    page.wait_for_timeout(1500)
    page.locator(field(page, "new_library")).fill("evil")
    page.locator("#index").click()
    page.wait_for_selector("#report strong")
    page.goto(f"{app}/?library=evil&text=coffee")
    open_first(page)
    page.wait_for_selector("#facts td")
    assert evil in page.locator("#facts").inner_text()
    page.locator("#why").click()
    page.wait_for_selector("#why_explained img")
    page.goto(f"{app}/?library={evil}&text={evil}")
    page.wait_for_selector("#status [role=alert]")
    page.wait_for_timeout(1000)  # whatever else the link sets off
    assert dialogs == []
    assert page.locator("img[src='x']").count() == 0


GRADIOS_OWN: dict[str, str] = {}
"""Findings of axe-core in what Gradio draws and we cannot reach, by rule: why."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_has_no_serious_finding(browser: Browser, app: str, scheme: Literal["light", "dark"]) -> None:
    script = ROOT / ".ci" / "node" / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        reason = f"needs: npm install --no-save --prefix .ci/node axe-core (looked for {script})"
        if CI:
            pytest.fail(reason)
        pytest.skip(reason)
    context = browser.new_context(viewport=VIEWPORTS["desktop"], color_scheme=scheme, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(30_000)

    def check(part: str) -> None:
        page.wait_for_timeout(700)  # colours fade in
        page.evaluate(script.read_text("utf-8"))
        found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
        serious = {
            finding["id"]: [node["html"][:200] for node in finding["nodes"]]
            for finding in found
            if finding["impact"] in ("serious", "critical") and finding["id"] not in GRADIOS_OWN
        }
        assert serious == {}, part

    page.goto(f"{app}/?text=a+lion")
    page.wait_for_selector("#hits img")
    for part in ("filters", "options", "history", "favourites", "downloads"):
        page.locator(f"#{part} button").first.click()
    check("search")
    open_first(page)
    page.locator("#why").click()
    page.wait_for_selector("#why_explained img")
    check("one hit")
    page.locator("#compare_this").click()
    page.wait_for_selector("#comparison td.hit img")
    check("compare")
    draw_map(page)
    page.mouse.click(*page.evaluate(ON_SCREEN, 0))
    page.wait_for_selector(".imgret-point a")
    check("map")
    for name in ("Index", "Chat", "Collect"):
        go_to(page, name)
        check(name)
    context.close()
