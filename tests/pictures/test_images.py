"""Pictures found, opened right and drawn small; every odd kind is a real file made by `pictures`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import socket
import stat
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import samples
from PIL import Image, ImageCms
from samples import CORNERS, SIZE

from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.pictures import thumbnails
from imgret_tools.pictures.find import content_hash, find_images
from imgret_tools.pictures.formats import SUFFIXES
from imgret_tools.pictures.open import JPEG_HEADROOM, open_picture
from imgret_tools.pictures.thumbnails import ThumbnailCache, thumbnail

Colours = tuple[tuple[int, int, int], ...]
TURNABLE = (".jpg", ".png", ".webp", ".tif", ".heic", ".avif")


def assert_colours(image: Image.Image, expected: Colours = CORNERS, *, within: int = 6) -> None:
    assert image.mode == "RGB"
    distance = np.abs(np.array(samples.seen(image), int) - np.array(expected, int)).max()
    assert distance <= within, (samples.seen(image), expected)


# --- the right pixels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", samples.SAVERS)
def test_every_format_gives_the_right_colours(tmp_path: Path, suffix: str) -> None:
    picture = open_picture(samples.in_format(tmp_path / f"scene{suffix}"))
    assert_colours(picture.image)
    assert (picture.width, picture.height) == picture.image.size == SIZE


@pytest.mark.parametrize("suffix", samples.SAVERS)
def test_bytes_open_as_the_file_does(tmp_path: Path, suffix: str) -> None:
    path = samples.in_format(tmp_path / f"scene{suffix}")
    assert open_picture(path.read_bytes()).image.tobytes() == open_picture(path).image.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", TURNABLE)
def test_the_cameras_turn_is_applied_exactly_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    picture = open_picture(samples.rotated(tmp_path / f"turned{suffix}", orientation))
    assert_colours(picture.image)
    assert (picture.width, picture.height) == picture.image.size == SIZE
    again = BytesIO()
    picture.image.save(again, "PNG")
    assert_colours(open_picture(again.getvalue()).image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_holds_at_reduced_scale_and_the_size_is_the_originals(tmp_path: Path, orientation: int) -> None:
    path = samples.rotated(tmp_path / "large.jpg", orientation, samples.corners((640, 480)))
    picture = open_picture(path, at_least=40)
    assert (picture.width, picture.height) == (640, 480)
    assert picture.image.size == (107, 80) or picture.image.size == (128, 96) or picture.image.size == (160, 120)
    assert_colours(picture.image)


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_heic_obeys_its_container_not_a_stale_tag(tmp_path: Path, orientation: int) -> None:
    picture = open_picture(samples.heic_with_stale_tag(tmp_path / "stale.heic", orientation))
    assert picture.image.size == SIZE
    assert_colours(picture.image)


def test_a_damaged_orientation_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    for value in (0, 9, 65535):
        assert_colours(open_picture(samples.in_format(tmp_path / "odd.jpg", exif=samples.exif(value))).image)


def test_damaged_exif_costs_neither_the_picture_nor_a_word_on_the_terminal(tmp_path: Path) -> None:
    path = samples.in_format(tmp_path / "bad.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    code = "import sys; from pathlib import Path; from imgret_tools.pictures.open import open_picture; "
    code += "print(open_picture(Path(sys.argv[1])).image.getpixel((8, 8)))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("(25")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    assert_colours(open_picture(samples.animated(tmp_path / f"moving{suffix}")).image)


def test_the_first_page_and_the_first_view(tmp_path: Path) -> None:
    assert_colours(open_picture(samples.multipage_tiff(tmp_path / "pages.tif")).image)
    mpo = samples.mpo(tmp_path / "stereo.mpo")
    with Image.open(mpo) as file:
        assert file.format == "MPO"
    assert_colours(open_picture(mpo).image)
    assert_colours(open_picture(mpo, at_least=8).image, within=12)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_without_a_profile_is_multiplied_out(tmp_path: Path, suffix: str) -> None:
    assert_colours(open_picture(samples.cmyk(tmp_path / f"print{suffix}")).image)


def test_ycck_jpeg(tmp_path: Path) -> None:
    image = open_picture(samples.ycck_jpeg(tmp_path / "print.jpg")).image
    assert_colours(image, (samples.YCCK_COLOUR,) * 4)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_with_a_profile_goes_through_it(tmp_path: Path, suffix: str) -> None:
    """Full cyan is what the press makes of it, not (0, 255, 255); paper stays white."""
    cyan = Image.new("CMYK", SIZE, (255, 0, 0, 0))
    cyan.paste((0, 0, 0, 0), (0, 0, 32, 48))
    path = tmp_path / f"press{suffix}"
    cyan.save(path, icc_profile=samples.cmyk_profile())
    paper, ink = (open_picture(path).image.getpixel(place) for place in ((8, 8), (56, 8)))
    assert min(paper) >= 250
    lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    expected = ImageCms.applyTransform(Image.new("LAB", (1, 1), (round(55 * 2.55), 128 - 37, 128 - 50)), lab)
    assert expected is not None
    assert np.abs(np.subtract(ink, expected.getpixel((0, 0)))).max() <= 12, (ink, expected.getpixel((0, 0)))


def in_srgb(primaries: tuple[tuple[float, ...], ...], colour: tuple[int, int, int]) -> tuple[int, ...]:
    """By the book: gamma 2.2 to light, primaries to XYZ, sRGB's primaries back (IEC 61966-2-1), sRGB's curve."""
    light = np.linalg.solve(np.array(samples.SRGB).T, np.array(primaries).T @ (np.array(colour) / 255) ** 2.2)
    light = light.clip(0, 1)
    return tuple(
        np.rint(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).tolist()
    )


@pytest.mark.parametrize(
    ("profile", "colour", "expected"),
    [
        (samples.display_p3, (200, 100, 50), in_srgb(samples.DISPLAY_P3, (200, 100, 50))),
        (samples.adobe_rgb, (100, 150, 100), in_srgb(samples.ADOBE_RGB, (100, 150, 100))),
        (samples.srgb, (200, 100, 50), (200, 100, 50)),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic", ".avif"])
def test_wide_colours_become_srgb(
    tmp_path: Path,
    suffix: str,
    profile: Callable[[], bytes],
    colour: tuple[int, int, int],
    expected: tuple[int, int, int],
) -> None:
    path = samples.in_format(tmp_path / f"wide{suffix}", Image.new("RGB", SIZE, colour), icc_profile=profile())
    assert_colours(open_picture(path).image, (expected,) * 4, within=5)


def test_the_profile_is_not_applied_twice_after_saving(tmp_path: Path) -> None:
    image = Image.new("RGB", SIZE, (200, 100, 50))
    path = samples.in_format(tmp_path / "wide.png", image, icc_profile=samples.display_p3())
    picture = open_picture(path)
    assert picture.image.info == {}
    once = open_picture(thumbnail(picture.image)).image
    assert_colours(once, samples.seen(picture.image))


def test_a_broken_or_foreign_profile_is_passed_over(tmp_path: Path) -> None:
    for profile in (b"nonsense", samples.cmyk_profile(), samples.display_p3()[:200]):
        assert_colours(open_picture(samples.in_format(tmp_path / "odd.png", icc_profile=profile)).image)


def test_see_through_pictures_stand_on_white(tmp_path: Path) -> None:
    for path in (samples.palette_png(tmp_path / "p.png"), samples.transparent_gif(tmp_path / "p.gif")):
        image = open_picture(path).image
        assert_colours(image, within=2)
    for suffix, mode in ((".png", "RGBA"), (".png", "LA"), (".webp", "RGBA"), (".tif", "RGBA"), (".tif", "LA")):
        image = open_picture(samples.see_through(tmp_path / f"a{suffix}", mode)).image
        half, clear = (127,) * 3, (255,) * 3
        assert_colours(image, (half, clear, half, clear), within=1)


def test_png_with_one_see_through_colour(tmp_path: Path) -> None:
    corners = samples.corners()
    corners.paste((1, 2, 3), (32, 24, 64, 48))
    corners.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert_colours(open_picture(tmp_path / "key.png").image, within=0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_palette(tmp_path: Path, suffix: str) -> None:
    samples.corners().quantize(4).save(tmp_path / f"four{suffix}")
    assert_colours(open_picture(tmp_path / f"four{suffix}").image, within=2)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif", ".bmp", ".pbm"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    image = open_picture(samples.one_bit(tmp_path / f"bits{suffix}")).image
    assert_colours(image, ((0,) * 3, (255,) * 3) * 2, within=0)


@pytest.mark.parametrize(
    ("suffix", "dtype", "left", "right", "seen"),
    [
        (".png", "uint16", 0, 32768, (0, 128)),  # clipping would give 255
        (".tif", "uint16", 257, 65535, (1, 255)),
        (".pgm", "uint16", 0, 32768, (0, 128)),
        (".pgm", "uint16", 0, 200, (0, 1)),  # dark, not an eight-bit picture
        (".jp2", "uint16", 0, 32768, (0, 128)),
        (".tif", "int32", 0, 1, (0, 255)),
        (".tif", "int32", 0, 100, (0, 100)),
        (".tif", "int32", 0, 32768, (0, 128)),
        (".tif", "int32", -1000, 1000, (0, 255)),
        (".tif", "int32", 10, 1_000_000, (0, 255)),
        (".tif", "int32", 0, 0, (0, 0)),
        (".tif", "float32", 0.0, 0.5, (0, 128)),
        (".tif", "float32", 0.0, 100.0, (0, 100)),
        (".tif", "float32", -3.5, 9.25, (0, 255)),
        (".tif", "float32", float("nan"), 1.0, (0, 255)),
        (".tif", "float32", float("-inf"), float("inf"), (0, 255)),
        (".tif", "float32", 0.25, float("inf"), (64, 255)),
        (".tif", "float32", float("nan"), float("nan"), (0, 0)),
        (".tif", "float32", -7.0, -7.0, (255, 255)),
    ],
)
def test_deep_grey_is_scaled_not_clipped(
    tmp_path: Path, suffix: str, dtype: str, left: float, right: float, seen: tuple[int, int]
) -> None:
    image = open_picture(samples.grey(tmp_path / f"deep{suffix}", left, right, dtype)).image
    assert_colours(image, tuple((value,) * 3 for value in seen) * 2, within=1)


def test_twelve_bits_and_white_as_zero(tmp_path: Path) -> None:
    assert_colours(
        open_picture(samples.twelve_bit_tiff(tmp_path / "12.tif")).image, ((0,) * 3, (128,) * 3) * 2, within=1
    )
    assert_colours(
        open_picture(samples.white_is_zero_tiff(tmp_path / "w.tif")).image, ((255,) * 3, (0,) * 3) * 2, within=0
    )


def test_lab_tiff(tmp_path: Path) -> None:
    assert_colours(
        open_picture(samples.lab_tiff(tmp_path / "lab.tif")).image, within=25
    )  # eight bits of LAB are coarse


# --- reduced scale and limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("size", [(1600, 1200), (900, 3000), (100, 90), (3000, 60)])
@pytest.mark.parametrize("at_least", [64, 224])
def test_reduced_scale_keeps_twice_what_was_asked(
    tmp_path: Path, suffix: str, size: tuple[int, int], at_least: int
) -> None:
    path = samples.in_format(tmp_path / f"large{suffix}", samples.corners(size))
    picture = open_picture(path, at_least=at_least)
    assert (picture.width, picture.height) == size
    assert min(picture.image.size) >= min(2 * at_least, *size)
    assert min(picture.image.size) < 4 * at_least or picture.image.size == size
    assert picture.image.width / picture.image.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert_colours(picture.image)


def test_reduced_scale_looks_like_the_whole(tmp_path: Path) -> None:
    """A smooth picture at reduced scale and in full, brought to one size, differ by about a grey level."""
    y, x = np.mgrid[0:1200, 0:1600]
    waves = np.stack([127 + 120 * np.sin(x / 90), 127 + 120 * np.cos(y / 70), (x + y) * 255 / 2800], -1)
    path = samples.in_format(tmp_path / "waves.jpg", Image.fromarray(waves.astype(np.uint8)))
    full, reduced = (open_picture(path, at_least=wanted).image.resize((224, 224)) for wanted in (None, 224))
    assert np.abs(np.asarray(full, int) - np.asarray(reduced, int)).mean() < 1.5


def test_too_many_megapixels_are_refused_from_the_header(tmp_path: Path) -> None:
    path = samples.huge_png(tmp_path / "bomb.png", 20000, 20000)
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"20000 x 20000 = 400 megapixels, limit 200"):
        open_picture(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with pytest.raises(ImageError, match="limit 200"):
        open_picture(path, at_least=224)


@pytest.mark.parametrize("suffix", samples.SAVERS)
def test_the_limit_holds_for_every_format(tmp_path: Path, suffix: str) -> None:
    path = samples.in_format(tmp_path / f"scene{suffix}", samples.corners((1200, 1000)))
    with pytest.raises(ImageError, match="megapixels, limit 1"):
        open_picture(path, max_megapixels=1)
    assert open_picture(path, max_megapixels=2).width == 1200


def test_pillows_own_bomb_guard_never_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here: a picture between Pillow's limit and ours opens, one beyond twice Pillow's too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for suffix in samples.SAVERS:
        assert_colours(open_picture(samples.in_format(tmp_path / f"scene{suffix}")).image)


def test_a_large_baseline_jpeg_is_judged_by_what_is_decoded(tmp_path: Path) -> None:
    path = samples.in_format(tmp_path / "large.jpg", samples.corners((2000, 1500)))
    with pytest.raises(ImageError, match="limit 1;"):
        open_picture(path, max_megapixels=1)
    assert open_picture(path, at_least=64, max_megapixels=1).width == 2000
    progressive = samples.in_format(tmp_path / "p.jpg", samples.corners((2000, 1500)), progressive=True)
    with pytest.raises(ImageError, match="limit 1;"):
        open_picture(progressive, at_least=64, max_megapixels=1)
    larger = samples.in_format(tmp_path / "larger.jpg", samples.corners((2400, 2000)))
    with pytest.raises(ImageError, match=f"limit {JPEG_HEADROOM};"):
        open_picture(larger, at_least=64, max_megapixels=1)


# --- broken files --------------------------------------------------------------------------------------------------


def truncatable(folder: Path) -> Iterator[Path]:
    scene = samples.noise((160, 120))
    for suffix in samples.SAVERS:
        yield samples.in_format(folder / f"scene{suffix}", scene)
    yield samples.in_format(folder / "progressive.jpg", scene, progressive=True)
    yield samples.in_format(folder / "lossy.webp", scene, lossless=False)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
        yield samples.in_format(folder / f"{compression}.tif", scene, compression=compression)


@pytest.mark.parametrize("at_least", [None, 16])
def test_a_truncated_file_is_reported_never_half_read(tmp_path: Path, at_least: int | None) -> None:
    """Cut anywhere, a file either fails or (cut after its last pixel) is the same picture."""
    wrong = []
    for path in truncatable(tmp_path):
        data, whole = path.read_bytes(), open_picture(path, at_least=at_least).image.tobytes()
        for share in (0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
            with contextlib.suppress(ImageError):
                open_picture(data[: max(1, int(len(data) * share))], at_least=at_least)
                wrong.append((path.name, share))
        for cut in (1, 2, 3, 10, 40):
            with contextlib.suppress(ImageError):
                if open_picture(data[:-cut], at_least=at_least).image.tobytes() != whole:
                    wrong.append((path.name, -cut))
    assert wrong == []


def test_damaged_files_only_ever_raise_image_errors(tmp_path: Path) -> None:
    """Random bytes overwritten in every format: a picture or an ImageError, nothing else, no warning."""
    dice = random.Random(0)
    for path in truncatable(tmp_path):
        data = path.read_bytes()
        for _ in range(25):
            damaged = bytearray(data)
            for _ in range(dice.choice((1, 4, 30))):
                damaged[dice.randrange(min(len(data), dice.choice((64, 600, len(data)))))] = dice.randrange(256)
            with contextlib.suppress(ImageError):
                assert open_picture(bytes(damaged), at_least=16, max_megapixels=4).image.mode == "RGB"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"just some words\n", "not a picture: .*just some words"), (b"", "empty"), (b"\xff\xd8\xff", "broken JPEG")],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ImageError, match=reason):
            open_picture(source)


def test_formats_not_taken_are_refused(tmp_path: Path) -> None:
    """Pillow would hand an EPS to Ghostscript."""
    samples.corners().save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "drawing.jpg")
    with pytest.raises(ImageError, match="not a picture"):
        open_picture(tmp_path / "drawing.jpg")


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("socket.jpg")
        for name, reason in (
            ("folder.jpg", "a folder"),
            ("pipe.jpg", "a named pipe"),
            ("socket.jpg", "a socket"),
            ("absent.jpg", "No such file"),
        ):
            with pytest.raises(ImageError, match=reason):
                open_picture(tmp_path / name)
    with pytest.raises(ImageError, match="a device"):
        open_picture(Path("/dev/zero"))


def test_a_wrong_suffix_does_not_matter_once_opened(tmp_path: Path) -> None:
    samples.in_format(tmp_path / "scene.png").rename(tmp_path / "scene.jpg")
    assert_colours(open_picture(tmp_path / "scene.jpg").image)


def test_many_threads_open_the_same_files(tmp_path: Path) -> None:
    paths = [samples.in_format(tmp_path / f"scene{suffix}") for suffix in samples.SAVERS]
    paths += [samples.cmyk(tmp_path / "press.jpg", profile=samples.cmyk_profile())] * 4
    expected = [open_picture(path).image.tobytes() for path in paths]
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda path: open_picture(path).image.tobytes(), paths * 12))
    assert opened == expected * 12


# --- what the camera wrote -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".heic", ".avif"])
def test_time_camera_and_place(tmp_path: Path, suffix: str) -> None:
    tags = samples.exif(
        make="Canon",
        model="Canon EOS 5D",
        datetime="2020:01:02 03:04:05",
        original="2019:12:31 23:59:58",
        gps=samples.gps((21, 1, 42), (105, 51, 0)),
    )
    picture = open_picture(samples.in_format(tmp_path / f"shot{suffix}", exif=tags.tobytes()))
    assert picture.taken == "2019-12-31T23:59:58"
    assert picture.camera == "Canon EOS 5D"
    assert picture.latitude == pytest.approx(21.0283333)
    assert picture.longitude == pytest.approx(105.85)


def shot(tmp_path: Path, **tags: object) -> tuple[str | None, str | None, float | None, float | None]:
    picture = open_picture(samples.in_format(tmp_path / "shot.jpg", exif=samples.exif(**tags)).read_bytes())
    return picture.taken, picture.camera, picture.latitude, picture.longitude


def test_no_exif_says_nothing(tmp_path: Path) -> None:
    picture = open_picture(samples.in_format(tmp_path / "plain.jpg").read_bytes())
    assert (picture.taken, picture.camera, picture.latitude, picture.longitude) == (None,) * 4


@pytest.mark.parametrize(
    ("original", "datetime", "taken"),
    [
        ("0000:00:00 00:00:00", "2020:01:02 03:04:05", None),  # an editor's change is not the shutter
        ("0000:00:00 00:00:00", "    :  :     :  :  ", None),
        ("2020:13:40 03:04:05", "yesterday", None),
        ("2020:02:30 03:04:05", "", None),
        ("2020-05-06T07:08:09", "", "2020-05-06T07:08:09"),
        ("2020:05:06 07:08:09\0\0", "", "2020-05-06T07:08:09"),
    ],
)
def test_dates(tmp_path: Path, original: str, datetime: str, taken: str | None) -> None:
    assert shot(tmp_path, original=original, datetime=datetime)[0] == taken


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("Apple\0\0", "iPhone\x07 12\n\n", "Apple iPhone 12"),
        ("", "X100", "X100"),
        ("FUJIFILM", "", "FUJIFILM"),
        ("  ", "\0", None),
        ("m" * 300, "n" * 300, "m" * 100),
    ],
)
def test_cameras(tmp_path: Path, make: str, model: str, camera: str | None) -> None:
    assert shot(tmp_path, make=make, model=model)[1] == camera


@pytest.mark.parametrize(
    ("latitude", "longitude", "sides", "place"),
    [
        ((33, 30, 0), (70, 15, 0), "SW", (-33.5, -70.25)),
        ((91, 0, 0), (70, 15, 0), "NE", (None, None)),
        ((10, 0, 0), (181, 0, 0), "NE", (None, None)),
        ((10, 0, 0), (20, 0, 0), "XE", (None, None)),
    ],
)
def test_places(
    tmp_path: Path,
    latitude: tuple[float, ...],
    longitude: tuple[float, ...],
    sides: str,
    place: tuple[float | None, float | None],
) -> None:
    assert shot(tmp_path, gps=samples.gps(latitude, longitude, sides))[2:] == place


def test_a_place_over_zero_is_none(tmp_path: Path) -> None:
    """Cameras without a fix write 0/0."""
    tags = samples.exif(gps=samples.gps((12.5, 0, 0), (20, 0, 0)))
    data = samples.in_format(tmp_path / "nofix.jpg", exif=tags).read_bytes()
    assert open_picture(data).latitude == 12.5
    nofix = data.replace(struct.pack(">2I", 25, 2), bytes(8)).replace(struct.pack("<2I", 25, 2), bytes(8))
    assert nofix != data
    picture = open_picture(nofix)
    assert (picture.latitude, picture.longitude) == (None, None)


# --- finding -------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return [found.path.relative_to(folder).as_posix() for found in find_images(folder).images]


def reasons(folder: Path) -> dict[str, str]:
    return {Path(fail.path).relative_to(folder).as_posix(): fail.reason for fail in find_images(folder).skipped}


def fill(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")


def test_pictures_are_found_sorted_with_size_and_time(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.JPG", "a/1.png", "B/1.jpg", "a.jpg", "a/notes.txt", "a/Ảnh đẹp.webp", "Zoo.heic", "README")
    assert names(tmp_path) == ["a/1.png", "a/Ảnh đẹp.webp", "a.jpg", "B/1.jpg", "b/2.JPG", "Zoo.heic"]
    scan = find_images(tmp_path)
    assert scan.others == 2
    assert scan.skipped == []
    facts = scan.images[0].path.stat()
    assert (scan.images[0].bytes, scan.images[0].mtime) == (7, facts.st_mtime_ns)


def test_every_suffix_is_found(tmp_path: Path) -> None:
    fill(tmp_path, *(f"x{suffix.upper()}" for suffix in SUFFIXES))
    assert len(find_images(tmp_path).images) == len(SUFFIXES)


def test_what_is_passed_over_and_why(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    fill(folder, "good.jpg", ".hidden.jpg", ".cache/x.jpg", "album.jpg/inside.png", ".DS_Store")
    (folder / "empty.jpg").touch()
    os.mkfifo(folder / "pipe.jpg")
    assert names(folder) == ["album.jpg/inside.png", "good.jpg"]
    assert reasons(folder) == {
        ".cache": "hidden folder",
        ".hidden.jpg": "hidden",
        "empty.jpg": "empty (zero bytes)",
        "pipe.jpg": "not a regular file but a named pipe",
    }


def test_links(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    fill(folder, "album/real.jpg")
    fill(tmp_path, "outside/secret.jpg", "photos-2/near.jpg")
    (folder / "inside.jpg").symlink_to(folder / "album/real.jpg")
    (folder / "leaving.jpg").symlink_to("../outside/secret.jpg")
    (folder / "sibling.jpg").symlink_to("../photos-2/near.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "cycle").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "outside")
    assert names(folder) == ["album/real.jpg", "inside.jpg"]
    told = reasons(folder)
    assert told["leaving.jpg"] == "link leaving the folder (../outside/secret.jpg)"
    assert "leaving the folder" in told["sibling.jpg"]
    assert told["dangling.jpg"] == "link to nothing"
    assert set(told) == {"leaving.jpg", "sibling.jpg", "dangling.jpg", "loop.jpg", "cycle", "elsewhere"}
    assert told["cycle"].startswith("link to a folder")
    (tmp_path / "shortcut").symlink_to(folder)
    assert names(tmp_path / "shortcut") == names(folder)


def test_names_that_no_database_takes(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"content")
    scan = find_images(tmp_path)
    assert scan.images == []
    assert "UTF-8" in scan.skipped[0].reason
    scan.skipped[0].path.encode()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root: become somebody they do bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_that_may_not_be_read(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    fill(tmp_path, "open/1.jpg", "closed/2.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        with as_nobody():
            assert names(tmp_path) == ["open/1.jpg"]
            assert reasons(tmp_path) == {"closed": "unreadable folder: Permission denied"}
            with pytest.raises(BadInput, match="cannot be read"):
                find_images(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_no_folder_to_look_in(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No folder"):
        find_images(tmp_path / "absent")
    fill(tmp_path, "file.jpg")
    with pytest.raises(BadInput, match="not a folder"):
        find_images(tmp_path / "file.jpg")
    (tmp_path / "empty").mkdir()
    assert find_images(tmp_path / "empty").images == []


def test_content_hash(tmp_path: Path) -> None:
    fill(tmp_path, "x.jpg")
    assert content_hash(tmp_path / "x.jpg") == hashlib.sha256(b"content").hexdigest()


# --- thumbnails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 500), (256, 128)), ((500, 1000), (128, 256)), ((100, 50), (100, 50)), ((5000, 3), (256, 1))],
)
def test_thumbnails_fit_and_never_grow(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = open_picture(thumbnail(samples.corners(size))).image
    assert small.size == expected
    if min(expected) > 1:
        assert_colours(small, within=8)


def test_cache_draws_once_for_each_content(tmp_path: Path) -> None:
    source = samples.rotated_jpeg(tmp_path / "turned.jpg", 6)
    cache = ThumbnailCache(tmp_path / "deep/cache")
    first = cache.get("one", source)
    assert_colours(open_picture(first).image, within=12)
    source.unlink()
    assert cache.get("one", source) == first
    with pytest.raises(ImageError):
        cache.get("two", source)
    second = cache.put("two", samples.corners())
    assert second != first
    assert cache.get("two", source) == second
    cache.remove("two")
    cache.remove("never there")
    assert first.exists()
    assert not second.exists()


def test_cache_is_private_and_names_are_only_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o755)
    cache = ThumbnailCache(folder)
    made = cache.put("../../etc/ảnh của tôi.jpg", samples.corners())
    assert made.resolve().is_relative_to(folder.resolve())
    assert set(made.name) <= set("0123456789abcdef-.jpg")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_a_full_disk_leaves_no_half_of_a_thumbnail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ThumbnailCache(tmp_path / "cache")
    cache.put("one", samples.corners())

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(thumbnails, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        cache.put("one", samples.corners())
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert cache.made("one") is not None


def test_cache_survives_threads_its_own_deletion_and_an_empty_leftover(tmp_path: Path) -> None:
    source = samples.in_format(tmp_path / "scene.png")
    cache = ThumbnailCache(tmp_path / "cache")
    gate = threading.Barrier(6)

    def draw(_: int) -> bytes:
        gate.wait()
        return cache.get("id", source).read_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(draw, range(6)))) == 1
    made = cache.get("id", source)
    assert [path for path in (tmp_path / "cache").rglob("*.*") if path.name != "CACHEDIR.TAG"] == [made]
    made.write_bytes(b"")
    assert cache.get("id", source).stat().st_size
    made.unlink()
    made.parent.rmdir()
    (tmp_path / "cache" / "CACHEDIR.TAG").unlink()
    (tmp_path / "cache").rmdir()
    assert cache.get("id", source) == made
    assert made.exists()
