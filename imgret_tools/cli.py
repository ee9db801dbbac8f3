"""`imgret`, the shell's way to the tools.

Results go to stdout (with `--json` as one JSON object), progress and errors to stderr. Exit status: 0 done, 1 a mistake
of the user's or something that is missing, as one plain line, 2 wrong usage. What a command line names may be read.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from imgret_tools import __version__
from imgret_tools.collect.commands import app as collect_app
from imgret_tools.errors import BadInput, ImgretError

if TYPE_CHECKING:
    from imgret_tools.records import Progress
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

LibraryName = Annotated[str, typer.Option("--library", "-l", help="Name of the library.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder", "-e", help="auto, mini, openclip:MODEL/PRETRAINED or openclip:MODEL:/path/to/checkpoint."
    ),
]
Count = Annotated[int, typer.Option("--k", "-k", help="How many hits.")]


class Reported(Protocol):
    """A record as the tools return it."""

    def to_dict(self) -> dict[str, object]: ...  # noqa: D102


def _print(record: Reported, as_json: bool) -> None:
    print(_json(record.to_dict()) if as_json else record)


def _json(value: object) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY).decode()


@contextmanager
def _tools(*named: str | Path | None, allow_urls: bool = False) -> Iterator[ImageTools]:
    from dataclasses import replace

    from imgret_tools.engine.runtime import Runtime
    from imgret_tools.settings import Settings
    from imgret_tools.tools import ImageTools

    settings = replace(Settings.from_env().with_roots(*(path for path in named if path)), allow_urls=allow_urls)
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
    folder: Annotated[Path, typer.Argument(help="Folder of pictures; the names of its sub-folders become labels.")],
    library: LibraryName = "default",
    encoder: Encoder = None,
    pixel_size: Annotated[
        int | None, typer.Option(help="Side of the stored pixel rows, 8 to 1024; 64 at first.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a folder searchable, or bring it up to date."""
    with _tools(folder) as tools, _progress_bar() as progress, _interruptible() as cancelled:
        report = tools.index(
            str(folder),
            library=library,
            encoder=encoder,
            pixel_size=pixel_size,
            dry_run=dry_run,
            progress=progress,
            cancelled=cancelled,
        )
    _print(report, as_json)


@app.command()
def search(
    image: Annotated[str | None, typer.Option("--image", "-i", help="Path, id of an indexed image, or URL.")] = None,
    text: Annotated[str | None, typer.Option("--text", "-t", help="What the pictures should show.")] = None,
    not_text: Annotated[str | None, typer.Option(help="What they should not show.")] = None,
    library: LibraryName = "default",
    k: Count = 5,
    measure: Annotated[str, typer.Option("--measure", "-m", help="cosine, l2, l1 or pearson.")] = "cosine",
    space: Annotated[str, typer.Option(help="embedding or pixels.")] = "embedding",
    search: Annotated[str, typer.Option(help="auto, exact or hnsw.")] = "auto",
    where: Annotated[list[str] | None, typer.Option(help="Filter, e.g. label=dog, width>=1000; repeatable.")] = None,
    offset: Annotated[int, typer.Option(help="Hits to skip.")] = 0,
    allow_urls: Annotated[bool, typer.Option("--allow-urls", help="Let --image fetch a public URL.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the hits as one self-contained HTML page.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write the hits as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find pictures that look like a picture, fit a text, or both."""
    with _tools(image, allow_urls=allow_urls) as tools:
        report = tools.search_similar_image(
            image=image,
            text=text,
            k=k,
            measure=measure,  # type: ignore[arg-type]
            space=space,  # type: ignore[arg-type]
            library=library,
            search=search,  # type: ignore[arg-type]
            where=where,
            not_text=not_text,
            offset=offset,
        )
        if html or csv:
            from imgret_tools import export

            if csv:
                _write(csv, export.to_csv(report))
            if html:
                _write(html, export.to_html(report, tools.runtime))
    _print(report, as_json)


@app.command()
def compare(
    image: Annotated[str | None, typer.Option("--image", "-i", help="One query: path or id.")] = None,
    queries: Annotated[Path | None, typer.Option(help="A folder of labelled queries: <class>/<picture>.")] = None,
    library: LibraryName = "default",
    k: Count = 5,
    plot: Annotated[Path | None, typer.Option(help="Also draw it as a PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write it as one self-contained HTML page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what each measure finds on each space, with quality where folders are labels."""
    if (image is None) == (queries is None):
        raise BadInput("Give either --image (one query) or --queries (a folder of labelled queries).")
    with _tools(image, queries) as tools:
        comparison = (
            tools.compare_metrics(image, k=k, library=library)
            if image is not None
            else tools.compare_queries(str(queries), k=k, library=library)
        )
        if plot or html:
            from imgret_tools.comparing import figure

            if plot:
                figure.write_png(comparison, plot, tools.runtime)
            if html:
                figure.write_html(comparison, html, tools.runtime)
    _print(comparison, as_json)


@app.command()
def libraries(as_json: AsJson = False) -> None:
    """List the libraries."""
    with _tools() as tools:
        found = tools.runtime.libraries()
    if as_json:
        print(_json({"libraries": [info.to_dict() for info in found]}))
    elif not found:
        print("There is no library yet; `imgret index FOLDER` makes one.")
    else:
        for info in found:
            print(f"{info.name}: {info.images} images, encoder {info.encoder}, {info.bytes_on_disk / 1e6:.1f} MB")


@app.command()
def info(library: LibraryName = "default", as_json: AsJson = False) -> None:
    """Show what a library is and holds."""
    with _tools() as tools:
        found = tools.runtime.library(library).info()
    _print(found, as_json)


@app.command()
def doctor(
    library: LibraryName = "default",
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make Chroma's files anew from the snapshot first.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a library: do Chroma and the snapshot agree, does every sampled image find itself."""
    with _tools() as tools:
        found = tools.runtime.library(library)
        rebuilt = found.rebuild() if rebuild else None
        problems = found.check()
        images = len(found)
    if as_json:
        print(_json({"library": library, "images": images, "rebuilt": rebuilt, "problems": problems}))
    else:
        if rebuilt is not None:
            print(f"Put {rebuilt} images back into Chroma.")
        print("\n".join(problems) or f"Library {library!r} is well: {images} images, in Chroma and in the snapshot.")
    if problems:
        raise typer.Exit(1)


@app.command()
def mcp() -> None:
    """Serve the tools over MCP on stdin and stdout."""
    from imgret_tools.mcp import run_stdio

    with _tools() as tools:
        run_stdio(tools)


@app.command()
def serve(
    folder: Annotated[Path | None, typer.Option(help="Index this folder first and open it.")] = None,
    library: LibraryName = "default",
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
) -> None:
    """Serve the page, the API and MCP: the same app as `python gradio_app.py`."""
    from imgret_tools.settings import Settings
    from imgret_tools.ui.app import serve as serve_app

    serve_app(
        Settings.from_env(),
        folder=folder,
        library=library,
        encoder=encoder,
        host=host,
        port=port,
        share=share,
        read_only=read_only,
        allow_writes=allow_writes,
        allow_urls=allow_urls,
        auth=auth,
    )


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise BadInput(
            f"Cannot write {path} ({error.strerror}); give a file in a folder that is there and writable."
        ) from error


def main() -> None:
    """Run `imgret`; errors become one line and an exit status, never a traceback."""
    try:
        app()
    except ImgretError as error:
        sys.exit(_failed(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        sys.exit(
            _failed(f"Unexpected {type(error).__name__}: {error}. Please report it with the command that was run.")
        )


def _failed(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
