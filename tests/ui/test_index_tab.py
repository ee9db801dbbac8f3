"""The index tab: the libraries there are and what can be done with them, and runs that go on while their page is loaded again."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from conftest import WITH_TESTS, serving
from PIL import Image

from imgret_tools.errors import BadInput
from imgret_tools.records import Progress
from imgret_tools.ui.jobs import Run, Runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# An app with the encoder of the tests, which takes half a second for each batch of 32 pictures.
SERVED = """
import sys, time
from pathlib import Path
import fake_encoder
from imgret_tools import Settings
from imgret_tools.engine import runtime
from imgret_tools.ui import app
class Slow(fake_encoder.FakeEncoder):
    def encode_images(self, prepared):
        time.sleep(0.5 * (len(prepared) == 32))
        return super().encode_images(prepared)
runtime.make_encoder = lambda spec, **_: Slow()
app._prepare = lambda *_, **__: None
folder = Path(sys.argv[1])
app.serve(Settings(data_dir=folder / "data", encoder="mini", roots=(folder,)), folder=folder / "few", library="few", port=int(sys.argv[-1]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index_tab")
    for name, count in (("few", 3), ("many", 640)):
        (folder / name / "label").mkdir(parents=True)
        for number in range(count):
            colour = (number % 256, number // 256 * 80, len(name) * 20)
            Image.new("RGB", (8, 8), colour).save(folder / name / "label" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def slow_app(place: Path) -> Iterator[str]:
    with serving([sys.executable, "-c", SERVED, str(place)], place, seconds=90, PYTHONPATH=WITH_TESTS) as address:
        yield address


@pytest.fixture
def visit(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def opened(page: Page, url: str, tab: str = "Index") -> None:
    page.goto(url)
    page.locator("#title h1").wait_for()
    page.get_by_role("tab", name=tab).click()
    page.locator("#library_list li").first.wait_for()


def test_a_run_goes_on_and_is_cancelled_from_a_page_that_was_loaded_again(
    visit: Page, slow_app: str, place: Path
) -> None:
    opened(visit, slow_app)
    visit.locator("#folder textarea, #folder input").fill(str(place / "many"))
    visit.locator("#new_library textarea, #new_library input").fill("many")
    visit.locator("#index").click()
    visit.locator("#report [role=progressbar]").wait_for()
    opened(visit, f"{slow_app}/?lang=vi", "Lập chỉ mục")
    visit.locator("#report [role=progressbar]").wait_for()
    visit.locator("#report p", has_text="mỗi giây").wait_for()
    visit.locator("#cancel").click()
    visit.locator("#report", has_text="Đã hủy; phần đã làm được giữ lại.").wait_for()
    visit.locator("#library_list li", has_text="many").wait_for()  # the page knows the library that it did not begin


def test_a_library_is_named_anew_made_the_default_and_deleted_with_a_second_look(
    visit: Page, slow_app: str, place: Path
) -> None:
    opened(visit, slow_app)
    few = visit.locator("#library_list li", has_text="few")
    assert "3 pictures" in few.inner_text()
    assert str(place / "few") in few.inner_text()
    assert few.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    visit.locator("#chosen_library input").click()
    visit.get_by_role("option", name="few", exact=True).click()
    visit.locator("#new_name input, #new_name textarea").fill("Vài ảnh")
    visit.locator("#rename").click()
    renamed = visit.locator("#library_list li", has_text="Vài ảnh")
    renamed.wait_for()
    visit.wait_for_function("document.querySelector('#chosen_library input').value === 'Vài ảnh'")
    visit.get_by_role("tab", name="Map").click()
    visit.wait_for_function("document.querySelector('#map_library input').value === 'Vài ảnh'")
    visit.get_by_role("tab", name="Index").click()
    visit.locator("#make_default").click()
    renamed.locator("small", has_text=re.compile("^default$")).wait_for()
    Image.new("RGB", (8, 8), "white").save(place / "few" / "new.png")
    visit.locator("#index_again").click()
    visit.locator("#report", has_text="1 added").wait_for()
    visit.locator("#delete").click()
    visit.locator("#delete_sure", has_text="Delete library Vài ảnh?").wait_for()
    visit.locator("#delete_no").click()
    visit.locator("#delete_sure").wait_for(state="hidden")
    visit.locator("#delete").click()
    visit.locator("#delete_yes").click()
    renamed.wait_for(state="detached")
    assert len(list((place / "few").rglob("*.png"))) == 4


def test_what_is_wrong_is_said_in_the_language_of_the_page(visit: Page, slow_app: str) -> None:
    opened(visit, f"{slow_app}/?lang=vi", "Lập chỉ mục")
    visit.locator("#folder textarea, #folder input").fill("nowhere")
    visit.locator("#index").click()
    visit.locator("#report [role=alert]", has_text="Không có thư mục").wait_for()
    visit.locator("#new_name input, #new_name textarea").fill(" ")
    visit.locator("#rename").click()
    visit.get_by_text("Không dùng được tên thư viện").first.wait_for()


def test_the_language_that_was_chosen_holds_over_a_reload_and_is_in_the_address(visit: Page, slow_app: str) -> None:
    visit.goto(slow_app)
    visit.locator("#title h1", has_text="Image search").wait_for()
    visit.locator("#language label", has_text="VI").click()
    visit.locator("#title h1", has_text="Tìm kiếm ảnh").wait_for()
    visit.wait_for_url(re.compile("lang=vi"))
    visit.goto(slow_app)  # a link without a language
    visit.locator("#title h1", has_text="Tìm kiếm ảnh").wait_for()
    visit.wait_for_url(re.compile("lang=vi"))
    visit.goto(f"{slow_app}/?lang=en")  # what a link says counts
    visit.locator("#title h1", has_text="Image search").wait_for()
    assert visit.evaluate("document.documentElement.lang") == "en"


def asking(visitor: str) -> Any:
    return SimpleNamespace(session_hash=visitor)


def test_a_run_is_seen_by_who_comes_later_and_ends_with_its_report_in_each_language() -> None:
    runs: Runs[int] = Runs()
    go_on, told = threading.Event(), {"en": "done {}", "vi": "xong {}"}

    def work(progress: Any, cancelled: Any) -> int:
        progress(Progress("index", 1, 2, 1.5, 3.0, "a.jpg"))
        go_on.wait(10)
        return 7 if cancelled() else 8

    run = runs.start("indexing", work, lambda language, report: told[language].format(report))
    first = runs.shown("en", asking("one"), run)
    assert next(first) == "<p>Looking through the folder…</p>"
    assert "1.5 a second" in next(first)
    assert runs.latest is run
    later = runs.shown("vi", asking("two"), run)
    next(later)
    assert "lập chỉ mục: 1 trên 2 · 1,5 mỗi giây" in next(later)
    runs.cancel(asking("two"))
    go_on.set()
    assert (list(first), list(later)) == (["done 7"], ["xong 7"])
    assert runs.latest is None
    assert not runs._seen


def test_a_run_that_fails_says_why_and_a_mistake_of_ours_is_raised() -> None:
    def refuse(*_: object) -> int:
        raise BadInput("There is no file {path}.", path="a<b>")

    def break_(*_: object) -> int:
        raise RuntimeError("ours")

    *_, said = Run("indexing", refuse, lambda *_: "").shown("vi")
    assert said == "<p role='alert'>Không có tệp a&lt;b&gt;.</p>"
    with pytest.raises(RuntimeError, match="ours"):
        list(Run("indexing", break_, lambda *_: "").shown("en"))


def test_of_two_runs_a_visitor_sees_the_one_begun_last() -> None:
    runs: Runs[str] = Runs()
    stop = threading.Event()

    def work(*_: object) -> str:
        stop.wait(10)
        return "end"

    one = runs.shown("en", asking("x"), runs.start("indexing", work, lambda _, report: report))
    next(one)
    two = runs.shown("en", asking("x"), runs.start("indexing", work, lambda _, report: report))
    next(two)
    stop.set()
    assert list(two) == ["end"]
    assert list(one) in ([], ["end"])
