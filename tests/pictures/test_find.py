"""What counts as a photo: content before name, nothing without a word, what systems and people keep out stays out."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import samples
from PIL import Image

from imgret_tools.errors import BadInput
from imgret_tools.pictures import find, formats
from imgret_tools.pictures.find import FoundImage, PassedOver, Skipped, find_images, walk
from imgret_tools.pictures.formats import FORMATS, OTHERS, SUFFIXES, format_of, suffix_of
from imgret_tools.pictures.thumbnails import ThumbnailCache


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def put(folder: Path, *names: str) -> None:
    """The scene as JPEG under each name."""
    data = samples.in_format(folder.parent / "scene.jpg").read_bytes()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def taken(folder: Path, **options: object) -> list[str]:
    found = walk(folder, **options)  # type: ignore[arg-type]
    return [entry.path.relative_to(folder).as_posix() for entry in found if isinstance(entry, FoundImage)]


def kinds(folder: Path, **options: object) -> dict[str, str]:
    found = walk(folder, **options)  # type: ignore[arg-type]
    return {
        Path(entry.path).relative_to(folder).as_posix(): entry.kind for entry in found if isinstance(entry, PassedOver)
    }


# --- content decides -----------------------------------------------------------------------------------------------

ODD_NAMES = ("latest", "photo.jpg_large", "a.jpg ", "q.jpg?w=300", ".jpg", "x.JPG!d", "image.dat", "no.suffix.here")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_picture_is_one_whatever_it_is_called(photos: Path, name: str) -> None:
    put(photos, name)
    assert taken(photos) == [name]


@pytest.mark.parametrize("name", ["latest", "photo.jpg_large", "q.jpg?w=300", "notes.txt"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<!doctype html><title>Not here</title>", "web page"),
        (b"just some words, BM and P5 among them\n", "text"),
        (b"P1 is not a bitmap, it is a Formula 1 position\n", "text"),
        (b"BMW and other makes\n", "text"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"%PDF-1.7\n", "document"),
        (b"PK\3\4\x14\0\0\0", "archive"),
        (bytes(range(128, 192)), "text"),
        (bytes(64), "unknown"),
    ],
)
def test_what_is_no_picture_is_counted_by_its_kind(photos: Path, name: str, content: bytes, kind: str) -> None:
    (photos / name).write_bytes(content)
    assert taken(photos) == []
    assert kinds(photos) == {name: kind}


def test_every_format_written_here_is_known_by_its_head(tmp_path: Path) -> None:
    """A format that `format_of` misses is lost as soon as its suffix is odd."""
    for suffix in samples.SAVERS:
        head = samples.in_format(tmp_path / f"scene{suffix}").read_bytes()[: formats.HEAD]
        assert format_of(head) == SUFFIXES[suffix].name, suffix
    for name in ("P1", "P2", "P3", "P4", "P5", "P6"):
        assert format_of(f"{name}\n# made by hand\n64 48\n".encode()) == "PPM"
    assert format_of(b"Pf\n64 48\n-1.0\n") == "PPM"
    for size in (12, 40, 52, 64, 108, 124):
        assert format_of(b"BM" + bytes(12) + struct.pack("<I", size)) == "BMP"
    samples.corners().save(tmp_path / "icon.ico")
    assert format_of((tmp_path / "icon.ico").read_bytes()[:64]) == "ICO"
    assert (
        format_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "HEIF"
    )  # what comes first; decoders are tried in turn
    assert format_of(b"\0\0\0\x1cftypisom\0\0\0\0iso2heic") == "HEIF"
    for head in (b"\xff\x0a\x00", b"\0\0\0\x0cJXL \r\n\x87\n"):
        assert format_of(head) == "JXL"
    for head in (
        b"<svg xmlns",
        b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<svg>",
        b"<!-- a --><svg\n",
        b"<!DOCTYPE svg PUBLIC",
    ):
        assert format_of(head) == "SVG"
    for head in (b"II*\0\x10\0\0\0CR\2\0", b"FUJIFILMCCD-RAW ", b"IIU\0\x18", b"IIRO\x08", b"\0\0\0\x18ftypcrx \0"):
        assert format_of(head) == "RAW"


def test_the_tables_do_not_contradict_each_other() -> None:
    assert not set(SUFFIXES) & set(OTHERS)
    suffixes = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix_of(f"x{suffix.upper()} ") for suffix in (*suffixes, *OTHERS))


def test_every_file_is_found_or_counted(photos: Path) -> None:
    """The suffix gate dropped files without a word: 9 picture files of 10 in a folder of cameras' and designers' files."""
    put(photos, "a.jpg", "b/c.png", *ODD_NAMES)
    others = [f"{number}{suffix}" for number, suffix in enumerate(OTHERS)]
    for name in (*others, "empty", ".hidden", "Thumbs.db", ".DS_Store", "x.zzz"):
        (photos / name).write_bytes(b"" if name == "empty" else b"\1\2\3\4")
    skipped = Skipped(most=3)
    images = 0
    for entry in walk(photos):
        if isinstance(entry, FoundImage):
            images += 1
        else:
            assert entry.reason
            assert entry.kind
            skipped.add(entry)
    assert images == 2 + len(ODD_NAMES)
    assert images + skipped.counts.total() == sum(path.is_file() for path in photos.rglob("*"))
    assert skipped.counts["system file"] == 2
    assert skipped.counts["empty"] == skipped.counts["unknown"] == skipped.counts["hidden"] == 1
    assert sum(map(len, skipped.first.values())) == sum(min(3, count) for count in skipped.counts.values())
    assert f"video {skipped.counts['video']}" in str(skipped)
    scan = find_images(photos)
    assert scan.kinds == dict(skipped.counts)
    assert len(scan.images) + len(scan.skipped) + scan.others == images + skipped.counts.total()


def test_a_placeholder_of_the_cloud_says_so(photos: Path) -> None:
    (photos / ".IMG_1.HEIC.icloud").write_bytes(b"bplist00")
    (photos / "._IMG_1.jpg").write_bytes(b"\0\5\x16\7")
    found = {entry.kind: entry.reason for entry in walk(photos) if isinstance(entry, PassedOver)}
    assert "iCloud holds it" in found["in the cloud"]
    assert "notes about another file" in found["hidden"]


@pytest.mark.parametrize("name", ["RAW", "SVG", "JXL"])
def test_without_the_extra_the_reason_names_it(photos: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(find, "missing", lambda form: formats.EXTRA if form == name else "")
    content = {"RAW": b"II*\0\x08\0\0\0", "SVG": b"<svg xmlns='x'/>", "JXL": b"\xff\x0a00"}[name]
    suffix = {"RAW": ".nef", "SVG": ".svg", "JXL": ".jxl"}[name]
    (photos / f"of its name{suffix}").write_bytes(content)
    put(photos, f"in truth a jpeg{suffix}")
    assert taken(photos) == [f"in truth a jpeg{suffix}"]
    (passed,) = (entry for entry in walk(photos) if isinstance(entry, PassedOver))
    assert (passed.kind, passed.reason) == (name, "pip install 'imgret-tools[formats]'")


def test_a_pipe_of_an_odd_name_is_never_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "latest")
    assert kinds(photos) == {"latest": "special file"}


def test_a_file_that_may_not_be_read_is_no_picture_yet(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(photos, "latest")

    def refuse(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(find, "_head", refuse)
    assert kinds(photos) == {"latest": "unreadable"}


# --- what is kept out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder",
    [
        "@eaDir/IMG_1.jpg",
        "#recycle",
        "$RECYCLE.BIN/S-1",
        "$Recycle.Bin",
        "RECYCLER",
        "__MACOSX/Trip",
        "System Volume Information",
        "lost+found",
        "@Recycle",
        "#snapshot/daily",
        "node_modules/x",
        "Catalog Previews.lrdata/0",
        "Catalog Smart Previews.lrdata",
        "L.photoslibrary/resources/derivatives",
        "L.photoslibrary/database",
        "L.aplibrary/Thumbnails",
        ".thumbnails",
        ".Trash-1000/files",
    ],
)
def test_copies_caches_and_trash_of_systems_are_left_out(photos: Path, folder: str) -> None:
    """They made a NAS's folder five times its size, each photo found again as its own thumbnail."""
    put(
        photos,
        f"Trip/{folder}/THUMB.jpg",
        "Trip/IMG_1.jpg",
        "L.photoslibrary/originals/A/1.jpg",
        "L.aplibrary/Masters/2.jpg",
    )
    assert taken(photos) == ["L.aplibrary/Masters/2.jpg", "L.photoslibrary/originals/A/1.jpg", "Trip/IMG_1.jpg"]
    assert set(kinds(photos).values()) <= {"system folder", "hidden"}
    assert len(kinds(photos)) == 1


def test_folders_that_only_sound_like_a_system_s_are_walked(photos: Path) -> None:
    names = [
        "Recycle art/a.jpg",
        "originals/b.jpg",
        "resources/c.jpg",
        "Thumbnails/d.jpg",
        "lrdata/e.jpg",
        "private/f.jpg",
    ]
    put(photos, *names)
    assert sorted(taken(photos)) == sorted(names)


def test_our_own_data_folder_is_left_out_wherever_it_lies(photos: Path) -> None:
    put(photos, "cat/a.jpg", "imgret-data/uploads/b.jpg")
    own = photos / "imgret-data"
    assert taken(photos, leave_out=[own.resolve()]) == ["cat/a.jpg"]
    assert kinds(photos, leave_out=[own.resolve()]) == {"imgret-data": "own data"}


def test_a_thumbnail_cache_of_ours_is_left_out_whoever_owns_it(photos: Path) -> None:
    """An index of a folder with somebody's data folder in it grew by its own thumbnails on each run."""
    ThumbnailCache(photos / "data" / "thumbnails").put("id", samples.corners())
    put(photos, "a.jpg")
    assert taken(photos) == ["a.jpg"]
    assert kinds(photos) == {"data/thumbnails": "cache"}


def test_a_file_called_like_a_cache_mark_is_not_one_by_its_name(photos: Path) -> None:
    put(photos, "a.jpg")
    (photos / "CACHEDIR.TAG").write_text("my cache of ideas")
    assert taken(photos) == ["a.jpg"]


def test_nomedia_keeps_a_folder_and_all_below_it_out(photos: Path) -> None:
    put(photos, "good/a.jpg", "private/b.jpg", "private/deep/c.jpg")
    (photos / "private" / ".nomedia").touch()
    assert taken(photos) == ["good/a.jpg"]
    assert kinds(photos) == {"private": ".nomedia"}
    (photos / ".nomedia").touch()
    assert taken(photos) == []
    assert kinds(photos) == {".": ".nomedia"}


def test_patterns_of_an_ignore_file(photos: Path) -> None:
    put(
        photos,
        "a.jpg",
        "b.png",
        "keep.png",
        "private/c.jpg",
        "trip/private/d.jpg",
        "trip/x/e.jpg",
        "trip/f.jpg",
        "g h.jpg",
    )
    (photos / ".imgretignore").write_text(
        "# not these\n*.png\n!keep.png\n/private/\ng\\ h.jpg\n\n", encoding="utf-8-sig"
    )
    (photos / "trip" / ".imgretignore").write_text("x/\n*.jpg\n!f.jpg\n")
    assert taken(photos) == ["a.jpg", "keep.png", "trip/f.jpg"]
    found = kinds(photos)
    assert found["private"] == found["b.png"] == found["trip/x"] == "excluded"


def test_a_deeper_ignore_file_decides_over_one_above(photos: Path) -> None:
    put(photos, "a.png", "trip/b.png", "trip/c.png")
    (photos / ".imgretignore").write_text("*.png\n")
    (photos / "trip" / ".imgretignore").write_text("!b.png\n")
    assert taken(photos) == ["trip/b.png"]


def test_an_ignore_file_that_cannot_be_understood_keeps_its_folder_out(photos: Path) -> None:
    put(photos, "a.jpg", "private/b.jpg", "binary/c.jpg")
    (photos / "private" / ".imgretignore").write_text("b.jpg\n!\n")
    (photos / "binary" / ".imgretignore").write_bytes(b"\xff\xfe\0\0")
    assert taken(photos) == ["a.jpg"]
    reasons = {Path(e.path).name: e.reason for e in walk(photos) if isinstance(e, PassedOver) and e.folder}
    assert "Pattern 2" in reasons["private"]
    assert set(reasons) == {"private", "binary"}


def test_exclude(photos: Path) -> None:
    put(photos, "a.jpg", "b.png", "private/c.jpg", "deep/private/d.jpg", "Ảnh/e.jpg")
    assert taken(photos, exclude=["private", "*.png"]) == ["a.jpg", "Ảnh/e.jpg"]
    assert taken(photos, exclude=["*", "!*.png"]) == ["b.png"]
    assert taken(photos, exclude=["Ảnh/", "/private", "deep/**"]) == ["a.jpg", "b.png"]
    assert taken(Path(f"{photos}/"), exclude=["/a.jpg", "/b.png", "/deep"]) == ["private/c.jpg", "Ảnh/e.jpg"]
    with pytest.raises(BadInput, match=r"Pattern 1 is .*\.gitignore"):
        list(walk(photos, exclude=["!"]))


def test_links_are_judged_by_what_they_lead_to(photos: Path) -> None:
    put(photos, "album/real")
    put(photos.parent / "elsewhere", "secret")
    (photos / "inside").symlink_to(photos / "album" / "real")
    (photos / "leaving").symlink_to(photos.parent / "elsewhere" / "secret")
    assert taken(photos) == ["album/real", "inside"]
    assert kinds(photos) == {"leaving": "link"}


def test_a_walk_holds_one_folder_at_a_time(photos: Path) -> None:
    for folder in range(20):
        (photos / f"{folder:02}").mkdir()
        for number in range(100):
            (photos / f"{folder:02}" / f"{number}.jpg").write_bytes(b"x")

    def peak(found: Iterator[object]) -> int:
        tracemalloc.start()
        for _ in found:
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    one, all_ = peak(walk(photos / "00")), peak(walk(photos))
    assert all_ < 3 * one


def test_a_cut_head_is_no_crash(photos: Path) -> None:
    """Any first bytes of any format, at any length."""
    for suffix in samples.SAVERS:
        head = samples.in_format(photos.parent / f"scene{suffix}").read_bytes()[: formats.HEAD]
        for length in range(1, len(head)):
            format_of(head[:length])
            formats.other_kind(head[:length])
    Image.new("L", (1, 1)).save(photos / "dot.gif")
    assert taken(photos) == ["dot.gif"]
