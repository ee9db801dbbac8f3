"""The `imgret` command as a user runs it: output, JSON, exit status, one plain line for an error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import copy_photos

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with photos, indexed into the library `default`."""
    folder = tmp_path_factory.mktemp("cli")
    copy_photos(folder / "photos")
    done = imgret(folder, "index", "photos", "--encoder", "mini", "--json")
    assert done.returncode == 0, done.stderr
    return folder


def imgret(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMGRET_")}
    environment |= {"IMGRET_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "imgret_tools.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_index_again_changes_nothing(world: Path) -> None:
    report = answer(imgret(world, "index", "photos", "--json"))
    assert {name: report[name] for name in ("library", "encoder", "added", "updated", "unchanged", "removed", "failed")} == {
        "library": "default", "encoder": "mini", "added": 0, "updated": 0, "unchanged": 12, "removed": 0, "failed": [],
    }  # fmt: skip
    assert {"folder", "seconds", "images_per_second", "stages"} <= report.keys()


def test_search_by_text_image_and_id(world: Path) -> None:
    by_text = answer(imgret(world, "search", "--text", "a cheetah", "--k", "3", "--json"))
    assert {"library", "encoder", "query", "measure", "space", "searched", "seconds", "hits"} <= by_text.keys()
    hits = by_text["hits"]
    assert isinstance(hits, list)
    assert [hit["label"] for hit in hits] == ["cheetah"] * 3
    assert {"rank", "id", "path", "label", "score", "value", "metadata"} <= hits[0].keys()
    by_image = answer(imgret(world, "search", "--image", "photos/lion/lion.jpg", "--measure", "l2", "--json"))
    assert by_image["hits"][0]["label"] == "lion"  # type: ignore[index]
    assert by_image["hits"][0]["value"] == pytest.approx(0, abs=1e-3)  # type: ignore[index]
    by_id = answer(imgret(world, "search", "--image", hits[0]["id"], "--json"))
    assert hits[0]["id"] not in [hit["id"] for hit in by_id["hits"]]  # type: ignore[attr-defined]


def test_html_and_csv_are_written(world: Path) -> None:
    imgret(world, "search", "--text", "coffee", "--html", "out.html", "--csv", "out.csv")
    assert (world / "out.csv").read_text("utf-8-sig").splitlines()[0].startswith("rank,id,label,score,value,path")
    page = (world / "out.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")


def test_compare_one_query_and_a_labelled_set(world: Path) -> None:
    one = answer(imgret(world, "compare", "--image", "photos/cheetah/cheetah.jpg", "--plot", "out.png", "--json"))
    assert {"k", "rows", "agreement"} <= one.keys()
    assert {(row["space"], row["measure"]) for row in one["rows"]} >= {  # type: ignore[attr-defined]
        (space, measure) for space in ("embedding", "pixels") for measure in ("cosine", "l2", "l1", "pearson")
    }
    assert (world / "out.png").read_bytes().startswith(b"\x89PNG")
    many = answer(imgret(world, "compare", "--queries", "photos", "--json"))
    row = many["rows"][0]  # type: ignore[index]
    assert {"queries", "precision_at_1", "precision_at_k", "map"} <= row.keys()


def test_libraries_info_and_doctor(world: Path) -> None:
    assert answer(imgret(world, "libraries", "--json"))["libraries"][0]["name"] == "default"  # type: ignore[index]
    assert answer(imgret(world, "info", "--json"))["images"] == 12
    assert answer(imgret(world, "doctor", "--rebuild", "--json")) == {
        "library": "default",
        "images": 12,
        "rebuilt": 12,
        "problems": [],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "missing"], "missing"),
        (["index", "data.txt"], "data.txt"),
        (["index", "photos", "--encoder", "nonsense"], "nonsense"),
        (
            ["index", "photos", "--library", "new", "--encoder", "openclip:ViT-B-32:/no/such.safetensors"],
            "/no/such.safetensors",
        ),
        (["search", "--text", "cat", "--k", "0"], "of at least 1"),
        (["search", "--text", " "], "empty"),
        (["search"], "give an image"),
        (["search", "--text", "cat", "--measure", "manhattan"], "cosine, l2, l1, pearson"),
        (["search", "--text", "cat", "--library", "zoo"], "zoo"),
        (["search", "--text", "cat", "--where", "colour=red"], "colour"),
        (["search", "--image", "data.txt"], "data.txt"),
        (["search", "--text", "cat", "--space", "pixels"], "picture alone"),
        (["compare"], "--queries"),
        (["serve", "--auth", "nopassword"], "USER:PASS"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_1(world: Path, arguments: list[str], said: str) -> None:
    (world / "data.txt").write_text("no picture")
    done = imgret(world, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_more_than_there_is_gives_what_there_is_and_says_so(world: Path) -> None:
    report = answer(imgret(world, "search", "--text", "cat", "--k", "50", "--json"))
    assert len(report["hits"]) == 12  # type: ignore[arg-type]
    assert "12 images" in str(report["notice"])


def test_wrong_usage_is_status_2(world: Path) -> None:
    assert imgret(world, "search", "--nonsense").returncode == 2
    assert imgret(world, "nonsense").returncode == 2


# Shell habits


def raw(
    folder: Path, *arguments: str, stdin: bytes = b"", encoding: str = "utf-8"
) -> subprocess.CompletedProcess[bytes]:
    """`imgret` with bytes in and out, as a pipe sees it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMGRET_")}
    environment |= {"IMGRET_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "imgret_tools.cli", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def accented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with two files of one name, one of them under Vietnamese and the other under an emoji."""
    folder = tmp_path_factory.mktemp("accented")
    copy_photos(folder / "photos")
    for label, picture in (("quả xoài ẩự", "lion/lion.jpg"), ("🐶", "tower/tower.jpg")):
        (folder / "P" / label).mkdir(parents=True)
        (folder / "photos" / picture).rename(folder / "P" / label / "1.jpg")
    done = imgret(folder, "index", "P", "--encoder", "mini")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    "arguments",
    [("libraries",), ("search", "--text", "x", "--json"), ("search", "--text", "x", "--paths"), ("--help",)],
)
def test_a_reader_that_closes_the_pipe_is_no_failure(world: Path, arguments: tuple[str, ...]) -> None:
    environment = os.environ | {"IMGRET_DATA_DIR": str(world / "data"), "PYTHONPATH": str(ROOT)}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "imgret_tools.cli", *arguments]
    done = subprocess.run(command, cwd=world, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp1258", "utf-8"])
def test_any_encoding_of_stdout_prints(accented: Path, encoding: str) -> None:
    text = raw(accented, "search", "--text", "a lion", encoding=encoding)
    assert (text.returncode, text.stderr) == (0, b"")
    label = {"utf-8": "quả xoài ẩự", "cp1258": "qua\u0309 xoài â\u0309ư\u0323", "cp1252": r"qu\u1ea3 xoài \u1ea9\u1ef1"}
    assert label.get(encoding, r"qu\u1ea3 xo\xe0i \u1ea9\u1ef1") in text.stdout.decode(encoding)
    as_json = raw(accented, "search", "--text", "a lion", "--json", encoding=encoding)
    assert {hit["label"] for hit in json.loads(as_json.stdout)["hits"]} == {"quả xoài ẩự", "🐶"}


def test_paths_alone_can_be_opened_and_read_back(accented: Path) -> None:
    lines = raw(accented, "search", "--text", "a lion", "--paths", encoding="ascii").stdout
    zeros = raw(accented, "search", "--text", "a lion", "--print0").stdout
    assert lines.replace(os.linesep.encode(), b"\0") == zeros
    paths = [Path(os.fsdecode(path)) for path in zeros.split(b"\0")[:-1]]
    assert [path.is_file() for path in paths] == [True, True]
    for stdin in (lines, zeros, b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n")):
        again = raw(accented, "search", "--image", "-", "--k", "1", "--json", stdin=stdin)
        searches = json.loads(again.stdout)["searches"]
        assert [Path(one["hits"][0]["path"]) for one in searches] == paths
    one = raw(accented, "search", "--image", "-", "--json", stdin=lines.splitlines()[0])
    assert Path(json.loads(one.stdout)["hits"][0]["path"]) == paths[0]


def test_the_text_names_files_as_the_next_image(accented: Path) -> None:
    text = raw(accented, "search", "--text", "a lion").stdout.decode()
    named = [json.loads(re.findall(r'"[^"]*"', line)[-1]) for line in text.splitlines()[1:3]]
    assert len(set(named)) == 2
    for path in named:
        assert raw(accented, "search", "--image", path).returncode == 0


def test_one_bad_path_of_many_costs_only_itself(accented: Path) -> None:
    good = "P/🐶/1.jpg".encode()
    done = raw(accented, "search", "--image", "-", "--k", "1", "--paths", stdin=b"P/gone.jpg\n" + good + b"\n")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [str(accented / "P" / "🐶" / "1.jpg")]
    assert b"no picture at 'P/gone.jpg'" in done.stderr
    nothing = raw(accented, "search", "--image", "-", stdin=b"\n")
    assert (nothing.returncode, nothing.stderr.count(b"\n")) == (1, 1)
    assert b"no path on stdin" in nothing.stderr


def test_csv_goes_to_a_file_for_excel_or_plain_to_stdout(accented: Path) -> None:
    plain = raw(accented, "search", "--text", "a lion", "--csv", "-").stdout
    assert plain.startswith(b"rank,id,")
    assert raw(accented, "search", "--text", "a lion", "--csv", "o.csv").stdout.startswith(b"2 of 2 matching pictures")
    assert (accented / "o.csv").read_bytes() == b"\xef\xbb\xbf" + plain
    assert raw(accented, "search", "--text", "a lion", "--html", "-").stdout.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    "arguments",
    [("--json", "--paths"), ("--paths", "--print0"), ("--csv", "-", "--json"), ("--csv", "-", "--html", "-")],
)
def test_stdout_holds_one_thing(accented: Path, arguments: tuple[str, ...]) -> None:
    done = raw(accented, "search", "--text", "x", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"stdout can be one of" in done.stderr


def test_k_has_no_cap_in_the_shell(world: Path) -> None:
    found = answer(imgret(world, "search", "--text", "an animal", "--k", "100000", "--json"))
    assert len(found["hits"]) == found["searched"] == 12  # type: ignore[arg-type]


def test_filters_read_alike_in_one_option_and_in_two(world: Path) -> None:
    one = answer(imgret(world, "search", "--text", "x", "--where", "label=lion|cat, width>=10", "--json"))
    two = answer(
        imgret(world, "search", "--text", "x", "--where", "label=LION|cat", "--where", "width>=10.0", "--json")
    )
    assert [hit["id"] for hit in one["hits"]] == [hit["id"] for hit in two["hits"]]  # type: ignore[attr-defined]
    assert len(one["hits"]) == 2  # type: ignore[arg-type]


def test_text_that_is_no_unicode_is_refused_in_one_line(world: Path) -> None:
    for arguments in (("--text", "a\udcffb"), ("--text", "x", "--where", "label=a\udcff"), ("--text", "\u200b")):
        done = raw(world, "search", *arguments)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"Unicode" in done.stderr or b"show nothing" in done.stderr


def test_a_library_is_renamed_and_made_the_default(world: Path) -> None:
    assert imgret(world, "index", "photos", "--encoder", "mini", "--library", "one").returncode == 0
    assert answer(imgret(world, "rename", "one", "Một", "--json")) == {"library": "one", "name": "Một"}
    found = json.dumps(answer(imgret(world, "libraries", "--json")), ensure_ascii=False)
    assert '"Một"' in found
    assert '"one"' not in found
    refused = imgret(world, "libraries", "--default", "one")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert imgret(world, "delete", "Một", "--yes").returncode == 0
