"""Raw files, drawings, JPEG XL, TGA, icons, and JPEGs without their end: right pixels or a reason."""

from __future__ import annotations

import gzip
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401, registers itself
import pytest
import samples
from PIL import Image
from samples import CORNERS

from imgret_tools.errors import ImageError
from imgret_tools.pictures import formats
from imgret_tools.pictures import open as opening
from imgret_tools.pictures.open import open_picture


def close(image: Image.Image, expected: tuple[tuple[int, int, int], ...] = CORNERS, within: int = 8) -> bool:
    return bool(np.abs(np.array(samples.seen(image), int) - np.array(expected, int)).max() <= within)


# --- raw files -----------------------------------------------------------------------------------------------------


SHORT, LONG, RATIONAL, SIGNED = 3, 4, 5, 10
Tag = tuple[int, int, "tuple[int, ...] | bytes"]


def directory(tags: list[Tag], at: int) -> bytes:
    """A TIFF directory that stands at offset `at`: (tag, type, values; bytes are type 1 or 2), little-endian."""
    table, body = struct.pack("<H", len(tags)), b""
    after = at + 2 + 12 * len(tags) + 4
    for tag, kind, values in sorted(tags, key=lambda entry: entry[0]):
        data = (
            values
            if isinstance(values, bytes)
            else struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'i'}", *values)
        )
        count = len(values) // (2 if kind in (RATIONAL, SIGNED) else 1)
        if len(data) <= 4:
            table += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        else:
            table += struct.pack("<HHII", tag, kind, count, after + len(body))
            body += data + b"\0" * (len(data) % 2)
    return table + bytes(4) + body


def dng(path: Path, *, preview: tuple[int, int] | None, orientation: int = 1) -> Path:
    """A DNG of a sensor of 800 x 600: the scene as a mosaic, and as an embedded JPEG of size `preview`, both unturned."""
    scene = np.asarray(samples.corners((800, 600))).astype("<u2") * 64
    mosaic = np.empty((600, 800), "<u2")
    for y, x, band in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[y::2, x::2] = scene[y::2, x::2, band]
    out = BytesIO()
    samples.corners(preview or (8, 8)).save(out, "JPEG", quality=95, subsampling=0)
    jpeg, raw = out.getvalue(), mosaic.tobytes()
    about: list[Tag] = [
        (50706, 1, bytes((1, 4, 0, 0))),
        (50708, 2, b"Test Camera\0"),
        (271, 2, b"Maker\0"),
        (272, 2, b"Model One\0"),
        (274, SHORT, (orientation,)),
        (50721, SIGNED, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)),
        (50728, RATIONAL, (1, 1, 1, 1, 1, 1)),
        (50778, SHORT, (21,)),
    ]

    def sensor(at: int) -> list[Tag]:
        sizes: list[Tag] = [(254, LONG, (0,)), (256, LONG, (800,)), (257, LONG, (600,)), (258, SHORT, (16,))]
        strips: list[Tag] = [(273, LONG, (at,)), (277, SHORT, (1,)), (278, LONG, (600,)), (279, LONG, (len(raw),))]
        colours: list[Tag] = [(33421, SHORT, (2, 2)), (33422, 1, bytes((0, 1, 1, 2))), (50717, LONG, (255 * 64,))]
        return [*sizes, (259, SHORT, (1,)), (262, SHORT, (32803,)), *strips, (284, SHORT, (1,)), *colours]

    at = 8 + len(raw) + len(jpeg) + len(jpeg) % 2
    head, pixels = b"II*\0" + struct.pack("<I", at), raw + jpeg + b"\0" * (len(jpeg) % 2)
    if preview is None:
        path.write_bytes(head + pixels + directory(about + sensor(8), at))
        return path
    shown: list[Tag] = [
        (254, LONG, (1,)),
        (256, LONG, (preview[0],)),
        (257, LONG, (preview[1],)),
        (258, SHORT, (8, 8, 8)),
        (259, SHORT, (7,)),
        (262, SHORT, (6,)),
        (273, LONG, (8 + len(raw),)),
        (277, SHORT, (3,)),
        (278, LONG, (preview[1],)),
        (279, LONG, (len(jpeg),)),
        (284, SHORT, (1,)),
        (330, LONG, (0,)),
    ]
    sub = at + len(directory(about + shown, at))
    shown[-1] = (330, LONG, (sub,))
    path.write_bytes(head + pixels + directory(about + shown, at) + directory(sensor(8), sub))
    return path


@pytest.mark.parametrize("preview", [(800, 600), None, (160, 120)])
def test_a_raw_file_shows_its_preview_or_is_developed(tmp_path: Path, preview: tuple[int, int] | None) -> None:
    picture = open_picture(dng(tmp_path / "shot.dng", preview=preview))
    assert (picture.width, picture.height) == (800, 600)
    assert picture.camera == "Maker Model One"
    assert close(picture.image, within=8 if preview == (800, 600) else 90)
    assert close(open_picture((tmp_path / "shot.dng").read_bytes(), at_least=32).image, within=90)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("preview", [(800, 600), None])
def test_a_raw_file_is_turned_once(tmp_path: Path, orientation: int, preview: tuple[int, int] | None) -> None:
    picture = open_picture(dng(tmp_path / "shot.dng", preview=preview, orientation=orientation))
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}[orientation]
    expected = samples.seen(samples.corners((800, 600)).transpose(turn))
    assert (picture.width, picture.height) == ((800, 600) if orientation == 3 else (600, 800))
    assert picture.image.width / picture.image.height == pytest.approx(picture.width / picture.height, rel=0.02)
    assert close(picture.image, expected, within=90)


def test_a_raw_file_without_the_extra_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its TIFF's first page is a thumbnail, which must not pass for the picture."""
    path = dng(tmp_path / "shot.dng", preview=(160, 120))
    monkeypatch.setattr(opening, "missing", lambda name: f"{name}: {formats.EXTRA}")
    with pytest.raises(ImageError, match=r"RAW: pip install 'imgret-tools\[formats\]'"):
        open_picture(path)


def test_a_plain_tiff_called_raw_is_a_tiff(tmp_path: Path) -> None:
    samples.in_format(tmp_path / "scene.tif").rename(tmp_path / "scene.nef")
    assert close(open_picture(tmp_path / "scene.nef").image)


def test_a_raw_file_too_large_to_develop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="without a preview, limit 0"):
        open_picture(dng(tmp_path / "shot.dng", preview=None), max_megapixels=0)


def test_what_only_begins_like_a_raw_file_is_refused() -> None:
    for head in (b"FUJIFILMCCD-RAW 0201", b"II*\0\x10\0\0\0CR\2\0", b"IIRO\x08\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\1"):
        with pytest.raises(ImageError, match="RAW"):
            open_picture(head + bytes(500))


# --- drawings ------------------------------------------------------------------------------------------------------

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size}>{body}</svg>"""
SCENE = (
    '<rect width="32" height="24" fill="red"/><rect x="32" width="32" height="24" fill="lime"/>'
    '<rect y="24" width="32" height="24" fill="blue"/>'
)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ('width="64" height="48"', (64, 48)),
        ('viewBox="0 0 64 48"', (64, 48)),
        ('width="128" viewBox="0 0 64 48"', (128, 96)),
        ('width="100%" height="100%" viewBox="0 0 64 48"', (64, 48)),
        ('width="4in" height="3in" viewBox="0 0 64 48"', (384, 288)),
    ],
)
def test_a_drawing_is_drawn_on_white_at_a_useful_size(size: str, expected: tuple[int, int]) -> None:
    picture = open_picture(SVG.format(size=size, body=SCENE).encode())
    assert (picture.width, picture.height) == expected
    assert picture.image.size == (1024, 768)
    assert close(picture.image)


def test_a_packed_drawing_and_one_with_a_long_head(tmp_path: Path) -> None:
    plain = SVG.format(size='width="64" height="48"', body=SCENE)
    (tmp_path / "a.svgz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "b.svg").write_text(f"<?xml version='1.0'?>\n<!-- {'made by hand ' * 20}-->\n{plain}")
    for name in ("a.svgz", "b.svg"):
        assert close(open_picture(tmp_path / name).image)


@pytest.mark.parametrize(
    "reference",
    [
        '<image {} href="PATH" width="64" height="48"/>',
        '<image {} xlink:href="PATH" width="64" height="48"/>',
        '<image {} href="file://PATH" width="64" height="48"/>',
        '<image {} href=" PATH " width="64" height="48"/>',
        '<style>rect {{ fill: url(PATH) }}</style><rect {} width="64" height="48"/>',
        '<defs><pattern id="p" width="1" height="1"><image href="PATH" width="64" height="48"/></pattern></defs>'
        '<rect {} fill="url(#p)" width="64" height="48"/>',
    ],
)
def test_a_drawing_reads_no_file(tmp_path: Path, reference: str) -> None:
    """A stranger's drawing showed any picture of the machine that it named."""
    samples.corners().save(tmp_path / "private.png")
    body = reference.format("").replace("PATH", str(tmp_path / "private.png"))
    data = SVG.format(size='width="64" height="48"', body=f'<rect width="64" height="48" fill="white"/>{body}').encode()
    with_entity = b'<!DOCTYPE svg [<!ENTITY e "' + str(tmp_path / "private.png").encode() + b'">]>'
    with_entity += data.replace(str(tmp_path / "private.png").encode(), b"&e;")
    for drawing in (data, with_entity):
        shown = np.asarray(open_picture(drawing).image)
        assert (np.ptp(shown, axis=(0, 1)) == 0).all()


def test_pictures_inside_a_drawing_are_shown() -> None:
    import base64

    out = BytesIO()
    samples.corners().save(out, "PNG")
    href = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    body = f'<image href="{href}" width="64" height="48"/>'
    assert close(open_picture(SVG.format(size='width="64" height="48"', body=body).encode()).image, within=40)


@pytest.mark.parametrize(
    "data",
    [
        b"<svg",
        b"<svg/>",
        b"<html><svg/></html>",
        b"<!DOCTYPE svg [<!ENTITY a 'x'>"
        + b"".join(b"<!ENTITY a%d '%s'>" % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 30))
        + b"]><svg xmlns='http://www.w3.org/2000/svg'>&a29;</svg>",
        b"<!DOCTYPE svg SYSTEM 'file:///etc/passwd'><svg xmlns='http://www.w3.org/2000/svg'>&x;</svg>",
    ],
)
def test_a_broken_or_hostile_drawing_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.svg").write_bytes(data)
    with pytest.raises(ImageError):
        open_picture(tmp_path / "x.svg")


# --- the rest ------------------------------------------------------------------------------------------------------


def test_jpeg_xl(tmp_path: Path) -> None:
    samples.corners().save(tmp_path / "scene.jxl", lossless=True)
    assert close(open_picture(tmp_path / "scene.jxl").image)
    data = (tmp_path / "scene.jxl").read_bytes()
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            open_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tag_does_not_overrule_jpeg_xl_s_own_header(tmp_path: Path, orientation: int) -> None:
    """ISO/IEC 18181-2: the header turns the picture, and its decoder does; the Exif tag is only kept."""
    turn = samples.STORED[orientation]
    stored = samples.corners() if turn is None else samples.corners().transpose(turn)
    stored.save(tmp_path / "turned.jxl", lossless=True, exif=samples.exif(orientation).tobytes())
    picture = open_picture(tmp_path / "turned.jxl")
    assert (picture.image.size, samples.seen(picture.image)) == (stored.size, samples.seen(stored))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("compression", [None, "tga_rle"])
def test_tga(tmp_path: Path, mode: str, compression: str | None) -> None:
    image = samples.corners().convert(mode) if mode != "P" else samples.corners().quantize(4)
    image.save(tmp_path / "scene.tga", compression=compression)
    expected = samples.seen(samples.corners().convert("L").convert("RGB")) if mode == "L" else CORNERS
    assert close(open_picture(tmp_path / "scene.tga").image, expected)
    assert close(open_picture((tmp_path / "scene.tga").read_bytes()).image, expected)


def test_icons_show_their_largest_picture(tmp_path: Path) -> None:
    samples.corners((64, 64)).save(tmp_path / "icon.ico", sizes=[(16, 16), (32, 32), (64, 64)])
    picture = open_picture(tmp_path / "icon.ico")
    assert (picture.width, picture.height) == (64, 64)
    assert close(picture.image)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "subsampling": 2}])
@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("at_least", [None, 16])
def test_a_jpeg_that_lacks_only_its_end_is_whole(options: dict[str, object], cut: int, at_least: int | None) -> None:
    """Every viewer shows it; it was refused as truncated."""
    out = BytesIO()
    samples.noise((160, 120)).save(out, "JPEG", **options)  # type: ignore[arg-type]
    data = out.getvalue()
    whole, cut_off = open_picture(data, at_least=at_least), open_picture(data[:-cut], at_least=at_least)
    assert cut_off.image.tobytes() == whole.image.tobytes()
    assert "end marker" in cut_off.remark
    assert whole.remark == ""


def test_a_progressive_jpeg_cut_between_two_scans_is_not_whole() -> None:
    """What is there of it decodes without a complaint, only less sharp."""
    out = BytesIO()
    samples.noise((160, 120)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    ends = [at for at in range(2, len(data) - 1) if data[at : at + 2] in (b"\xff\xda", b"\xff\xc4")][2:]
    for end in ends:
        with pytest.raises(ImageError):
            open_picture(data[:end])


def test_a_file_of_another_kind_is_named() -> None:
    with pytest.raises(ImageError, match=r"another kind \(video\)"):
        open_picture(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100))
