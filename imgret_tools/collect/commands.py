"""`imgret collect crawl|download|clean|split|all`: the four functions and their sum, for shells.

Exit codes: 0 done, 1 an error as one plain line on stderr, 2 wrong usage, 130 stopped by Ctrl-C, what was done kept.
Heavy imports wait until a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from imgret_tools.errors import ImgretError

if TYPE_CHECKING:
    from imgret_tools.records import Progress

app = typer.Typer(
    help="From a list of words to a clean, split data set: crawl, download, clean, split, or all at once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Delay = Annotated[float, typer.Option(min=0, help="Least seconds between two requests to one host.")]
Contact = Annotated[str, typer.Option(help="URL or e-mail address for the user agent, so that owners can reach you.")]
NoRobots = Annotated[bool, typer.Option("--ignore-robots", help="Do not heed robots.txt and X-Robots-Tag.")]
Private = Annotated[bool, typer.Option("--allow-private", help="Also fetch from loopback and private addresses.")]
Near = Annotated[
    int, typer.Option(min=-1, max=32, help="Bits of 64 two near-duplicates may differ by; -1: exact only.")
]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds a server may be silent.")]
Retries = Annotated[int, typer.Option(min=0, help="Further tries after a failure of the moment.")]


class _Report(Protocol):
    @property
    def cancelled(self) -> bool: ...

    def to_dict(self) -> dict[str, object]: ...


@app.command()
def crawl(
    spec: Annotated[Path, typer.Argument(help="JSON or YAML: url, categories and more.")],
    out: Annotated[Path, typer.Option(help="Where the list of URLs goes.")] = Path("image_urls.json"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Crawl finished terms again.")] = False,
    max_images: Annotated[int | None, typer.Option(min=1, help="URLs a term; overrides the spec.")] = None,
    delay: Annotated[float | None, typer.Option(min=0, help="Seconds between requests to a host; overrides.")] = None,
    contact: Annotated[str | None, typer.Option(help="URL or e-mail for the user agent; overrides.")] = None,
    timeout: Timeout = 20.0,
    retries: Retries = 4,
    ignore_robots: NoRobots = False,
    allow_private: Private = False,
    json: Json = False,
) -> None:
    """Collect picture URLs from search pages into {category: {term: [url, ...]}}."""
    from dataclasses import replace

    from imgret_tools.collect.spec import load_spec
    from imgret_tools.collect.steps.crawl import crawl as run

    def work(progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool]) -> _Report:
        given = {"max_images": max_images, "delay": delay, "contact": contact}
        wanted = replace(load_spec(spec), **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
        return run(
            wanted,
            out,
            fresh=fresh,
            timeout=timeout,
            retries=retries,
            obey_robots=not ignore_robots,
            allow_private=allow_private,
            progress=progress,
            cancelled=cancelled,
        )

    _run(work, json=json)


@app.command()
def download(
    urls: Annotated[Path, typer.Argument(help="The list a crawl wrote.")] = Path("image_urls.json"),
    out: Annotated[Path, typer.Option(help="Folder for <category>/<term>/<name>.")] = Path("images"),
    workers: Annotated[int, typer.Option(min=1, max=64, help="Pictures under way at once.")] = 8,
    delay: Delay = 0.5,
    max_bytes: Annotated[int, typer.Option(min=1, help="Larger pictures are refused.")] = 50_000_000,
    contact: Contact = "",
    timeout: Timeout = 20.0,
    retries: Retries = 4,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed for good.")] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask whether saved pictures have changed.")] = False,
    ignore_robots: NoRobots = False,
    allow_private: Private = False,
    json: Json = False,
) -> None:
    """Fetch the pictures of a list, politely; run it again to go on where it stopped."""
    from imgret_tools.collect.steps.download import download as run

    def work(progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool]) -> _Report:
        return run(
            urls,
            out,
            workers=workers,
            delay=delay,
            timeout=timeout,
            retries=retries,
            max_bytes=max_bytes,
            contact=contact,
            obey_robots=not ignore_robots,
            allow_private=allow_private,
            retry_failed=retry_failed,
            refresh=refresh,
            progress=progress,
            cancelled=cancelled,
        )

    _run(work, json=json)


@app.command()
def clean(
    folder: Annotated[Path, typer.Argument(help="The folder of pictures.")] = Path("images"),
    quarantine: Annotated[Path | None, typer.Option(help="Default: <folder>-quarantine beside it.")] = None,
    min_pixels: Annotated[int, typer.Option(min=0, help="Least width and height.")] = 50,
    near: Near = 6,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    json: Json = False,
) -> None:
    """Move broken, tiny and doubled pictures into quarantine and make the rest plain RGB."""
    from imgret_tools.collect.steps.clean import clean as run

    def work(progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool]) -> _Report:
        return run(
            folder,
            quarantine=quarantine,
            min_pixels=min_pixels,
            near=near,
            dry_run=dry_run,
            progress=progress,
            cancelled=cancelled,
        )

    _run(work, json=json)


@app.command()
def split(
    folder: Annotated[Path, typer.Argument(help="The cleaned folder.")] = Path("images"),
    out: Annotated[Path, typer.Option(help="Folder for train/<class> and test/<class>.")] = Path("data"),
    test: Annotated[int, typer.Option(min=0, help="Test pictures a class.")] = 1,
    train: Annotated[int, typer.Option(min=1, help="Train pictures a class, at most.")] = 19,
    seed: Annotated[int, typer.Option(help="Another seed, another choice.")] = 0,
    classes: Annotated[Literal["term", "category"], typer.Option(help="Which folder names a class.")] = "term",
    near: Near = 6,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
    pack: Annotated[bool, typer.Option("--zip", help="Also write <out>.zip.")] = False,
    json: Json = False,
) -> None:
    """Split a folder into train and test; near-duplicates never land on both sides."""
    from imgret_tools.collect.steps.split import split as run

    def work(progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool]) -> _Report:
        return run(
            folder,
            out,
            test=test,
            train=train,
            seed=seed,
            classes=classes,
            near=near,
            link=link,
            pack=pack,
            progress=progress,
            cancelled=cancelled,
        )

    _run(work, json=json)


@app.command("all")
def collect_all(
    spec: Annotated[Path, typer.Argument(help="JSON or YAML: url, categories and more.")],
    out: Annotated[Path, typer.Option(help="Folder for everything.")],
    timeout: Timeout = 20.0,
    retries: Retries = 4,
    pack: Annotated[bool, typer.Option("--zip", help="Also write data.zip.")] = False,
    ignore_robots: NoRobots = False,
    allow_private: Private = False,
    json: Json = False,
) -> None:
    """Crawl, download, clean and split in one go; run it again to go on where it stopped."""
    from imgret_tools.collect.spec import load_spec
    from imgret_tools.collect.steps.pipeline import collect_all as run

    def work(progress: Callable[[Progress], None] | None, cancelled: Callable[[], bool]) -> _Report:
        return run(
            load_spec(spec),
            out,
            timeout=timeout,
            retries=retries,
            pack=pack,
            obey_robots=not ignore_robots,
            allow_private=allow_private,
            progress=progress,
            cancelled=cancelled,
        )

    _run(work, json=json)


def _run(
    work: Callable[[Callable[[Progress], None] | None, Callable[[], bool]], _Report],
    *,
    json: bool,
) -> None:
    """Runs one command: progress and errors to stderr, the report to stdout, the first Ctrl-C as a wish to stop."""
    try:
        with _ctrl_c() as stop, _progress() as progress:
            report = work(progress, stop.is_set)
    except ImgretError as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(1) from None
    if json:
        from json import dumps

        typer.echo(dumps(report.to_dict(), ensure_ascii=False, indent=1))
    else:
        typer.echo(str(report))
    if report.cancelled:
        raise typer.Exit(130)


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second ends the program at once."""
    stop = threading.Event()

    def on_signal(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        typer.echo("Stopping; what is done is kept (Ctrl-C again to end at once).", err=True)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None] | None]:
    """A progress bar a step on stderr when that is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def show(at: Progress) -> None:
            if at.stage not in tasks:
                tasks[at.stage] = bars.add_task(at.stage, total=at.total)
            bars.update(tasks[at.stage], completed=at.done, total=at.total)

        yield show
