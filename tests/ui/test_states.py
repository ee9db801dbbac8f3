"""The search page has one state: chips, form, address, results, downloads and history cannot disagree."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import photo
from playwright.sync_api import expect

from imgret_tools.tools import MAX_K
from imgret_tools.ui.link import PAGE, Asked

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def asked(page: Page, url: str) -> None:
    page.goto(url)
    settled(page)


def settled(page: Page) -> None:
    page.wait_for_selector("#board:not(.asking) #hits img")


def chips(page: Page) -> list[str]:
    return page.locator("#chips bdi").all_inner_texts()


def test_what_a_link_says_wrongly_is_as_usual_and_a_state_comes_back_from_its_link() -> None:
    wrong = {
        "measure": "best",
        "group": "size",
        "k": "many",
        "match": "perfect",
        "sort": "1",
        "refine": "yes",
        "image": " x ",
    }
    assert Asked.of_link(wrong, "demo") == Asked("demo", image="x")
    state = Asked(
        "a", "cat", "dog", "upload-0123456789ab", "l1", "pixels", 7, "label=x", "fair", "text=y", "off", "name", "month"
    )
    assert Asked.of_link(state.link(), "demo") == state
    assert Asked.of_link({}, "demo").link() == {"library": "demo"}


def test_pages_end_where_enough_was_asked_for() -> None:
    assert (Asked("a").page(0), Asked("a", k=50).page(48), Asked("a", k=50).page(50)) == (PAGE, 2, 0)
    assert Asked("a", text="x", sort="name").page(0) == MAX_K
    assert (Asked("a", text="x", group="label").page(0), Asked("a", group="label").page(0)) == (MAX_K, PAGE)


def test_a_first_visit_browses_and_offers_what_to_try(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo")
    assert page.locator("#status p").first.inner_text().endswith(" pictures")
    assert page.locator("#hits .match").count() == 0
    word = page.locator("#trying button").first
    text = word.inner_text()
    word.click()
    page.wait_for_selector("#hits .match")
    assert page.locator("#query_text input").input_value() == text
    assert chips(page) == [f"“{text}”"]
    assert f"text={text}" in page.url


def test_more_like_this_leaves_no_old_words_or_picture(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo&text=a+lion")
    page.locator("#query_image input").set_input_files(photo("skimage/data/coffee.png"))
    page.wait_for_url(re.compile("image=upload-"))
    settled(page)
    page.locator("#hits .tile").nth(1).click()
    page.locator("#more_like_this").click()
    page.wait_for_url(lambda url: "image=" in url and "upload-" not in url)
    settled(page)
    assert page.locator("#query_text input").input_value() == ""
    assert "text=" not in page.url
    assert len(chips(page)) == 1
    assert "upload" not in chips(page)[0]
    assert not page.locator("#detail").is_visible()


def test_a_link_and_the_history_hold_an_uploaded_picture(page: Page, browser: Browser, app: str) -> None:
    asked(page, f"{app}/?library=demo")
    page.locator("#query_image input").set_input_files(photo("skimage/data/coffee.png"))
    page.wait_for_url(re.compile("image=upload-"))
    page.wait_for_selector("#hits .match")
    page.locator("#history button").first.click()
    assert "image=upload-" in str(page.locator("#history li a").first.get_attribute("href"))
    second = browser.new_context().new_page()
    asked(second, page.url)
    assert second.locator("#hits .caption-label").first.inner_text() == "coffee"
    assert second.locator("#chips img").count() == 1
    second.goto(re.sub("upload-[0-9a-f]+", "upload-000000000000", page.url))
    second.locator("#status [role=alert]").wait_for()
    assert "send the picture again" in second.locator("#status").inner_text()
    second.context.close()


def test_a_picture_is_dropped_anywhere(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo")
    data = list(photo("gradio/media_assets/images/lion.jpg").read_bytes())
    page.evaluate(
        """data => { const held = new DataTransfer();
        for (const name of ["lion.jpg", "second.jpg"]) held.items.add(new File([new Uint8Array(data)], name, { type: "image/jpeg" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true })); }""",
        data,
    )
    page.wait_for_url(re.compile("image=upload-"))
    page.wait_for_selector("#hits .match")
    assert page.locator("#hits .caption-label").first.inner_text() == "lion"
    page.get_by_text("The first of 2 files").wait_for()


def test_downloads_hold_the_search_that_is_shown(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo&text=a+lion&k=2")
    page.locator("#downloads button").first.click()
    page.locator("#query_text input").fill("a rocket")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("rocket"))
    settled(page)
    page.locator("#downloads button").first.click()
    with page.expect_download() as waited:
        page.locator("#download_json").click()
    report = json.loads(Path(waited.value.path()).read_text())
    assert report["query"]["text"] == "a rocket"
    assert [hit["label"] for hit in report["hits"]] == page.locator("#hits .caption-label").all_inner_texts()


def test_the_panel_holds_the_focus_and_back_closes_it_without_the_server(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo&text=a+cheetah")
    url = page.url
    page.locator("#hits button").first.click()
    page.wait_for_selector("#facts td")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "!document.activeElement || document.activeElement === document.body || !!document.activeElement.closest('#detail')"
        )
    page.locator("#favourite").click()
    assert page.locator("#favourite").get_attribute("aria-pressed") == "true"
    page.locator("#favourite").click()
    assert page.locator("#favourite").get_attribute("aria-pressed") == "false"
    assert page.locator("#favourites li").count() == 0
    page.context.set_offline(True)
    page.go_back()
    page.wait_for_selector("#detail", state="hidden")
    assert page.url == url
    page.context.set_offline(False)


def test_the_language_is_remembered_and_numbers_have_its_comma(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo&text=a+cheetah")
    page.wait_for_selector("#title h1")
    page.locator("#language").get_by_text("VI").click()
    page.wait_for_url(re.compile("lang=vi"))
    asked(page, f"{app}/?library=demo&text=a+cheetah")
    page.wait_for_url(re.compile("lang=vi"))
    page.locator("#hits button").first.click()
    page.wait_for_selector("#facts td")
    assert re.search(r"\d,\d+ MB", page.locator("#facts").inner_text())
    assert page.locator("#query_text input").get_attribute("placeholder") == "Mô tả ảnh, hoặc dán hay thả một ảnh vào"


def test_a_library_that_is_not_there_is_named(page: Page, app: str) -> None:
    page.goto(f"{app}/?library=nope")
    page.locator("#status [role=alert]").wait_for()
    assert "nope" in page.locator("#status").inner_text()


def test_a_phone_has_results_in_sight_and_targets_for_fingers(browser: Browser, app: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="vi-VN")
    page = context.new_page()
    asked(page, f"{app}/?library=demo&text=con+m%C3%A8o")
    page.wait_for_selector("#title h1")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('#hits img').getBoundingClientRect().bottom < innerHeight")
    small = page.evaluate(
        """[...document.querySelectorAll('#ask button, #ask select, #query_image, #chips button, #narrow .fold > button, #bar button, #bar select')]
        .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44).map((one) => one.id || one.textContent)"""
    )
    assert small == []
    context.close()


def picked(page: Page) -> int:
    return int(page.locator("#hits .tile.picked").count())


def test_several_pictures_are_selected_labelled_kept_packed_and_searched_for(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo&text=a+coffee+cup")
    page.locator("#hits .tile").nth(1).hover()
    page.locator("#hits .check").nth(1).click()
    page.locator("#hits .tile").nth(4).click(modifiers=["Shift"])
    expect(page.locator("#picked_count")).to_have_text("4 selected")
    page.locator("#hits .tile").nth(2).click()  # while some are selected a click selects, or takes back
    expect(page.locator("#picked_count")).to_have_text("3 selected")
    page.keyboard.press("Escape")
    page.locator("#picked").wait_for(state="hidden")
    assert picked(page) == 0

    names = page.locator("#hits .tile bdi").all_inner_texts()[:2]
    for place in range(2):
        page.locator("#hits .tile").nth(place).hover()
        page.locator("#hits .check").nth(place).click()
    with page.expect_download() as waited:
        page.locator("#zip_them").click()
    with zipfile.ZipFile(waited.value.path()) as packed:
        assert len(packed.namelist()) == 2
        assert packed.testzip() is None
    page.locator("#favourite_them").click()
    expect(page.locator("#favourite_them")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#favourites li")).to_have_count(2)
    page.locator("#favourite_them").click()
    expect(page.locator("#favourites li")).to_have_count(0)

    for label, shown in (("mine <b>", ["mine <b>", "mine <b>"]), ("", names)):
        page.locator("#label_them button").first.click()
        page.locator("#label_them input").fill(label)
        page.keyboard.press("Enter")
        page.locator("#picked").wait_for(state="hidden")
        assert page.locator("#hits .tile bdi").all_inner_texts()[:2] == shown
        for place in range(2):
            page.locator("#hits .tile").nth(place).hover()
            page.locator("#hits .check").nth(place).click()

    page.locator("#more_like_these").click()
    page.wait_for_url(re.compile("also=image"))
    settled(page)
    assert chips(page) == ["like this", "like this"]
    page.locator("#picked").wait_for(state="hidden")


def test_a_finger_that_stays_on_a_picture_selects_it(browser: Browser, app: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    asked(page, f"{app}/?library=demo")
    touch = "(type) => { const one = document.querySelector('#hits .tile img'); one.dispatchEvent(new PointerEvent(type, { pointerType: 'touch', bubbles: true })); }"
    page.evaluate(touch, "pointerdown")
    page.locator("#picked").wait_for()
    page.evaluate(touch, "pointerup")
    page.locator("#hits .tile").nth(1).tap()
    expect(page.locator("#picked_count")).to_have_text("2 selected")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#pick_none").tap()
    page.locator("#picked").wait_for(state="hidden")
    context.close()


def test_pictures_stand_under_their_labels_or_months(page: Page, app: str) -> None:
    asked(page, f"{app}/?library=demo")
    page.locator("#group").select_option("label")
    page.wait_for_selector("#hits h3")
    settled(page)
    headings = page.locator("#hits h3 bdi").all_inner_texts()
    assert headings == sorted(headings, key=str.casefold)
    assert len(headings) > 5
    counts = [int(one) for one in page.locator("#hits h3 small").all_inner_texts()]
    assert sum(counts) == int(page.locator("#status p").first.inner_text().split()[0])
    page.wait_for_url(re.compile("group=label"))
    page.locator("#query_text input").fill("a lion")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits .match")
    assert page.locator("#hits h3 bdi").first.inner_text() == "lion"
    page.locator("#downloads button").first.click()
    with page.expect_download() as waited:
        page.locator("#download_json").click()
    report = json.loads(Path(waited.value.path()).read_text())
    assert [hit["label"] for hit in report["hits"]] == page.locator("#hits .caption-label").all_text_contents()
    asked(page, f"{app}/?library=demo&group=month&lang=vi")
    assert page.locator("#hits h3 bdi").last.inner_text() == "Không rõ ngày chụp"
