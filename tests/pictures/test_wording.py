"""Dates by the rule, and the keywords, ratings and captions that people wrote; none of it may cost the picture."""

from __future__ import annotations

import os
import struct
import time
from io import BytesIO
from pathlib import Path

import pytest
import samples
from PIL import Image

from imgret_tools.pictures.exif import date_in_name
from imgret_tools.pictures.open import open_picture

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
SPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
}


def xmp(body: str = "", **attributes: object) -> bytes:
    spaces = " ".join(f'xmlns:{name}="{space}"' for name, space in SPACES.items())
    given = " ".join(f'{name.replace("_", ":")}="{value}"' for name, value in attributes.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description rdf:about="" {spaces} {given}>{body}</rdf:Description></rdf:RDF>'
        '</x:xmpmeta>\n    <?xpacket end="w"?>'
    ).encode()


KEYWORDS = "<dc:subject><rdf:Bag><rdf:li>biển</rdf:li><rdf:li>Anna</rdf:li><rdf:li>anna</rdf:li></rdf:Bag></dc:subject>"
CAPTION = (
    '<dc:description><rdf:Alt><rdf:li xml:lang="vi">Ở biển</rdf:li>'
    '<rdf:li xml:lang="x-default">By the\n sea</rdf:li></rdf:Alt></dc:description>'
)


def saved(suffix: str = ".jpg", **options: object) -> bytes:
    out = BytesIO()
    formats = {".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG", ".tif": "TIFF", ".heic": "HEIF", ".avif": "AVIF"}
    samples.corners().save(out, formats[suffix], **options)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif", ".heic", ".avif"])
def test_xmp_of_every_format(suffix: str) -> None:
    packet = xmp(KEYWORDS + CAPTION, xmp_Rating=4)
    if suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        data = saved(suffix, pnginfo=info)
    elif suffix == ".tif":
        data = saved(suffix, tiffinfo={700: packet})
    else:
        data = saved(suffix, xmp=packet)
    picture = open_picture(data)
    assert (picture.keywords, picture.rating, picture.caption) == (("biển", "Anna"), 4, "By the sea")


@pytest.mark.parametrize(
    ("body", "attributes", "rating"),
    [
        ("<xmp:Rating>5</xmp:Rating>", {}, 5),
        ("", {"xmp_Rating": "-1"}, -1),
        ("", {"xmp_Rating": "3.0"}, 3),
        ("", {"xmp_Rating": "0"}, 0),
        ("", {"xmp_Rating": "99"}, None),
        ("", {"xmp_Rating": "nan"}, None),
        ("", {"xmp_Rating": "many"}, None),
        ("", {"MicrosoftPhoto_Rating": "75"}, 4),
        ("", {}, None),
    ],
)
def test_ratings(body: str, attributes: dict[str, str], rating: int | None) -> None:
    assert open_picture(saved(xmp=xmp(body, **attributes))).rating == rating


def iptc(*datasets: tuple[int, int, bytes]) -> bytes:
    """A JPEG with these IPTC datasets in its APP13 segment."""
    block = b"".join(
        struct.pack(">BBBH", 0x1C, record, number, len(value)) + value for record, number, value in datasets
    )
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    segment = b"Photoshop 3.0\0" + resource
    data = saved()
    return data[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def test_iptc() -> None:
    data = iptc(
        (1, 90, b"\x1b%G"),
        (2, 25, "biển".encode()),
        (2, 25, "Crème".encode("cp1252")),
        (2, 120, b"By the sea"),
        (2, 55, b"19980715"),
        (2, 60, b"123045+0200"),
    )
    picture = open_picture(data)
    assert picture.keywords == ("biển", "Crème")
    assert (picture.caption, picture.taken) == ("By the sea", "1998-07-15T12:30:45")


def test_words_in_exif() -> None:
    tags = samples.exif()
    tags[0x9C9E] = "biển;Anna\0".encode("utf-16-le")
    tags[0x4746] = 3
    tags[0x010E] = "By the sea"
    picture = open_picture(saved(exif=tags))
    assert (picture.keywords, picture.rating, picture.caption) == (("biển", "Anna"), 3, "By the sea")
    tags[0x010E] = "OLYMPUS DIGITAL CAMERA         "
    assert open_picture(saved(exif=tags)).caption is None


BOMB = "<!DOCTYPE x [<!ENTITY a0 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 20)
)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<",
        b"not xml at all",
        b"<x:xmpmeta>",
        b"\xff\xfe<\0x\0",
        BOMB.encode() + b"]><x>&a19;</x>",
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b"<x>" * 20_000 + b"</x>" * 20_000,
        b"<x a='" + b"z" * 60_000 + b"'/>",
        xmp("<dc:subject><rdf:Bag>" + "<rdf:li>k\x7f</rdf:li>" * 900 + "</rdf:Bag></dc:subject>"),
        xmp("<dc:subject><rdf:Bag><rdf:li/><rdf:li> </rdf:li></rdf:Bag></dc:subject>", xmp_Rating=""),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_hostile_xmp_never_costs_the_picture(packet: bytes, suffix: str) -> None:
    options = {"tiffinfo": {700: packet or b"\0"}} if suffix == ".tif" else {"xmp": packet}
    try:
        data = saved(suffix, **options)
    except ValueError:  # longer than a JPEG's segment
        data = saved(suffix, xmp=packet[:60_000])
    picture = open_picture(data)
    assert samples.seen(picture.image)[3] == pytest.approx((255, 255, 255), abs=4)
    assert len(picture.keywords) <= 100
    assert all(word.isprintable() for word in picture.keywords)


def test_damaged_iptc_never_costs_the_picture() -> None:
    whole = iptc((2, 25, b"sea"), (2, 120, b"By the sea"))
    at = whole.index(b"Photoshop")
    for offset in range(50):  # to the end of its segment
        damaged = bytearray(whole)
        damaged[at + offset] ^= 0xFF
        assert open_picture(bytes(damaged)).image.size == samples.SIZE


# --- dates ---------------------------------------------------------------------------------------------------------


def exif_with(**times: str) -> Image.Exif:
    tags = samples.exif()
    for name, tag in (("original", 0x9003), ("digitized", 0x9004)):
        if name in times:
            tags.get_ifd(0x8769)[tag] = times[name]
    if "changed" in times:
        tags[0x0132] = times["changed"]
    return tags


@pytest.mark.parametrize(
    ("times", "name", "taken"),
    [
        ({"original": "2001:02:03 04:05:06", "digitized": "2010:01:01 00:00:00"}, "x", "2001-02-03T04:05:06"),
        ({"digitized": "1998:07:15 12:30:45", "changed": "2025:01:01 00:00:00"}, "x", "1998-07-15T12:30:45"),
        ({"digitized": "1998:07:15 12:30:45"}, "IMG_20190704_123456", "1998-07-15T12:30:45"),
        ({"changed": "2025:01:01 00:00:00"}, "IMG_20190704_123456", "2019-07-04T12:34:56"),
        ({"original": "0000:00:00 00:00:00"}, "2019-07-04", "2019-07-04T00:00:00"),
        ({"changed": "2025:01:01 00:00:00"}, "holiday", "2012-03-04T05:06:07"),
        ({}, "holiday", "2012-03-04T05:06:07"),
    ],
)
def test_the_shutter_then_the_scanner_then_the_name_then_the_file(
    tmp_path: Path, times: dict[str, str], name: str, taken: str
) -> None:
    """An edited scan of 1998 was dated by the editor."""
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(saved(exif=exif_with(**times)))
    written = time.mktime((2012, 3, 4, 5, 6, 7, 0, 0, -1))
    os.utime(path, (written, written))
    assert open_picture(path).taken == taken


def test_dates_in_xmp() -> None:
    tags = exif_with(digitized="2010:01:01 00:00:00")
    packet = xmp(exif_DateTimeOriginal="1998-07-15T12:30:45+02:00", xmp_ModifyDate="2025-01-01T00:00:00")
    assert open_picture(saved(exif=tags, xmp=packet)).taken == "1998-07-15T12:30:45"
    assert open_picture(saved(xmp=xmp(photoshop_DateCreated="1998-07-15"))).taken == "1998-07-15T00:00:00"
    assert open_picture(saved(xmp=xmp(xmp_CreateDate="1998-07-15T12:30"))).taken == "1998-07-15T12:30:00"
    assert open_picture(saved(xmp=xmp(xmp_ModifyDate="1998-07-15T12:30:00"))).taken is None


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("IMG_20190704_123456", "2019-07-04T12:34:56"),
        ("PXL_20210101_235959123", "2021-01-01T23:59:59"),
        ("20190704_123456", "2019-07-04T12:34:56"),
        ("2019-07-04 12.34.56", "2019-07-04T12:34:56"),
        ("2019_07_04_12_34_56", "2019-07-04T12:34:56"),
        ("IMG-20190704-WA0001", "2019-07-04T00:00:00"),
        ("Screenshot 2023-01-02 at 3.04.05 PM", "2023-01-02T15:04:05"),
        ("Screenshot_20200131-070809_Chrome", "2020-01-31T07:08:09"),
        ("signal-2020-01-31-070809", "2020-01-31T07:08:09"),
        ("photo_2020-01-31_07-08-09", "2020-01-31T07:08:09"),
        ("Scan 1998-07-15", "1998-07-15T00:00:00"),
        ("holiday", None),
        ("20191304_123456", None),
        ("20190230", None),
        ("1234567890", None),
        ("IMG_12019070412", None),
        ("99990101", None),
        ("20990101", None),
        ("DSC02019", None),
        ("1920x1080", None),
        ("3f20190704ab", None),
    ],
)
def test_dates_in_names(name: str, taken: str | None) -> None:
    assert date_in_name(name) == taken
