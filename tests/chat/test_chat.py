"""The chat with the offline model: what it does, remembers and refuses; and how models are made."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import entries_of, multiply
from langchain.agents import create_agent

from imgret_tools import ImageTools, Runtime
from imgret_tools.chat.__main__ import main
from imgret_tools.chat.events import Answered, Called, Said, Working
from imgret_tools.chat.models import ModelError, make_model
from imgret_tools.chat.offline import OfflineModel
from imgret_tools.chat.talk import Chat
from imgret_tools.errors import BadInput
from imgret_tools.langchain import as_langchain_tools
from imgret_tools.records import SearchReport


def turn(chat: Chat, text: str, picture: Path | None = None) -> tuple[str, list[Called], list[Answered]]:
    events = list(chat.ask(text, picture))
    said = "".join(event.text for event in events if isinstance(event, Said))
    return said, [e for e in events if isinstance(e, Called)], [e for e in events if isinstance(e, Answered)]


def labels(answered: Answered) -> list[str]:
    assert isinstance(answered.report, SearchReport)
    return [hit.label for hit in answered.report.hits]


@pytest.fixture
def chat(indexed: ImageTools) -> Chat:
    return Chat(indexed, OfflineModel())


def test_a_talk_remembers_what_was_found(chat: Chat) -> None:
    said, _, found = turn(chat, "find 4 pictures of a cheetah")
    assert labels(found[0])[:3] == ["cheetah"] * 3
    assert said.startswith("Found 4 pictures")
    second = found[0].report.hits[1].id  # type: ignore[union-attr]
    _, called, alike = turn(chat, "more like the second one")
    assert called[0].arguments["image"] == second
    assert labels(alike[0])[0] == "cheetah"
    said, called, _ = turn(chat, "chỉ nhãn cheetah")
    assert called[0].arguments == {"image": second, "where": ["label=cheetah"]}
    assert said.startswith("Tìm thấy 2 ảnh")
    _, called, _ = turn(chat, "hiện 1 ảnh")
    _, more, _ = turn(chat, "trang sau")
    assert more[0].arguments == called[0].arguments | {"offset": 1}
    _, called, _ = turn(chat, "so sánh các độ đo cho #1")
    assert called[0].name == "compare_metrics"


def test_indexing_tells_how_far_it_is_and_who_leaves_keeps_what_is_done(
    runtime: Runtime, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    multiply(photos, 6)
    chat = Chat(ImageTools(runtime), OfflineModel())
    turn_left = chat.ask("index the folder photos")
    working = next(event for event in turn_left if isinstance(event, Working))
    assert working.progress.total > working.progress.done
    turn_left.close()
    assert chat.messages == []
    assert len(runtime.library()) < working.progress.total
    stopping: list[object] = []
    for event in chat.ask("index the folder photos", cancelled=lambda: bool(stopping)):
        if isinstance(event, Working):
            stopping.append(event)
    kept = len(runtime.library())
    said, _, indexed = turn(chat, "index the folder photos")
    assert not indexed[0].failed
    assert f"unchanged {kept}" in said
    assert len(runtime.library()) == working.progress.total > kept


def test_one_sentence_can_need_several_tools(runtime: Runtime, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    chat = Chat(ImageTools(runtime), OfflineModel())
    said, called, answered = turn(chat, "find a rocket in photos and compare the measures")
    assert [call.name for call in called] == [
        "search_similar_image",
        "index_folder",
        "search_similar_image",
        "compare_metrics",
    ]
    assert [answer.failed for answer in answered] == [True, False, False, False]
    assert labels(answered[2])[0] == "rocket"
    assert "- Mean overlap@5: " in said
    assert " | " not in said  # the table stays with the tool


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("delete the second picture", "can't do that"),
        ("xóa ảnh thứ hai", "không làm được"),
        ("help", "index the folder photos"),
        ("giúp tôi", "lập chỉ mục thư mục photos"),
        ("more like #2", "no earlier result"),
        ("giống cái thứ hai", "Chưa có kết quả"),
        ("index /etc", "outside the folders"),
        ("find images like ../../x.png", "outside the folders"),
        ("find a cat in library nowhere", "There is no library"),
        ("find images like data:image/png;base64,iVBORw0KGgo.png", "base64 is broken"),
    ],
)
def test_what_it_cannot_do_it_says(chat: Chat, asked: str, told: str) -> None:
    assert told in turn(chat, asked)[0]


def test_an_upload_is_asked_about_by_a_name_of_the_talks_own(chat: Chat, indexed: ImageTools) -> None:
    lion = next(entry for entry in entries_of(indexed.runtime) if entry.label == "lion")
    _, called, answered = turn(chat, "find 3 pictures like this", Path(lion.path))
    assert called[0].arguments == {"image": "upload-1", "k": 3}
    assert labels(answered[0])[0] == "lion"
    assert lion.path not in answered[0].text.splitlines()[0]
    assert turn(chat, "", Path(lion.path))[1][0].arguments["image"] == "upload-2"
    other = Chat(indexed, OfflineModel())
    with pytest.raises(BadInput):
        list(other.ask("like this", Path(__file__)))
    assert other.messages == []


def test_it_runs_in_langchains_agent_too(indexed: ImageTools) -> None:
    agent = create_agent(OfflineModel(), as_langchain_tools(indexed))
    answer = agent.invoke({"messages": [("user", "find a rocket")]})["messages"][-1]  # type: ignore[list-item]
    assert str(answer.text).splitlines()[1].startswith('1. "rocket"')


def test_a_model_without_its_key_or_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="set OPENAI_API_KEY"):
        make_model("openai:some-model")
    monkeypatch.setenv("GROQ_API_KEY", "secret-value")
    with pytest.raises(ModelError, match="pip install langchain langchain-groq") as missing:
        make_model("groq:some-model")
    assert "secret-value" not in str(missing.value)
    with pytest.raises(ModelError, match="expected provider:model"):
        make_model("some-model")
    with pytest.raises(ModelError, match="nobodys"):
        make_model("nobodys:model")
    assert isinstance(make_model(""), OfflineModel)


def test_the_terminal_streams_answers_and_shows_calls(
    runtime: Runtime, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMGRET_ROOTS", str(photos.parent))
    monkeypatch.setenv("IMGRET_ENCODER", "mini")
    assert main([f"index {photos}"]) == 0
    shown = capsys.readouterr()
    assert "added 12" in shown.out
    assert "[index_folder(folder=" in shown.err
    monkeypatch.setattr("sys.stdin", io.StringIO("find a rocket\nmore like the ninth\nhelp\n"))
    assert main([]) == 0
    shown = capsys.readouterr()
    assert '1. "rocket"' in shown.out
    assert "only 5 pictures" in shown.out
    assert main(["--model", "nobody", "hello"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_it_runs_as_a_module() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "imgret_tools.chat", "help"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "index the folder photos" in done.stdout


def test_a_talk_about_what_there_is(chat: Chat) -> None:
    assert turn(chat, "how many pictures are there?")[0] == 'Library "default" holds 12 pictures.'
    assert turn(chat, "how many cheetahs are there?")[0] == '3 pictures are labelled "cheetah".'
    assert "look like it" in turn(chat, "how many red motorbikes are there")[0]
    assert '"default"' in turn(chat, "list the libraries")[0]
    assert '"cheetah" 3' in turn(chat, "có những nhãn nào?")[0]
    assert turn(chat, "đang ở thư viện nào?")[0] == 'Đây là thư viện "default": 12 ảnh.'
    assert "'default'" in turn(chat, "switch to library nowhere")[0]
    assert "no duplicates" in turn(chat, "find duplicates")[0] or "alike" in turn(chat, "find duplicates")[0]
    said, called, _ = turn(chat, "show all pictures with label cheetah")
    assert called[0].arguments == {"where": ["label=cheetah"], "sort": "newest"}
    assert said.startswith("3 pictures")


def test_pages_go_both_ways_without_a_number_said_before(chat: Chat) -> None:
    """`next page` after `find cats` multiplied None and ended the turn (case 43)."""
    _, _, first = turn(chat, "find pictures of animals")
    assert turn(chat, "previous page")[0] == "This is the first page already."
    _, called, _ = turn(chat, "next page")
    assert called[0].arguments["offset"] == 5
    _, called, _ = turn(chat, "trang sau")
    assert called[0].arguments["offset"] == 10
    _, called, _ = turn(chat, "trang trước")
    assert called[0].arguments["offset"] == 5
    _, called, again = turn(chat, "page 1")
    assert "offset" not in called[0].arguments
    assert again[0].report.hits == first[0].report.hits  # type: ignore[union-attr]


def test_undo_goes_back_search_by_search(chat: Chat) -> None:
    turn(chat, "find a rocket")
    turn(chat, "find a lion")
    turn(chat, "only 2")
    assert turn(chat, "undo")[1][0].arguments == {"text": "lion"}
    assert turn(chat, "hoàn tác")[1][0].arguments == {"text": "rocket"}
    assert turn(chat, "undo")[0] == "There is no earlier search to go back to."


def test_a_hit_is_shown_by_its_number_and_deleting_is_refused(chat: Chat) -> None:
    _, _, found = turn(chat, "find a lion")
    said, called, _ = turn(chat, "describe the first one")
    assert called[0].name == "show_image"
    assert called[0].arguments["image"] == found[0].report.hits[0].id  # type: ignore[union-attr]
    assert " px" in said
    assert "nothing here deletes" in turn(chat, "delete #1")[0]
    assert turn(chat, "thanks!")[0] == "You're welcome."
    assert turn(chat, "cảm ơn bạn")[0] == "Không có gì."


def test_a_switch_lasts_until_the_next(runtime: Runtime, photos: Path) -> None:
    for label in ("lion", "cat"):
        runtime.index(photos / label, library=f"of_{label}")
    chat = Chat(ImageTools(runtime), OfflineModel())
    assert '"of_cat": 1' in turn(chat, "switch to library of_cat")[0]
    assert turn(chat, "find an animal")[2][0].report.library == "of_cat"  # type: ignore[union-attr]
    turn(chat, "switch to library nowhere")
    assert turn(chat, "how many pictures are there")[1][0].arguments["library"] == "of_cat"
    turn(chat, "chuyển sang thư viện of_lion")
    assert turn(chat, "show the newest pictures")[2][0].report.library == "of_lion"  # type: ignore[union-attr]
