"""The duplicates tab in a real Chromium: a folder with copies is indexed, and its groups are shown, listed and not touched."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import copy_photos, photo, serving
from PIL import Image, ImageOps

from imgret_tools.errors import Message
from imgret_tools.export import DUPLICATE_COLUMNS, duplicates_csv
from imgret_tools.records import DuplicateGroup, DuplicateReport, Hit
from imgret_tools.ui.jobs import Runs
from imgret_tools.ui.tabs.duplicates import MOST_GROUPS, MOST_HITS, told

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# An app whose comparing of pairs waits as long as there is a file `hold`.
SERVED = """
import sys, time
from pathlib import Path
from imgret_tools import Settings
from imgret_tools.engine import duplicates
from imgret_tools.ui import app
folder, refused = Path(sys.argv[1]), duplicates.refused
def patient(*pairs, **options):
    while (folder / "hold").exists():
        time.sleep(0.05)
    return refused(*pairs, **options)
duplicates.refused = patient
app.serve(Settings(data_dir=folder / "data", encoder="mini", roots=(folder,)), folder=folder / "photos", library="twice", port=int(sys.argv[-1]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duplicates")
    photos = copy_photos(folder / "photos")
    (photos / "copies").mkdir()
    with Image.open(photo("skimage/data/coffee.png")) as coffee:
        ImageOps.mirror(coffee.convert("RGB")).resize((300, 200)).save(photos / "copies" / "mirrored.jpg")
    with Image.open(photo("gradio/media_assets/images/lion.jpg")) as lion:
        width, height = lion.size
        lion.convert("L").crop((0, 0, int(0.9 * width), int(0.9 * height))).save(photos / "copies" / "grey.png")
    shutil.copyfile(photo("skimage/data/rocket.jpg"), photos / "copies" / "a <b>rocket.jpg")
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with serving([sys.executable, "-c", SERVED, str(place)], place) as served:
        yield served


@pytest.fixture(params=[(1280, "light"), (375, "dark")], ids=["wide", "phone"])
def visit(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, colours = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(40_000)
    page.goto(f"{address}/?lang=vi&library=twice")
    opened(page)
    yield page
    context.close()


def opened(page: Page) -> None:
    page.locator("#title h1", has_text="Tìm kiếm ảnh").wait_for(state="attached")
    tab = page.get_by_role("tab", name="Ảnh trùng")
    if tab.count() == 0 or not tab.first.is_visible():
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text="Ảnh trùng").click()
    else:
        tab.first.click()
    page.locator("#find_duplicates").wait_for()


def test_groups_are_shown_with_what_to_keep_and_why_and_are_listed(visit: Page, place: Path) -> None:
    before = sorted(path.name for path in (place / "photos").rglob("*.*"))
    visit.locator("#find_duplicates").focus()
    visit.keyboard.press("Enter")
    groups = visit.locator("#duplicates .imgret-twins")
    groups.nth(2).wait_for()
    assert groups.count() == 3, "two motorcycles and three cheetahs are no copies"
    texts = {name: groups.filter(has_text=name) for name in ("mirrored.jpg", "grey.png", "a <b>rocket.jpg")}
    assert all(group.count() == 1 and group.locator("li").count() == 2 for group in texts.values())
    kept = texts["mirrored.jpg"].locator(".keep")
    assert "coffee.png" in kept.inner_text()
    assert "Giữ: lớn hơn: 600 x 400" in kept.inner_text()
    assert str(place / "photos" / "coffee") in kept.inner_text()
    assert "cùng nội dung" in texts["a <b>rocket.jpg"].locator("h3").inner_text()
    assert "lion.jpg" in texts["grey.png"].locator(".keep").inner_text()
    for picture in visit.locator("#duplicates img").all():
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert picture.get_attribute("alt")
    assert visit.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page does not scroll sideways"
    with visit.expect_download() as started:
        visit.locator("#duplicates_csv").click()
    lines = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text("utf-8-sig"))))
    assert len(lines) == 6
    assert [line["keep"] for line in lines] == ["yes", ""] * 3
    assert {Path(line["path"]).name for line in lines if line["keep"]} >= {"coffee.png", "lion.jpg"}
    assert sorted(path.name for path in (place / "photos").rglob("*.*")) == before
    kept.locator("a").focus()
    visit.keyboard.press("Enter")
    visit.wait_for_selector("#hits img")
    assert "image=" in visit.url


def test_a_search_says_how_far_it_is_and_can_be_cancelled(visit: Page, place: Path) -> None:
    (place / "hold").touch()
    try:
        visit.locator("#find_duplicates").click()
        visit.locator("#duplicates [role=progressbar]").wait_for()
        visit.locator("#duplicates p", has_text="tìm các cặp giống nhau").wait_for()
        with visit.expect_response(lambda response: response.request.method == "POST"):
            visit.locator("#duplicates_cancel").click()
    finally:
        (place / "hold").unlink()
    visit.locator("#duplicates p", has_text="Đã hủy; đây là những gì tìm được").wait_for()
    visit.locator("#duplicates .imgret-twins", has_text="rocket").wait_for()  # the same file was found before


def hit(id_: str, path: str) -> Hit:
    metadata: dict[str, Any] = {"width": 8, "height": 6, "bytes": 10}
    return Hit(rank=1, id=id_, path=path, label="=cmd", score=1, value=1, metadata=metadata)


def report(groups: int, hits: int) -> DuplicateReport:
    one = [hit(f"id{number}", f"/home/me/{number}<i>.jpg") for number in range(hits)]
    reason = Message("larger: {width} x {height}", width=8, height=6)
    return DuplicateReport("lib", [DuplicateGroup("near", "id0", one, reason)] * groups, [])


def test_folders_are_shown_to_their_owner_only_and_names_are_no_markup() -> None:
    found = report(1, 2)
    own, shared = (told("vi", found, with_folders=shown) for shown in (True, False))
    assert "<code>/home/me</code>" in own
    assert "/home/me" not in shared
    assert "<i>" not in shared
    assert shared.count("Giữ: lớn hơn: 8 x 6") == 1
    assert shared.count("class=keep") == 1


def test_a_page_has_so_many_groups_and_the_file_all() -> None:
    found = report(MOST_GROUPS + 3, MOST_HITS + 2)
    html = told("en", found, with_folders=True)
    assert html.count("<section") == MOST_GROUPS
    assert "3 more groups are in the CSV file only." in html
    assert html.count("and 2 more") == MOST_GROUPS
    lines = list(csv.DictReader(io.StringIO(duplicates_csv(found).removeprefix("\ufeff"))))
    assert tuple(lines[0]) == DUPLICATE_COLUMNS
    assert len(lines) == (MOST_GROUPS + 3) * (MOST_HITS + 2)
    assert lines[0]["label"] == "'=cmd", "a spreadsheet would run it"
    assert "No picture is there twice" in told("en", report(0, 0), with_folders=True)


def test_a_visitor_cancels_no_search_of_another() -> None:
    runs: Runs[bool] = Runs()
    run = runs.start("indexing", lambda _, cancelled: not wait(cancelled), lambda _, report: str(report))
    runs.cancel(SimpleNamespace(session_hash="a stranger"), own=True)  # type: ignore[arg-type]
    assert run.running
    run.cancel()
    assert list(run.shown("en"))[-1] == "True"


def wait(cancelled: Any) -> None:
    while not cancelled():
        pass
