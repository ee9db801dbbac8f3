"""What a visitor reads of errors and notices, in the page's language; everybody else reads English."""

from __future__ import annotations

import ast
import copy
import pickle
import string
from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import gradio as gr
import orjson
import pytest
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools import errors as errors_module
from imgret_tools.collect.net.guard import FetchError
from imgret_tools.encoders.unread import Unread
from imgret_tools.engine import runtime as runtime_module
from imgret_tools.errors import BadInput, ImageError, ImgretError, Message
from imgret_tools.library.filters import parse_where
from imgret_tools.pictures.apart import APART
from imgret_tools.records import Failure
from imgret_tools.ui.patches import shown_errors
from imgret_tools.ui.texts.messages import VIETNAMESE, translated

ROOT = Path(__file__).parents[2] / "imgret_tools"
NOT_ON_THE_PAGE = {
    "cli.py", "collect/commands.py", "comparing/figure.py", "comparing/judge.py", "course/lab.py", "course/report.py",
    "engine/exchange.py", "engine/refine.py", "engine/tables.py", "mcp.py", "metrics.py", "ui/app.py",
}  # fmt: skip
"""Commands alone, tables of rows, agents' resources, the start of the app, and mistakes of a programmer's."""
RAISED = {
    name for name, kind in vars(errors_module).items() if isinstance(kind, type) and issubclass(kind, ImgretError)
} | {"FetchError", "ModelError", "Message"}
REASONS = {"PassedOver", "passed", "Refused"}
"""What passes a file over, or refuses a request: its second argument says why."""


def templates(path: Path) -> Iterator[tuple[int, str]]:
    """What a file says to people, and where; an f-string cannot be told in another language."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        # The kind of what is passed over is a short name to count by; its reason is said.
        said = node.args[:1] if name in RAISED else node.args[1:2] if name in REASONS else []
        for text in said:
            if isinstance(text, ast.JoinedStr) and not ast.unparse(text).startswith("f'{{start}}"):
                yield node.lineno, f"an f-string: {ast.unparse(text)}"
            elif isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield node.lineno, text.value


def test_all_that_a_visitor_can_meet_is_in_vietnamese_too() -> None:
    lacking = [
        f"{path.relative_to(ROOT)}:{line} {text}"
        for path in sorted(ROOT.rglob("*.py"))
        if str(path.relative_to(ROOT)) not in NOT_ON_THE_PAGE
        for line, text in templates(path)
        if text not in VIETNAMESE
    ]
    assert not lacking, "\n".join(lacking)


def test_the_list_of_what_is_not_on_the_page_names_files_that_are_there() -> None:
    assert all((ROOT / name).exists() for name in NOT_ON_THE_PAGE)


@pytest.mark.parametrize("template", VIETNAMESE)
def test_vietnamese_fills_in_the_same_values(template: str) -> None:
    def names(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    try:
        english = names(template)
    except ValueError:  # braces that stand for themselves: nothing is filled in
        return
    if all(name is None or name.isidentifier() for name in english):
        assert names(VIETNAMESE[template]) <= english


def test_an_error_is_its_english_text_and_is_said_in_vietnamese_down_to_its_reason() -> None:
    why = ImageError("takes longer than {seconds:.0f} s to decode; send it in another format", seconds=8.4)
    error = BadInput("Query picture {name} cannot be used: {error}. Give another picture.", name="a{b}.jpg", error=why)
    assert str(error) == (
        "Query picture a{b}.jpg cannot be used: takes longer than 8 s to decode; send it in another format. "
        "Give another picture."
    )
    assert translated("en", error) == str(error)
    assert translated("vi", error) == (
        "Không dùng được ảnh truy vấn a{b}.jpg: giải mã mất hơn 8 giây; hãy gửi ảnh ở định dạng khác. Hãy chọn ảnh khác."
    )
    assert translated("vi", pickle.loads(pickle.dumps(error))) == translated("vi", error)


def test_a_message_goes_through_records_and_json_as_the_text_that_it_is() -> None:
    message = Message("cannot be read: {reason}", reason="permission denied")
    failure = Failure("a.jpg", message)
    assert orjson.dumps(failure.to_dict()) == b'{"path":"a.jpg","reason":"cannot be read: permission denied"}'
    assert str(failure) == '"a.jpg": cannot be read: permission denied'
    assert translated("vi", str(failure)) == '"a.jpg": không đọc được: permission denied'
    assert copy.deepcopy(message).values == {"reason": "permission denied"}
    assert Message("{braces} stay") == "{braces} stay"
    assert translated("vi", Message("{megapixels:.4g}", megapixels=1.5)) == "1,5"


def test_a_message_is_kept_and_read_again() -> None:
    message = Message.joined(["", Message("Exact scan: {error}", error=BadInput("a writer waits for it")), "Other."])
    assert message == "Exact scan: a writer waits for it Other."
    assert Message.read(message.kept()) == message
    assert translated("vi", Message.read(message.kept())) == "Đã tìm chính xác: có lượt ghi đang chờ Other."
    for line in ("", "plain", "[1]", '{"template": 3}', '{"template": "{a.__class__}", "values": {"a": "b"}}'):
        assert Message.read(line) == line


def test_a_sentence_among_others_is_looked_up_too_and_keeps_its_braces() -> None:
    hnsw = "Exact scan: HNSW knows embeddings without filters only."
    message = Message.joined([hnsw, "a folder called {0}"])
    assert message == f"{hnsw} a folder called {{0}}"
    assert translated("vi", message) == (
        "Đã tìm chính xác: HNSW chỉ dùng cho embedding không có bộ lọc. a folder called {0}"
    )
    assert Message.read(message.kept()) == message


def test_what_of_a_text_is_not_read_is_said_in_vietnamese() -> None:
    told = str(Unread(emoji=("🍍",), words=("zzzzqqq",), nothing=True))
    assert told.startswith("Not read: emoji 🍍 (write pineapple); unknown words: zzzzqqq. Nothing is left of the text")
    assert translated("vi", told) == (
        "Không đọc được: biểu tượng cảm xúc 🍍 (write pineapple); từ không biết: zzzzqqq. "
        "Lời mô tả không còn lại gì, nên thứ tự này vô nghĩa; hãy dùng từ khác."
    )


def test_an_address_that_failed_keeps_what_it_knows() -> None:
    error = FetchError("the server answers {status}", status=503, wait=2.0)
    assert (str(error), error.wait, error.permanent) == ("the server answers 503", 2.0, False)
    assert translated("vi", error) == "máy chủ trả lời 503"


def test_the_page_shows_errors_in_its_language_and_the_api_in_english() -> None:
    with pytest.raises(gr.Error, match="Chưa có gì để lập chỉ mục"), shown_errors("vi"):
        raise BadInput("Nothing to index: give a folder on this machine, or drop pictures or a zip.")
    with pytest.raises(gr.Error, match="Nothing to index"), shown_errors():
        raise BadInput("Nothing to index: give a folder on this machine, or drop pictures or a zip.")


def test_filters_say_in_vietnamese_what_is_wrong() -> None:
    with pytest.raises(BadInput) as caught:
        parse_where(["width>=wide"])
    assert translated("vi", caught.value) == ('Bộ lọc "width>=wide": "wide" không phải số; hãy viết 1000 hoặc 48.8583.')


def test_why_a_picture_cannot_be_opened_comes_back_from_its_own_process() -> None:
    with pytest.raises(ImageError) as caught:
        APART.check(b"<html>no picture</html>", max_megapixels=10)
    assert translated("vi", caught.value).startswith("không phải ảnh")


def test_a_search_and_an_index_run_say_their_notices_in_vietnamese(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "make_encoder", fake_encoder.make)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "a.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    settings = Settings(data_dir=tmp_path / "data", roots=(tmp_path,))
    with Runtime.open(settings) as runtime:
        tools = ImageTools(runtime)
        report = tools.index(str(folder), encoder="fake")
        assert translated("vi", report.failed[0].reason).startswith("tệp JPEG hỏng")
        found = tools.search_similar_image(text="red", k=5)
        assert translated("vi", found.notice) == "Chỉ có 1 ảnh để tìm, ít hơn 5 ảnh được yêu cầu."
        none = tools.search_similar_image(text="red", where=["width>=9000"])
        assert translated("vi", none.notice).startswith("Không có ảnh nào thỏa mãn bộ lọc width>=9000: width đi từ 40")
        with pytest.raises(ImgretError) as caught:
            tools.search_similar_image(text="red", library="nope")
        assert translated("vi", caught.value) == (
            "Không có thư viện 'nope'; hiện có 'default'. Hãy lập chỉ mục một thư mục để tạo thư viện."
        )


def test_what_a_library_says_of_its_encoder_stays_translatable(tmp_path: Path) -> None:
    from imgret_tools.library.catalogue import Card
    from imgret_tools.library.library import Library

    notice = Message("The weights of {spec} (about 600 MB) are fetched from the hub once.", spec="openclip:A/b")
    library = Library.create(tmp_path / "one", Card("one", "fake", "f", 4, 8, notice=notice))
    assert library.card.notice == notice
    assert translated("vi", library.card.notice).startswith("Trọng số của openclip:A/b")


def test_a_shared_app_names_no_folder_in_either_language(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", roots=(tmp_path,), read_only=True)
    template = "There is no picture at {path}; give the path of an image file, or an id from a search."
    with Runtime.open(settings) as runtime:
        tools = ImageTools(runtime)
        with pytest.raises(ImgretError) as caught, tools._discreet():
            raise BadInput(template, path=tmp_path / "a.jpg")
    assert str(caught.value).startswith("There is no picture at a.jpg;")
    assert translated("vi", caught.value).startswith("Không có ảnh ở a.jpg;")
