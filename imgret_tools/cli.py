"""`imgret`, the shell's way to the tools.

Results go to stdout (with `--json` as one JSON object), progress and errors to stderr. Exit status: 0 done (also when the
reader of stdout has heard enough), 1 a mistake of the user's or something that is missing, as one plain line, 2 wrong
usage. What a command line names may be read. Output prints in any encoding.
"""

from __future__ import annotations

import codecs
import gc
import io
import json
import logging
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, Protocol

import typer

from imgret_tools import __version__
from imgret_tools.collect.commands import app as collect_app
from imgret_tools.errors import BadInput, ImgretError

if TYPE_CHECKING:
    from imgret_tools.engine.query import PartKind
    from imgret_tools.records import IndexReport, Progress, SearchReport
    from imgret_tools.tools import ImageTools

app = typer.Typer(
    name="imgret",
    help="Image search by picture and by words: index a folder, search it, compare measures, serve a page, plug into agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(collect_app, name="collect")


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show on stderr what the program does and what it swallows.")
    ] = False,
) -> None:
    if verbose:
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("imgret_tools").setLevel(logging.DEBUG)


LibraryName = Annotated[str, typer.Option("--library", "-l", help="Name of the library.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        help="auto, mini, a nickname (`imgret encoders`), openclip:MODEL/PRETRAINED or openclip:MODEL:/path/to/checkpoint.",
    ),
]
Count = Annotated[int, typer.Option("--k", "-k", help="How many hits.")]
Refined = Annotated[
    str, typer.Option("--refine", help="auto: neighbours refine the order of a picture search where that helps; off.")
]

STDIO = "-"
"""As a file to read or write: stdin or stdout."""


class Reported(Protocol):
    """A record as the tools return it."""

    def to_dict(self) -> dict[str, object]: ...  # noqa: D102


def _print(record: Reported, as_json: bool) -> None:
    print(_json(record.to_dict()) if as_json else record)


def _json(value: object) -> str:
    """JSON that is right in the encoding of stdout: ASCII alone where that is not UTF-8."""
    import orjson

    try:
        data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # a file name that is no Unicode: its stray bytes stand as \udcXX
        return json.dumps(value, indent=2)
    return data.decode() if _is_utf8(sys.stdout.encoding) else json.dumps(orjson.loads(data), indent=2)


def _is_utf8(encoding: str | None) -> bool:
    return codecs.lookup(encoding or "utf-8").name == "utf-8"


def _write(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 into a file, line ends as they are; `-` is stdout, in its own encoding."""
    if str(path) == STDIO:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))
        return
    try:
        Path(path).write_bytes(text.encode("utf-8"))
    except OSError as error:
        raise BadInput(
            f"Cannot write {path} ({error.strerror}); give a file in a folder that is there and writable."
        ) from error


def _write_paths(report: SearchReport, end: bytes) -> None:
    """The hits' paths and nothing else, as the file system spells them."""
    sys.stdout.flush()
    for hit in report.hits:
        sys.stdout.buffer.write(os.fsencode(hit.path) + end)


def _with_whole_paths(report: SearchReport) -> SearchReport:
    """The report with hits that name their files whole, so that two can be told apart and each can be opened."""
    from dataclasses import replace

    hits = [replace(hit, metadata={**hit.metadata, "folder": None}) for hit in report.hits]
    return replace(report, hits=hits)


def _paths_of_stdin() -> list[str]:
    """The paths on stdin, one a line, or parted by zero bytes where there are any (`find -print0`, `--print0`)."""
    data = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)
    parts = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    if paths := [os.fsdecode(part) for part in parts if part.strip()]:
        return paths
    raise BadInput("There is no path on stdin; write one a line, as `find` and `imgret search --paths` do.")


@contextmanager
def _tools(*named: str | Path | None, allow_urls: bool = False) -> Iterator[ImageTools]:
    from dataclasses import replace

    from imgret_tools.engine.runtime import Runtime
    from imgret_tools.settings import Settings
    from imgret_tools.sources.source import inner, is_address, root_of
    from imgret_tools.tools import ImageTools

    addresses = [str(name) for name in named if name and is_address(str(name))]
    paths = [inner(str(name)) for name in named if name and not is_address(inner(str(name)))]
    settings = replace(Settings.from_env().with_roots(*paths), allow_urls=allow_urls)
    settings = settings.with_addresses(*map(root_of, addresses))
    with Runtime.open(settings) as runtime:
        yield ImageTools(runtime)


@contextmanager
def _progress_bar() -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]:.1f}/s"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("indexing", total=None, rate=0.0)

        def show(state: Progress) -> None:
            bar.update(task, completed=state.done, total=state.total, rate=state.rate, description=state.stage)

        yield show


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the first one ends the run in order and keeps what is done, a second one the process."""
    asked = threading.Event()
    default = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, default)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, default)


@app.command()
def index(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|ADDRESS",
            help="Folder of pictures, the names of its sub-folders become labels; or s3://, gs://, hf://, https://, a .tar of "
            "WebDataset, a .csv, .parquet or .txt of URLs, webdataset:FOLDER, datasets:NAME.",
        ),
    ],
    library: LibraryName = "default",
    encoder: Encoder = None,
    pixel_size: Annotated[
        int | None, typer.Option(help="Side of the stored pixel rows, 8 to 1024; 64 at first.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help='Leave out what fits (as in .gitignore); remembered; "" takes all back.'),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on following the folder's changes until Ctrl-C; a line for each run.")
    ] = False,
    poll: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="With --watch: look at all files so often, for network drives, which send no events.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray|ray://HOST:PORT", help="What reads, decodes and encodes.")
    ] = "local",
    as_json: AsJson = False,
) -> None:
    """Make a folder searchable, or bring it up to date."""
    from imgret_tools.tools import checkpoint_of

    if poll is not None and not watch:
        raise typer.BadParameter("--poll goes with --watch.")
    if watch and dry_run:
        raise typer.BadParameter("--watch and --dry-run exclude each other.")
    with _tools(folder, checkpoint_of(encoder)) as tools, _interruptible() as cancelled:

        def run() -> IndexReport:
            with _progress_bar() as progress:
                return tools.index(
                    str(folder),
                    library=library,
                    encoder=encoder,
                    pixel_size=pixel_size,
                    exclude=[pattern for pattern in exclude if pattern] if exclude else None,
                    dry_run=dry_run,
                    progress=progress,
                    cancelled=cancelled,
                    engine=engine,
                )

        if not watch:
            _print(run(), as_json)
            return
        from imgret_tools.engine.watching import follow
        from imgret_tools.sources.source import is_address

        if is_address(folder):
            raise BadInput(
                "--watch follows a folder of this machine; run `imgret index` again for what lies elsewhere."
            )
        settings = tools.runtime.settings
        own = [path for path in (settings.data_dir, settings.cache_dir) if path]
        for told in follow(Path(folder), run, poll=poll or 0.0, leave_out=own, stop=cancelled):
            if isinstance(told, str):
                print(told, file=sys.stderr, flush=True)
            else:
                print(_line_of(told, as_json), flush=True)


def _line_of(report: IndexReport, as_json: bool) -> str:
    """A run of `--watch` in one line: when, what changed and what failed; or its record."""
    import time

    if as_json:
        return json.dumps(report.to_dict())
    failed = "; ".join(f"failed {failure}" for failure in report.failed[:3])
    return " ".join(
        filter(
            None,
            (
                f"{time.strftime('%H:%M:%S')} added {report.added}, updated {report.updated}, renamed {report.renamed}, "
                f"removed {report.removed}, failed {len(report.failed)}, in all {report.total} ({report.seconds:.1f} s).",
                failed,
                report.notice,
            ),
        )
    )


@app.command()
def search(
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            "-i",
            help="Path, id of an indexed image, or URL, with :WEIGHT where it is not 1; repeatable; - reads paths from stdin, "
            "a search each.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="What the pictures should show, with :WEIGHT; repeatable."),
    ] = None,
    not_text: Annotated[
        list[str] | None, typer.Option(help="What they should not show, with :WEIGHT (0.5 as usual); repeatable.")
    ] = None,
    not_image: Annotated[
        list[str] | None, typer.Option(help="What they should not look like, with :WEIGHT; repeatable.")
    ] = None,
    library: LibraryName = "default",
    k: Count = 5,
    measure: Annotated[str, typer.Option("--measure", "-m", help="cosine, l2, l1 or pearson.")] = "cosine",
    space: Annotated[str, typer.Option(help="embedding or pixels.")] = "embedding",
    search: Annotated[str, typer.Option(help="auto, exact or hnsw.")] = "auto",
    where: Annotated[
        list[str] | None,
        typer.Option(help="Filter, e.g. label=dog, width>=1000, taken=2024-06; repeatable, or parted by commas."),
    ] = None,
    refine: Refined = "auto",
    offset: Annotated[int, typer.Option(help="Hits to skip.")] = 0,
    sort: Annotated[
        str, typer.Option(help="best, newest, oldest, name or largest; alone or with --where it browses.")
    ] = "best",
    match: Annotated[str, typer.Option(help="The least a hit must be: strong, fair or weak.")] = "weak",
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Let --image fetch a public URL.")] = False,
    html: Annotated[
        str | None,
        typer.Option(help="Also write the hits as one self-contained HTML page; - for only that, on stdout."),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(
            help="Also write the hits as CSV for spreadsheets (with a byte order mark for Excel); - for only that, on "
            "stdout and without the mark."
        ),
    ] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Print only the hits' paths, one a line.")] = False,
    print0: Annotated[
        bool, typer.Option("--print0", help="Print only the hits' paths, a zero byte behind each (for xargs -0).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find pictures that look like a picture, fit a text, or both."""
    forms = {
        "--json": as_json,
        "--paths": paths,
        "--print0": print0,
        "--csv -": csv == STDIO,
        "--html -": html == STDIO,
    }
    if len(given := [name for name, wanted in forms.items() if wanted]) > 1:
        raise typer.BadParameter(f"stdout can be one of {', '.join(given)}.")
    from imgret_tools.engine.query import common, weighted

    named: list[tuple[PartKind, list[str]]] = [
        ("image", [one for one in image or () if one != STDIO]),
        ("text", text or []),
        ("not_text", not_text or []),
        ("not_image", not_image or []),
    ]
    parts = [weighted(kind, one, is_file=lambda name: Path(name).is_file()) for kind, ones in named for one in ones]
    first, main_text, main_not_text, also = common(parts)
    images = [first]
    if STDIO in (image or ()):
        images, also = list(_paths_of_stdin()), [*also, *([f"image={first}"] if first is not None else [])]
    if len(images) > 1 and (html or csv):
        raise typer.BadParameter("--html and --csv hold one search; give one --image.")
    reports = []
    failed = 0
    files = [str(part.what) for part in parts if not part.is_text]
    with _tools(*images, *files, allow_urls=allow_urls) as tools:
        for one in images:
            try:
                report = tools.search_similar_image(
                    image=one,
                    text=main_text,
                    k=k,
                    measure=measure,  # type: ignore[arg-type]
                    space=space,  # type: ignore[arg-type]
                    library=library,
                    search=search,  # type: ignore[arg-type]
                    where=where,
                    not_text=main_not_text,
                    offset=offset,
                    refine=refine,  # type: ignore[arg-type]
                    sort=sort,  # type: ignore[arg-type]
                    also=also,
                    match=match,  # type: ignore[arg-type]
                )
            except ImgretError as error:
                if len(images) == 1:
                    raise
                failed = _failed(str(error))
                continue
            if paths or print0:
                _write_paths(report, b"\0" if print0 else os.fsencode(os.linesep))
            elif not any(forms.values()):
                print(_with_whole_paths(report), end="\n\n" if len(images) > 1 else "\n")
            reports.append(report)
        if html or csv:
            from imgret_tools import export

            if csv:
                text_of_csv = export.to_csv(reports[0])
                _write(csv, text_of_csv.removeprefix(export.BYTE_ORDER_MARK) if csv == STDIO else text_of_csv)
            if html:
                _write(html, export.to_html(reports[0], tools.runtime))
    if as_json:
        print(_json(reports[0].to_dict() if len(images) == 1 else {"searches": [one.to_dict() for one in reports]}))
    if failed:
        raise typer.Exit(failed)


@app.command()
def compare(
    image: Annotated[str | None, typer.Option("--image", "-i", help="One query: path or id.")] = None,
    queries: Annotated[Path | None, typer.Option(help="A folder of labelled queries: <class>/<picture>.")] = None,
    library: LibraryName = "default",
    k: Count = 5,
    refine: Refined = "auto",
    plot: Annotated[Path | None, typer.Option(help="Also draw it as a PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write it as one self-contained HTML page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what each measure finds on each space, with quality where folders are labels."""
    if (image is None) == (queries is None):
        raise BadInput("Give either --image (one query) or --queries (a folder of labelled queries).")
    with _tools(image, queries) as tools:
        comparison = (
            tools.compare(tools.picture(image, library), k=k, library=library, refine=refine)  # type: ignore[arg-type]
            if image is not None
            else tools.compare_queries(str(queries), k=k, library=library, refine=refine)  # type: ignore[arg-type]
        )
        if plot or html:
            from imgret_tools.comparing import figure

            if plot:
                figure.write_png(comparison, plot, tools.runtime)
            if html:
                figure.write_html(comparison, html, tools.runtime)
    _print(comparison, as_json)


@app.command()
def libraries(
    default: Annotated[
        str | None, typer.Option("--default", metavar="LIBRARY", help="Let `default` name this library from now on.")
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Share a library that another machine gave the Chroma server (NAME@OWNER where several are called so).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the libraries."""
    with _tools() as tools:
        if attach is not None:
            tools.runtime.attach(attach)
        if default is not None:
            tools.runtime.make_default(default)
        found = tools.runtime.libraries()
    if as_json:
        print(_json({"libraries": [info.to_dict() for info in found]}))
    elif not found:
        print("There is no library yet; `imgret index FOLDER` makes one.")
    else:
        for info in found:
            away = f" ({info.away} away)" if info.away else ""
            facts = f"{info.images} images{away}, encoder {info.encoder}, {info.bytes_on_disk / 1e6:.1f} MB"
            print(f"{info.name}: {info.damaged or facts}")


@app.command()
def info(library: LibraryName = "default", as_json: AsJson = False) -> None:
    """Show what a library is and holds."""
    with _tools() as tools:
        found = tools.runtime.info(library)
    _print(found, as_json)


@app.command()
def encoders(as_json: AsJson = False) -> None:
    """List encoders by nickname: what each is for, what it costs and how well it does."""
    from imgret_tools.encoders import known_encoders

    _print(known_encoders(), as_json)


@app.command()
def reencode(library: LibraryName = "default", encoder: Encoder = None, as_json: AsJson = False) -> None:
    """Encode a library's pictures anew, with another encoder or the newest recipe of its own; ids and labels stay."""
    from imgret_tools.tools import checkpoint_of

    with _tools(checkpoint_of(encoder)) as tools, _progress_bar() as progress, _interruptible() as cancelled:
        report = tools.reencode(library=library, encoder=encoder, progress=progress, cancelled=cancelled)
    _print(report, as_json)


@app.command("import")
def import_(
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS.npy", help="Rows (n, dim), or a folder that clip-retrieval wrote.")
    ],
    table: Annotated[
        Path | None,
        typer.Argument(metavar="META.csv|META.parquet", help="A line for each row: path, and what is known."),
    ] = None,
    library: LibraryName = "default",
    encoder: Encoder = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Give rows of another length length 1.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take rows made elsewhere into a library; the picture files need not exist."""
    with _tools(rows, table) as tools, _progress_bar() as progress, _interruptible() as cancelled:
        report = tools.runtime.import_rows(
            rows,
            table,
            library=library,
            encoder=encoder,
            normalize=normalize,
            progress=progress,
            cancelled=cancelled,
        )
    _print(report, as_json)


@app.command("export")
def export_(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.npy", help="File for the rows (n, dim), float32.")],
    table: Annotated[Path, typer.Argument(metavar="META.parquet|META.csv", help="File for their table.")],
    library: LibraryName = "default",
    as_json: AsJson = False,
) -> None:
    """Write a library's rows and their table for other programs, or for `imgret import`."""
    with _tools() as tools, _progress_bar() as progress:
        report = tools.runtime.export_rows(rows, table, library=library, progress=progress)
    _print(report, as_json)


@app.command()
def doctor(
    library: LibraryName = "default",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="First make whole again what can be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a library: catalogue, rows and Chroma against each other, a sample of the pictures against their files."""
    with _tools() as tools:
        runtime = tools.runtime
        rebuilt = runtime.rebuild(library) if rebuild else None
        problems = runtime.check(library)
        images = runtime.library(library).card.images if not problems else None
    if as_json:
        print(_json({"library": library, "images": images, "rebuilt": rebuilt, "problems": problems}))
    else:
        if rebuilt is not None:
            print(f"Made whole again: {rebuilt} images.")
        print("\n".join(problems) or f"Library {library!r} is well: {images} images, in the catalogue and in Chroma.")
    if problems:
        raise typer.Exit(1)


@app.command()
def duplicates(
    library: LibraryName = "default",
    like: Annotated[
        str, typer.Option(help="exact (the same content), near (copies of one shot) or any of both.")
    ] = "any",
    as_json: AsJson = False,
) -> None:
    """Find pictures that a library holds more than once, and which to keep; nothing is deleted."""
    with _tools() as tools:
        found = tools.find_duplicates(library=library, like=like)  # type: ignore[arg-type]
    _print(found, as_json)


@app.command()
def forget(
    what: Annotated[list[str], typer.Argument(metavar="FOLDER|ID...", help="Folders or ids to take out.")],
    library: LibraryName = "default",
    as_json: AsJson = False,
) -> None:
    """Take a folder or single pictures out of a library; no picture file is touched."""
    with _tools() as tools:
        count = tools.runtime.forget(what, library=library)
    print(
        _json({"library": library, "forgotten": count})
        if as_json
        else f"Took {count} images out of library {library!r}."
    )


@app.command()
def rename(
    library: Annotated[str, typer.Argument(metavar="LIBRARY", help="Name of the library.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    as_json: AsJson = False,
) -> None:
    """Give a library another name; ids, labels and rows stay."""
    with _tools() as tools:
        now = tools.runtime.rename(library, name)
    print(_json({"library": library, "name": now}) if as_json else f"Library {library!r} is called {now!r} now.")


@app.command()
def delete(
    library: Annotated[str, typer.Argument(metavar="LIBRARY", help="Name of the library.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a library's index; no picture file is touched."""
    if not yes:
        if not sys.stdin.isatty():
            raise BadInput(f"Library {library!r} is deleted only when you say so: add --yes.")
        typer.confirm(
            f"Delete the index of library {library!r}? Its pictures stay where they are.", abort=True, err=True
        )
    with _tools() as tools:
        count = tools.runtime.delete(library)
    print(_json({"library": library, "deleted": count}) if as_json else f"Deleted library {library!r}: {count} images.")


@app.command()
def mcp(
    with_images: Annotated[bool, typer.Option("--with-images", help="Send thumbnails of what a search finds.")] = False,
) -> None:
    """Serve the tools over MCP on stdin and stdout."""
    from imgret_tools.mcp import run_stdio

    with _tools() as tools:
        run_stdio(tools, with_images=with_images)


@app.command(context_settings={"ignore_unknown_options": True})
def chat(
    words: Annotated[list[str] | None, typer.Argument(help="What to ask; without it, a talk line by line.")] = None,
    model: Annotated[
        str | None, typer.Option(help="provider:model; default IMGRET_MODEL, else the offline one.")
    ] = None,
) -> None:
    """Chat with your pictures: the page's chat in a shell."""
    from imgret_tools.chat.__main__ import main as talk

    raise typer.Exit(talk([*(["--model", model] if model is not None else []), "--", *(words or [])]))


@app.command()
def serve(
    folder: Annotated[Path | None, typer.Option(help="Index this folder first and open it.")] = None,
    library: LibraryName = "default",
    also: Annotated[
        list[str] | None, typer.Option(help="Library that a read-only app shows beside --library; repeatable.")
    ] = None,
    encoder: Encoder = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
    share: Annotated[
        bool, typer.Option("--share", help="Ask Gradio for a public link; the app is then read-only.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="No indexing, no collecting, no paths shown.")] = False,
    allow_writes: Annotated[bool, typer.Option("--allow-writes", help="Let a shared app index and collect.")] = False,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Let queries be public URLs.")] = False,
    auth: Annotated[str | None, typer.Option(help="USER:PASS asked of every visitor.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name of a proxy under which the app is asked; repeatable, * for any.")
    ] = None,
) -> None:
    """Serve the page, the API and MCP: the same app as `python gradio_app.py`."""
    from imgret_tools.settings import Settings
    from imgret_tools.ui.app import serve as serve_app

    serve_app(
        Settings.from_env(),
        folder=folder,
        library=library,
        also=also or (),
        encoder=encoder,
        host=host,
        port=port,
        share=share,
        read_only=read_only,
        allow_writes=allow_writes,
        allow_urls=allow_urls,
        auth=auth,
        allow_hosts=allow_host or (),
    )


@app.command()
def course(
    folder: Annotated[
        Path | None, typer.Option(help="Pictures of yours, a sub-folder a label; default: the demo.")
    ] = None,
    lang: Annotated[Literal["en", "vi"], typer.Option(help="Language of the texts.")] = "en",
    out: Annotated[Path, typer.Option(help="Where report, notebooks and figures go.")] = Path("imgret-course"),
    as_json: AsJson = False,
) -> None:
    """Run the course: four lessons as one HTML report, notebooks and figures."""
    from imgret_tools.course.report import make_course

    def at(lesson: str, done: int, total: int) -> None:
        print(f"\r{lesson}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    _print(make_course(out, folder=folder, language=lang, on_cell=at), as_json)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run `imgret`; errors become one line and an exit status, never a traceback."""
    gc.set_threshold(50_000)  # else a tenth of a cold search goes into looking through what was just imported
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            codecs.register_error(f"imgret-{stream.encoding}", partial(_nearest_letters, stream.encoding))
            stream.reconfigure(errors=f"imgret-{stream.encoding}")
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except ImgretError as error:
        sys.exit(_failed(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _end_quietly()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Typer ends with 1 then
            _end_quietly()
        raise
    except Exception as error:
        logging.getLogger("imgret_tools").debug("unexpected", exc_info=True)
        sys.exit(
            _failed(f"Unexpected {type(error).__name__}: {error}. Please report it with the command that was run.")
        )


def _end_quietly() -> NoReturn:
    """End with 0 where the reader of stdout has closed it: `imgret ... | head` is no failure."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # what is still in the buffer goes there when Python ends
    sys.exit(0)


def _nearest_letters(encoding: str, error: UnicodeError) -> tuple[str, int]:
    r"""What stands for letters that `encoding` lacks: their parts (cp1258 has ả as a and a mark), else \uXXXX."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_in_parts(letter, encoding) for letter in error.object[error.start : error.end]), error.end


def _in_parts(letter: str, encoding: str) -> str:
    codes = unicodedata.decomposition(letter).split()
    parts = "" if codes[:1] and codes[0].startswith("<") else "".join(chr(int(code, 16)) for code in codes)
    try:
        parts.encode(encoding)
    except UnicodeEncodeError:
        parts = ""
    return parts or letter.encode("ascii", "backslashreplace").decode()


def _failed(message: str) -> int:
    from imgret_tools.records import visible

    with suppress(BrokenPipeError):
        print(visible(" ".join(message.split())), file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    main()
