"""What a file is: the formats that are read, the kinds that are not, by what its first bytes say and else by its name.

`FORMATS` is the one table of formats, `OTHERS` the one of names that settle that a file is no picture. A file whose
suffix stands in neither is judged by its head (`format_of`), so a picture called `latest` or `photo.jpg_large` is found
and a page called `photo` is not taken for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from imgret_tools.errors import Message

HEAD = 64
"""How many bytes of a file `format_of` wants to see."""

EXTRA = "pip install 'imgret-tools[formats]'"


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read: its name, its lower-case suffixes, and the module of the extra `formats` it needs."""

    name: str
    suffixes: tuple[str, ...]
    module: str = ""


# In the order in which decoders are tried. AVIF stands before HEIF: both claim the brand `mif1`, and Pillow's AVIF
# declines what is not AV1.
FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".mpo")),
    Format("PNG", (".png", ".apng")),
    Format("WEBP", (".webp",)),
    Format("GIF", (".gif",)),
    Format("TIFF", (".tif", ".tiff")),
    Format("BMP", (".bmp", ".dib")),
    Format("JPEG2000", (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx")),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm", ".pfm")),
    Format("AVIF", (".avif", ".avifs")),
    Format("HEIF", (".heic", ".heics", ".heif", ".heifs", ".hif")),
    Format("ICO", (".ico",)),
    Format("TGA", (".tga", ".icb", ".vda", ".vst")),
    Format("JXL", (".jxl",), "pillow_jxl"),
    Format("SVG", (".svg", ".svgz"), "resvg_py"),
    Format(
        "RAW",
        (
            ".3fr",
            ".ari",
            ".arw",
            ".bay",
            ".cr2",
            ".cr3",
            ".crw",
            ".dcr",
            ".dng",
            ".erf",
            ".fff",
            ".gpr",
            ".iiq",
            ".k25",
            ".kdc",
            ".mef",
            ".mos",
            ".mrw",
            ".nef",
            ".nrw",
            ".orf",
            ".pef",
            ".ptx",
            ".raf",
            ".rw2",
            ".rwl",
            ".rwz",
            ".sr2",
            ".srf",
            ".srw",
            ".x3f",
        ),
        "rawpy",
    ),
)

SUFFIXES: dict[str, Format] = {suffix: form for form in FORMATS for suffix in form.suffixes}
"""The format that a lower-case suffix promises."""

NAMES: dict[str, Format] = {form.name: form for form in FORMATS}

OTHERS: dict[str, str] = {
    f".{suffix}": kind
    for kind, suffixes in {
        "video": "3g2 3gp asf avi flv insv lrv m2t m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv rm rmvb vob webm wmv",
        "audio": "aac aif aiff amr ape flac m4a m4b mid midi mka mp3 oga ogg opus wav wma",
        "drawing": "afdesign afphoto ai cdr clip eps indd kra odg procreate ps psb psd sketch vsdx xcf",
        "document": "doc docm docx epub key mobi numbers odp ods odt pages pdf ppt pptx rtf xls xlsm xlsx",
        "archive": "7z bz2 cab cbr cbz dmg gz iso jar lz4 rar tar tbz tgz txz xz zip zst",
        "picture format not read": "ani blp bpg cur dcm dds dpx emf exr fit fits flc fli flif fpx fts hdp hdr icns jbig2 jng jxr msp pcd pct pcx "
        "pict qoi ras rgb rgba sgi spider sun wbmp wdp wmf xbm xpm xwd",
        "program": "a apk bat class com dll dylib elf exe lib msi o obj pyc pyd pyo so sys wasm whl",
        "source code": "bash c cc cfg conf cpp css go h hpp ini ipynb java js jsx less lock lua m mjs patch pl pxd py "
        "pyi pyx r rb rs rst scss sh sql swift toml ts tsx vue",
        "data": "arrow csv db feather geojson gpx h5 hdf5 jsonl json kml kmz mat npy npz onnx orc parquet pb pickle pkl "
        "pt pth safetensors shp sqlite sqlite3 tsv xml yaml yml",
        "font": "eot otf ttc ttf woff woff2",
        "side file": "aae bak cos cop dop json~ lrcat lrtemplate mie on1 pp3 rpp thm xmp xmpl",
        "thumbnail store": "ithmb lrprev pspimage thumbdata thumbdata3",
        "unfinished download": "!ut crdownload icloud opdownload part partial",
        "log": "log",
    }.items()
    for suffix in suffixes.split()
}
"""The kind of file that a lower-case suffix settles, without a look at its content."""

SYSTEM_FILES = frozenset(
    {
        ".ds_store",
        ".imgretignore",
        ".localized",
        ".nomedia",
        "cachedir.tag",
        "desktop.ini",
        "ehthumbs.db",
        "thumbs.db",
        "icon\r",
        "picasa.ini",
        "zbthumbnail.info",
    }
)

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "RAW", b"jxl ": "JXL"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"), "HEIF"
)
_RAW = re.compile(
    rb"II\*\0.{4}CR|II\x1a\0.{2}\0\0HEAP|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|FOVb|\0MRM|ARRI.{4}\0", re.DOTALL
)
_SIGNS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89PNG\r\n\x1a\n", "PNG"),
        (rb"RIFF.{4}WEBP", "WEBP"),
        (rb"GIF8[79]a", "GIF"),
        (_RAW.pattern, "RAW"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"BM.{4}.{8}[\x0c(4@lx|8]\0\0\0", "BMP"),
        (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (rb"P[1-6]\s(?:#[^\n]*\n|\s)*\d{1,6}\s+\d|P[fF]\s+\d+\s+\d+\s+-?[\d.]+\s|P7\nWIDTH ", "PPM"),
        (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
        (rb"\0\0\x01\0[\x01-\x40]\0..[\0-\x20]\0", "ICO"),
        (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!DOCTYPE svg|<svg[\s>])", "SVG"),
    )
)
_OTHER_SIGNS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), kind)
    for pattern, kind in (
        (rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI |FLV\x01|\0\0\x01[\xba\xb3]", "video"),
        (rb"ID3|fLaC|OggS|RIFF.{4}WAVE|\xff[\xfb\xf3\xf2]", "audio"),
        (rb"8BPS|%!PS|gimp xcf", "drawing"),
        (rb"%PDF|\xd0\xcf\x11\xe0|\{\\rtf", "document"),
        (rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|BZh|7z\xbc\xaf|Rar!|\xfd7zXZ|\x28\xb5\x2f\xfd", "archive"),
        (rb"\x7fELF|MZ|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|#!", "program"),
        (rb"SQLite format 3", "data"),
        (rb"(?:\xef\xbb\xbf)?\s*(?:<!doctype html|<html)", "web page"),
    )
)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]+")


def suffix_of(name: str) -> str:
    """The lower-case suffix of a file name with its dot, blanks at its end left out; of `.jpg` itself `.jpg`."""
    return f".{name.rpartition('.')[2].strip().lower()}" if "." in name else ""


def format_of(head: bytes) -> str:
    """The name of the format whose files start with `head` (at least `HEAD` bytes where there are as many), or ""."""
    if head[4:8] == b"ftyp":
        return next(
            (_BRANDS[brand] for at in (8, *range(16, len(head), 4)) if (brand := head[at : at + 4]) in _BRANDS), ""
        )
    return next((name for sign, name in _SIGNS if sign.match(head)), "")


def other_kind(head: bytes) -> str:
    """What kind of file starts with `head`, when it is no picture: `video`, `text`, ...; `unknown` when nobody knows."""
    for sign, kind in _OTHER_SIGNS:
        if sign.match(head):
            return kind
    return "text" if _TEXT.fullmatch(head) else "unknown"


@cache
def missing(name: str) -> str:
    """Why a format that is known cannot be read here, with what to install; empty when it can."""
    module = NAMES[name].module
    if not module or find_spec(module) is not None:
        return ""
    return Message("{name} files need the extra `formats`: {extra}", name=name, extra=EXTRA)
