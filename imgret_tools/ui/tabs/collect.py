"""The collect tab: a search page and words become a clean, split data set, with progress, cancel, a report and pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import gradio as gr
from gradio.components import Component

from imgret_tools.collect.net.guard import addresses, host_of
from imgret_tools.collect.spec import Mode, Spec
from imgret_tools.collect.steps.clean import clean
from imgret_tools.collect.steps.crawl import crawl
from imgret_tools.collect.steps.download import download
from imgret_tools.collect.steps.manifest import MANIFEST
from imgret_tools.collect.steps.pipeline import collect_all
from imgret_tools.collect.steps.split import split
from imgret_tools.errors import BadInput, CollectError, ImageError, NotFound, ReadOnly
from imgret_tools.library.library import folder_name
from imgret_tools.pictures.find import content_hash, find_images
from imgret_tools.pictures.thumbnails import data_url
from imgret_tools.records import IndexReport, Progress
from imgret_tools.tools import ImageTools
from imgret_tools.ui.collect_report import Outcome, StepReport, plan, told
from imgret_tools.ui.collect_spec import read_spec, spec_of, written
from imgret_tools.ui.jobs import Run, Runs
from imgret_tools.ui.patches import Bound, Thumbnails, shown_errors
from imgret_tools.ui.tabs.index import indexed
from imgret_tools.ui.texts.table import Language, said

FOLDER = "collected"
"""Where data sets go, below the data folder, when the visitor names no other place."""

Step = Literal["all", "crawl", "download", "clean", "split"]
_STEPS: dict[Step, str] = {
    "all": "collect_all",
    "crawl": "collect_crawl",
    "download": "collect_download",
    "clean": "collect_clean",
    "split": "collect_split",
}
_MODES: dict[Mode, str] = {
    "browser": "collect_mode_browser",
    "html": "collect_mode_html",
    "json": "collect_mode_json",
}
_NEEDS = {"download": "image_urls.json", "clean": "images", "split": "images"}
_SHOWN = 24


class CollectTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        finished: the event after a data set was indexed, for what shows the libraries.
        shown: the components that `followed` and a run write to.
    """

    def __init__(self, tools: ImageTools, language: gr.State, *, allow_private: bool = False) -> None:
        """`allow_private` lets runs fetch from loopback and private addresses; no visitor can ask for that."""

        self._tools = tools
        self._allow_private = allow_private
        self._runs: Runs[Outcome] = Runs()
        self._indexing: Runs[IndexReport] = Runs()
        self._busy: set[Path] = set()
        self._lock = threading.Lock()
        default = Spec(url="http://host/{search_term}", categories={"a": ["b"]})
        lead = gr.HTML(elem_id="collect_lead")
        with gr.Row():
            with gr.Column(min_width=300, scale=3):
                url = gr.Textbox(elem_id="collect_url")
                words = gr.Textbox(lines=4, elem_id="collect_words")
                with gr.Row():
                    self.name = gr.Textbox(value=FOLDER, elem_id="collect_name", min_width=140)
                    count = gr.Slider(1, 500, value=default.max_images, step=1, elem_id="collect_count", min_width=140)
                mode = gr.Radio(_choices(_MODES, "en"), value=default.mode, elem_id="collect_mode")
                with gr.Row(visible=False) as fields:
                    items = gr.Textbox(placeholder="results", elem_id="collect_items", min_width=140)
                    image = gr.Textbox(placeholder="urls.full", elem_id="collect_image", min_width=140)
                    link = gr.Textbox(placeholder="links.html", elem_id="collect_page", min_width=140)
                    license_ = gr.Textbox(placeholder="license.name", elem_id="collect_license", min_width=140)
                contact = gr.Textbox(placeholder="me@example.org", elem_id="collect_contact")
                with gr.Accordion(open=False, elem_id="collect_more") as more:
                    self.folder = gr.Textbox(elem_id="collect_folder")
                    with gr.Row():
                        delay = gr.Number(default.delay, step=0.1, elem_id="collect_delay", min_width=140)
                        pixels = gr.Number(default.min_pixels, precision=0, elem_id="collect_min_pixels", min_width=140)
                        near = gr.Number(default.near, precision=0, elem_id="collect_near", min_width=140)
                    with gr.Row():
                        train = gr.Number(default.train, precision=0, elem_id="collect_train", min_width=140)
                        test = gr.Number(default.test, precision=0, elem_id="collect_test", min_width=140)
                        seed = gr.Number(default.seed, precision=0, elem_id="collect_seed", min_width=140)
                with gr.Accordion(open=False, elem_id="collect_text") as text:
                    self.spec = gr.Textbox(lines=8, max_lines=24, elem_id="collect_spec")
                    with gr.Row(elem_classes="imgret-buttons"):
                        from_form = gr.Button(size="sm", elem_id="collect_from_form", min_width=140)
                        from_file = gr.UploadButton(
                            size="sm", file_types=[".yaml", ".yml", ".json"], elem_id="collect_file", min_width=140
                        )
                self.step = gr.Radio(_choices(_STEPS, "en"), value="all", elem_id="collect_step")
                with gr.Row(elem_classes="imgret-buttons"):
                    self.start = gr.Button(variant="primary", elem_id="collect", min_width=140)
                    self.cancel = gr.Button(elem_id="collect_cancel", min_width=140)
            with gr.Column(min_width=300, scale=4):
                self.steps = gr.HTML(plan("en"), elem_id="collect_steps")
                self.report = gr.HTML(elem_id="collect_report")
                self.pictures = Thumbnails(
                    elem_id="collected",
                    columns=4,
                    object_fit="cover",
                    height="auto",
                    show_label=False,
                    allow_preview=False,
                    interactive=False,
                    visible=False,
                    buttons=[],
                )
                self.ready = gr.State("")
                self.index = gr.Button(visible=False, variant="primary", elem_id="collect_index")
                self.indexed = gr.HTML(elem_id="collect_indexed")
        self.shown: list[Component] = [
            self.report,
            self.steps,
            self.pictures,
            self.index,
            self.indexed,
            self.ready,
        ]
        self._form: dict[str, Component] = {
            "url": url,
            "categories": words,
            "mode": mode,
            "max_images": count,
            "items": items,
            "image": image,
            "page": link,
            "license": license_,
            "contact": contact,
            "delay": delay,
            "min_pixels": pixels,
            "near": near,
            "test": test,
            "train": train,
            "seed": seed,
        }
        self.bound: Bound = [
            (lead, {"value": "collect_lead"}),
            (url, {"label": "collect_url", "placeholder": "collect_url_hint", "info": "collect_url_info"}),
            (words, {"label": "collect_words", "placeholder": "collect_words_hint", "info": "collect_words_info"}),
            (self.name, {"label": "collect_name", "info": "collect_name_info"}),
            (count, {"label": "collect_count"}),
            (mode, {"label": "collect_mode"}),
            (items, {"label": "collect_items"}),
            (image, {"label": "collect_image"}),
            (link, {"label": "collect_page"}),
            (license_, {"label": "collect_license"}),
            (contact, {"label": "collect_contact", "info": "collect_contact_info"}),
            (more, {"label": "collect_more"}),
            (self.folder, {"label": "collect_folder", "info": "collect_folder_info", "placeholder": "folder_hint"}),
            (delay, {"label": "collect_delay"}),
            (pixels, {"label": "collect_min_pixels"}),
            (near, {"label": "collect_near"}),
            (train, {"label": "collect_train"}),
            (test, {"label": "collect_test"}),
            (seed, {"label": "collect_seed"}),
            (text, {"label": "collect_text"}),
            (self.spec, {"label": "collect_spec", "info": "collect_spec_info"}),
            (from_form, {"value": "collect_from_form"}),
            (from_file, {"label": "collect_from_file"}),
            (self.step, {"label": "collect_step"}),
            (self.start, {"value": "collect_start"}),
            (self.cancel, {"value": "cancel"}),
            (self.pictures, {"label": "collect_pictures"}),
            (self.index, {"value": "collect_index"}),
        ]
        language.change(
            lambda spoken: [
                gr.update(choices=_choices(_MODES, spoken)),
                gr.update(choices=_choices(_STEPS, spoken)),
                plan(spoken),
            ],
            language,
            [mode, self.step, self.steps],
            api_visibility="private",
            queue=False,
        )
        mode.change(
            lambda chosen: gr.update(visible=chosen == "json"), mode, fields, api_visibility="private", queue=False
        )
        from_form.click(self._as_text, [language, *self._form.values()], self.spec, api_visibility="private")
        from_file.upload(self._opened, [language, from_file], self.spec, api_visibility="private")
        self.start.click(
            self._run,
            [language, self.step, self.name, self.folder, self.spec, *self._form.values()],
            self.shown,
            api_visibility="private",
            concurrency_limit=2,
            show_progress="hidden",
        )
        self.finished = self.index.click(
            self._index,
            [language, self.name, self.ready],
            self.indexed,
            api_visibility="private",
            concurrency_limit=2,
            show_progress="hidden",
        )
        self.cancel.click(self._cancel, None, None, api_visibility="private", queue=False)

    # The form and the text

    def _as_text(self, language: Language, *values: object) -> str:
        with shown_errors(language):
            return written(spec_of(language, dict(zip(self._form, values, strict=True))))

    def _opened(self, language: Language, file: str) -> str:
        with shown_errors(language):
            try:
                return Path(file).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(
                    "{name} cannot be read as UTF-8 text ({error}).", name=Path(file).name, error=error
                ) from error

    def _cancel(self, request: gr.Request) -> None:
        self._runs.cancel(request)
        self._indexing.cancel(request)

    # The run

    def _run(
        self,
        language: Language,
        request: gr.Request,
        step: Step,
        name: str,
        folder: str | None,
        text: str | None,
        *values: object,
    ) -> Iterator[list[object]]:
        def work(progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Outcome:
            form = dict(zip(self._form, values, strict=True))
            spec = read_spec(language, text or "", form, crawled=step in ("all", "crawl"))
            out = self._folder(name, folder or "")
            return self._collect(
                language,
                step,
                spec,
                out,
                lambda state: progress(replace(state, stage=said(language, _STEPS[_step(state.stage)]))),
                cancelled,
            )

        yield from self._shown(language, request, self._runs.start("collect_begins", work, told))

    def followed(self, language: Language, request: gr.Request) -> Iterator[list[object]]:
        """What a page that is loaded shows of a run under way, until its end and the pictures it brought."""
        run = self._runs.latest
        if run is None:
            yield [gr.skip() for _ in self.shown]
            return
        yield from self._shown(language, request, run)

    def _shown(self, language: Language, request: gr.Request, run: Run[Outcome]) -> Iterator[list[object]]:
        hidden = [gr.update(visible=False), gr.update(value=[], visible=False), gr.update(visible=False), "", ""]
        for shown in self._runs.shown(language, request, run):
            yield [shown, *hidden]
        if (outcome := run.report) is not None:
            ready = str(outcome.train or "")
            gallery = gr.update(value=outcome.pictures, visible=bool(outcome.pictures))
            yield [gr.skip(), gr.skip(), gallery, gr.update(visible=bool(ready)), "", ready]

    def _folder(self, name: str, folder: str) -> Path:
        """Where the data set goes: what the visitor says, or a folder named after it; always inside the roots."""
        settings = self._tools.runtime.settings
        if settings.read_only:
            raise ReadOnly("This app is shared read-only, so nothing can be collected here; search what is there.")
        default = settings.data_dir / FOLDER / folder_name(name or "")
        return self._tools.allowed(folder.strip() or str(default))

    def _collect(
        self,
        language: Language,
        step: Step,
        spec: Spec,
        out: Path,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> Outcome:
        step = _step(step)
        if step in _NEEDS and not (out / _NEEDS[step]).exists():
            raise NotFound(said(language, "collect_needs", name=_NEEDS[step], folder=out))
        if step == "all" and _foreign(out / "images"):
            raise BadInput(said(language, "collect_foreign", folder=out / "images"))
        if step in ("all", "crawl"):
            self._resolve(spec)
        with self._alone(language, out):
            try:
                out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CollectError(
                    "{out} cannot be made ({error}); choose another folder.", out=out, error=error
                ) from error
            reports = self._reports(step, spec, out, progress, cancelled)
        return Outcome(out, reports, self._thumbnails(out))

    def _resolve(self, spec: Spec) -> None:
        """An address that is never fetched from, or a name nobody knows, is said at once and not after many tries."""
        address = spec.page_url(*spec.terms()[0], spec.first_page)
        host_of(address)
        parts = urlsplit(address)
        addresses(
            parts.hostname or "",
            parts.port or (443 if parts.scheme == "https" else 80),
            allow_private=self._allow_private,
        )

    @contextmanager
    def _alone(self, language: Language, folder: Path) -> Iterator[None]:
        """One run a folder: two would crawl into the same list."""
        with self._lock:
            if folder in self._busy:
                raise CollectError(said(language, "collect_busy", folder=folder))
            self._busy.add(folder)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(folder)

    def _reports(
        self,
        step: Step,
        spec: Spec,
        out: Path,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> list[StepReport]:
        """Runs one step, or all; the folders are those of `collect_all`."""
        private, images, urls = self._allow_private, out / "images", out / "image_urls.json"
        if step == "crawl":
            return [crawl(spec, urls, allow_private=private, progress=progress, cancelled=cancelled)]
        if step == "download":
            fetched = download(
                urls,
                images,
                workers=spec.workers,
                delay=spec.delay,
                max_bytes=spec.max_bytes,
                contact=spec.contact,
                allow_private=private,
                progress=progress,
                cancelled=cancelled,
            )
            return [fetched]
        if step == "clean":
            return [clean(images, min_pixels=spec.min_pixels, near=spec.near, progress=progress, cancelled=cancelled)]
        if step == "split":
            parts = split(
                images,
                out / "data",
                test=spec.test,
                train=spec.train,
                seed=spec.seed,
                classes=spec.classes,
                near=spec.near,
                progress=progress,
                cancelled=cancelled,
            )
            return [parts]
        whole = collect_all(spec, out, allow_private=private, progress=progress, cancelled=cancelled)
        ran = (whole.crawl, whole.download, whole.clean, whole.split)
        return [report for report in ran if report is not None]

    def _thumbnails(self, out: Path) -> list[tuple[str, str]]:
        """Thumbnails of some pictures that are there, of every class in turn, with the class as caption."""
        folder = next((place for place in (out / "data" / "train", out / "images") if place.is_dir()), None)
        if folder is None:
            return []
        classes: dict[str, list[Path]] = {}
        for found in find_images(folder).images:
            classes.setdefault(found.path.parent.name, []).append(found.path)
        turns = chain.from_iterable(zip_longest(*classes.values()))
        thumbnails: list[tuple[str, str]] = []
        for path in (path for path in turns if path is not None):
            try:
                thumbnail = self._tools.runtime.thumbnails.get(content_hash(path), path)
            except (ImageError, OSError):
                continue  # not cleaned yet, or gone this moment: there are others to show
            thumbnails.append((data_url(thumbnail.read_bytes()), path.parent.name))
            if len(thumbnails) == _SHOWN:
                break
        return thumbnails

    # The index

    def _index(self, language: Language, name: str, folder: str, request: gr.Request) -> Iterator[str]:
        def work(progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> IndexReport:
            return self._tools.index(folder, library=name.strip(), progress=progress, cancelled=cancelled)

        run = self._indexing.start("indexing", work, indexed)
        yield from self._indexing.shown(language, request, run)


def _choices(texts: dict[Step, str] | dict[Mode, str], language: Language) -> list[tuple[str, str]]:
    return [(said(language, key), value) for value, key in texts.items()]


def _step(name: str) -> Step:
    for step in _STEPS:
        if step == name:
            return step
    raise BadInput("Step is {name!r}; one of {steps} expected.", name=name, steps=", ".join(_STEPS))


def _foreign(images: Path) -> bool:
    """Whether pictures lie there that no download brought: cleaning would move somebody's own."""
    there = images.is_dir() and any(not path.name.startswith(".") for path in images.iterdir())
    return there and not (images / MANIFEST).exists()
