"""The app: the page, its API and MCP in one process, on one runtime."""

from __future__ import annotations

import logging
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imgret_tools.extras import needs

with needs("app"):
    import gradio as gr
    from anyio import to_thread
    from fastapi import FastAPI
    from gradio.routes import App
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route

from imgret_tools.chat.events import Talk
from imgret_tools.chat.models import make_model
from imgret_tools.chat.talk import Chat
from imgret_tools.demo import collect_demo
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.mcp import Tokens, make_mcp
from imgret_tools.mcp import mount as mount_mcp
from imgret_tools.records import Progress
from imgret_tools.schemas import available
from imgret_tools.settings import Settings
from imgret_tools.tools import WRITING, ImageTools
from imgret_tools.ui.gate import OWN, Gate, Limits, same_login
from imgret_tools.ui.patches import Bound, endpoint, spoken
from imgret_tools.ui.sessions import keep_little
from imgret_tools.ui.tabs.chat import chat_tab
from imgret_tools.ui.tabs.collect import FOLDER as COLLECTED
from imgret_tools.ui.tabs.collect import CollectTab
from imgret_tools.ui.tabs.compare import CompareTab
from imgret_tools.ui.tabs.duplicates import DuplicatesTab
from imgret_tools.ui.tabs.index import IndexTab
from imgret_tools.ui.tabs.map import MapTab
from imgret_tools.ui.tabs.search import SearchTab
from imgret_tools.ui.texts.table import Language, language_of, said

_log = logging.getLogger(__name__)

DEMO = "demo"
_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_SET_LANGUAGE = "(language) => window.imgret.language(language)"
_CHOOSE_LANGUAGE = "(language) => window.imgret.choose(language)"
_REFRESH = "() => document.dispatchEvent(new CustomEvent('imgret:libraries'))"
_MAX_UPLOAD = "500mb"
_MOST_VISITORS = 500
"""Gradio keeps about 0.3 MB of each visitor; beyond these the one longest away starts afresh."""


def build_app(
    tools: ImageTools, *, library: str | None = None, start_talk: Callable[[], Talk] | None = None
) -> gr.Blocks:
    """The page on `tools`; it opens with `library`. `start_talk` begins a chat; without it there is no chat tab."""

    names = [info.name for info in tools.runtime.libraries()]
    if library and tools.runtime.is_arriving(library):
        names = sorted({*names, library})
    library = library if library in names else (names[0] if names else None)
    bound: Bound = []
    with gr.Blocks(title="imgret", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        language = gr.State("en")
        with gr.Row(elem_id="head"):
            with gr.Column(scale=5, min_width=120):
                title = gr.HTML(elem_id="title")
            spoken_in = gr.Radio(
                [("EN", "en"), ("VI", "vi")],
                value="en",
                show_label=False,
                container=False,
                elem_id="language",
            )
        with gr.Tabs() as tabs:
            with gr.Tab(id="search", elem_id="search_tab") as tab:
                search = SearchTab(tools, library or "")
                bound.append((tab, {"label": "search_tab"}))
            with gr.Tab(id="compare", elem_id="compare_tab") as tab:
                compare = CompareTab(tools, language, names, library or "")
                bound += [(tab, {"label": "compare_tab"}), *compare.bound]
            with gr.Tab(elem_id="map_tab") as tab:
                around = MapTab(tools, language, names, library or "")
                bound += [(tab, {"label": "map_tab"}), *around.bound]
            if start_talk is not None:
                with gr.Tab(elem_id="chat_tab") as tab:
                    chat = chat_tab(tools.runtime, start_talk, language)
                    bound += [(tab, {"label": "chat_tab"}), *chat.bound]
            with gr.Tab(elem_id="duplicates_tab") as tab:
                twice = DuplicatesTab(tools, language, names, library or "")
                bound += [(tab, {"label": "duplicates_tab"}), *twice.bound]
            libraries = [compare.library, around.library, twice.library]
            if not tools.runtime.settings.read_only:
                with gr.Tab(elem_id="index_tab") as tab:
                    index = IndexTab(tools, language, names, library or "")
                    libraries += [index.anew, index.shelf.chosen]
                    bound += [(tab, {"label": "index_tab"}), *index.bound]
                    for looked in (tab.select, language.change):  # and not while the first page is waited for
                        looked(index.shelf.drawn, language, index.shelf.listed, api_visibility="private")
                with gr.Tab(elem_id="collect_tab") as tab:
                    collect = CollectTab(tools, language)
                    bound += [(tab, {"label": "collect_tab"}), *collect.bound]

                def refresh(spoken: Language, *chosen: str | None) -> list[object]:
                    """All libraries there are to choose from; where one was chosen that has gone, that of the list."""
                    found = [info.name for info in tools.runtime.libraries()]
                    instead = next((name for name in (chosen[-1], *found) if name in found), None)
                    return [
                        *(gr.update(choices=found, value=name if name in found else instead) for name in chosen),
                        index.shelf.drawn(spoken),
                    ]

                talked = [chat.finished] if start_talk is not None else []
                changes = [
                    index.finished,
                    index.updated,
                    index.encoded,
                    *index.shelf.changed,
                    collect.finished,
                    *talked,
                ]
                afters: list[Callable[..., Any]] = [*(event.then for event in changes), index.ended.change]
                for after in afters:
                    after(
                        refresh, [language, *libraries], [*libraries, index.shelf.listed], api_visibility="private"
                    ).then(None, None, None, js=_REFRESH)

        def follow(event: gr.EventData) -> list[object]:
            """The other tabs with the library that the search is in."""
            there = [info.name for info in tools.runtime.libraries()]
            return [
                gr.update(choices=there, value=event.library) if event.library in there else gr.skip()
                for _ in libraries
            ]

        def take(event: gr.EventData) -> list[object]:
            """The compare tab with a picture of the search."""
            return [gr.Tabs(selected="compare"), event.library, event.id, None, ""]

        search.board.input(follow, None, libraries, api_visibility="private", queue=False)
        compare.on(
            search.board.select(
                take,
                None,
                [tabs, compare.library, compare.id, compare.image, compare.folder],
                api_visibility="private",
            ).then
        )

        def speak(chosen: Language) -> list[object]:
            heading = f"<h1>{said(chosen, 'title')}</h1><p>{said(chosen, 'lead')}</p>"
            return [chosen, heading, *spoken(bound, chosen)]

        def begin(request: gr.Request) -> list[object]:
            chosen = language_of(request.query_params.get("lang"), request.headers.get("accept-language"))
            there, named = [info.name for info in tools.runtime.libraries()], request.query_params.get("library")
            opened = named if named in there else library
            listed = [gr.update(choices=there, value=opened if opened in there else None) for _ in libraries]
            return [*speak(chosen), chosen, *listed]

        said_to = [language, title, *(component for component, _ in bound)]
        begun = page.load(begin, None, [*said_to, spoken_in, *libraries], api_visibility="private")
        begun.then(None, spoken_in, None, js=_SET_LANGUAGE)
        if not tools.runtime.settings.read_only:  # a run goes on while its page is loaded again
            follow_run: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
            begun.then(index.followed, language, [index.report, index.ended], **follow_run)
            begun.then(collect.followed, language, collect.shown, **follow_run)
        spoken_in.input(speak, spoken_in, said_to, api_visibility="private").then(
            None, spoken_in, None, js=_CHOOSE_LANGUAGE
        )
        for tool in available(tools):
            gr.api(endpoint(tools, tool), api_name=tool.name, queue=tool.name in WRITING)  # type: ignore[attr-defined]
    page.queue(max_size=64, default_concurrency_limit=8)
    page.state_session_capacity = _MOST_VISITORS
    return page  # type: ignore[no-any-return]


def mount(
    tools: ImageTools,
    page: gr.Blocks,
    *,
    auth: tuple[str, str] | None = None,
    token: str | Tokens = "",
    hosts: Sequence[str] = (),
    embedded_by: str = "",
) -> Gate:
    """The page at `/` and MCP at `/mcp` behind one gate, as an ASGI app.

    Args:
        tools: What MCP serves.
        page: From `build_app` on the same tools.
        auth: Name and password asked of visitors.
        token: What agents send as `Authorization: Bearer ...`, as `mcp.mount` takes it.
        hosts: Names under which the app is asked, beside addresses in figures and this machine's; `*` for any.
        embedded_by: Origin whose pages may hold the app in a frame.
    """

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    mount_mcp(app, make_mcp(tools, hosts=("*",)), token=token)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=same_login(*auth) if auth else None,
        show_error=False,  # of what nobody foresaw: Gradio shows its text as markup, and it may quote a stranger
        max_file_size=_MAX_UPLOAD,
        theme=_theme(),
        css=_STYLE.read_text("utf-8"),
        head=f"<script>{_SCRIPT.read_text('utf-8')}</script>",
        enable_monitoring=False,
        run_history=False,
    )
    # Gradio checks the files that visitors name only in an app that was launched; a mounted one never is.
    page.has_launched = page.is_running = True
    mounted = next(route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, App))
    keep_little(mounted)

    def known(request: Request) -> bool:
        cookies = (request.cookies.get(f"access-token-{kind}{mounted.cookie_id}") for kind in ("", "unsecure-"))
        return not auth or any(cookie in mounted.tokens for cookie in cookies if cookie)

    async def small(request: Request) -> Response:
        if not known(request):
            return JSONResponse({"error": "Log in first."}, status_code=401)
        library, id_ = request.path_params["library"], request.path_params["id"]
        try:
            data = await to_thread.run_sync(lambda: tools.jpeg_of(tools.entry(id_, library), 256))
        except ImgretError:
            return JSONResponse({"error": "There is no such picture."}, status_code=404)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    app.router.routes.insert(0, Route("/thumbnail/{library}/{id}", small, methods=["GET"]))
    limits = Limits() if tools.runtime.settings.read_only else OWN
    return Gate(app, hosts=hosts, limits=limits, embedded_by=embedded_by)


def _theme() -> gr.Theme:

    system = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
    return gr.themes.Soft(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="zinc",
        font=system,
        font_mono=("ui-monospace", "monospace"),
    ).set(
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="500",
        # Dark enough on light, and light enough on dark, to be read: a contrast of 4.5 and more.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_secondary_background_fill_hover_dark="*neutral_500",
        link_text_color="*primary_700",
        link_text_color_hover="*primary_800",
        link_text_color_visited="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        link_text_color_visited_dark="*primary_300",
        checkbox_label_background_fill_selected="*primary_700",
        checkbox_label_background_fill_selected_dark="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_border_width="1px",
        input_border_width="1px",
        button_border_width="1px",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_label_background_fill="*background_fill_primary",
        block_label_background_fill_dark="*background_fill_primary",
    )


def serve(
    settings: Settings,
    *,
    folder: Path | None = None,
    library: str = "default",
    also: Sequence[str] = (),
    encoder: str | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    read_only: bool = False,
    allow_writes: bool = False,
    allow_urls: bool = False,
    auth: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve the app until it is interrupted.

    Args:
        settings: the process's.
        folder: indexed first into `library`, which the page then opens.
        library: opened at first; `demo` where it is not there yet.
        also: what a read-only app shows beside that one; one that indexes shows all there are.
        encoder: for a new library.
        host: address to listen on.
        port: port to listen on.
        share: ask Gradio for a public link; where there is none, say why and go on.
        read_only: no indexing, no paths shown.
        allow_writes: a shared app may index too.
        allow_urls: queries may be public URLs.
        auth: `USER:PASS` asked of every visitor; MCP then asks for a token that is printed.
        allow_hosts: names of a proxy under which the app is asked too; `*` for any name.
    """
    import uvicorn

    sys.setswitchinterval(0.0005)  # the encoder, many short steps, waits less for the page and the page for it
    login = _login(auth)
    demo = settings.data_dir / "demo"
    writable = allow_writes or not (read_only or share)
    settings = replace(
        settings.with_roots(
            demo, settings.data_dir / "uploads", settings.data_dir / COLLECTED, *([folder] if folder else [])
        ),
        allow_urls=allow_urls,
    )
    with Runtime.open(settings) as runtime:
        if folder is not None:
            _say(str(runtime.index(folder, library=library, encoder=encoder, progress=_told(f"{folder}"))))
        opened = next((name for name in (library, runtime.default) if folder or _there(runtime, name)), DEMO)
        shown = None if writable else (opened, *also)
        runtime.settings = replace(settings, read_only=not writable, library=opened, only=shown)
        _prepare(runtime, demo, opened, public=share or bool(settings.hosts))
        tools = ImageTools(runtime)
        page = build_app(
            tools,
            library=opened,
            start_talk=lambda: Chat(tools, make_model(settings.model)),
        )
        token = Tokens(told=_tell_token) if login else ""
        app = mount(
            tools,
            page,
            auth=login,
            token=token,
            hosts=(host, *settings.hosts, *allow_hosts),
            embedded_by="https://huggingface.co" if settings.hosts else "",
        )
        if share:
            link, told = _public_link(page, port)
            app.allow(urlsplit(link).hostname or "")
            _say(told)
        _say(f"Open http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")
        try:
            uvicorn.run(
                app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=3, limit_concurrency=1000
            )
        except SystemExit as error:
            raise BadInput(
                "Port {port} on {host} cannot be listened on; is another app there? Give another --port.",
                port=port,
                host=host,
            ) from error


def _prepare(runtime: Runtime, demo: Path, opened: str, *, public: bool) -> None:
    """Make the demo library and load the encoder of the one that is opened, in a thread: the page need not wait for them."""
    begun = threading.Event()

    def work() -> None:
        try:
            if runtime.settings.only is None or DEMO in runtime.settings.only:
                with runtime.arriving(DEMO):
                    begun.set()
                    runtime.index(collect_demo(demo, public=public), library=DEMO, encoder="mini")
            with runtime.view(opened) as view:
                runtime.encode_text(view, "a photo")
            _say(f"Library {opened} is ready.")
        except Exception as error:  # the page works without the demo, and the first search says what is wrong
            _log.warning("not prepared: %s", error, exc_info=not isinstance(error, ImgretError))
        finally:
            begun.set()

    threading.Thread(target=work, daemon=True, name="imgret-prepare").start()
    begun.wait()


def _login(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, colon, password = auth.partition(":")
    if not user or not colon or not password:
        raise BadInput("--auth expects USER:PASS, both not empty.")
    return user, password


def _there(runtime: Runtime, library: str) -> bool:
    return any(info.name == library for info in runtime.libraries())


def _told(what: str) -> Callable[[Progress], None]:
    def show(state: Progress) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\rindexing {what}: {state.done} of {state.total} " + ("\n" if state.done == state.total else "")
            )

    return show


def _public_link(page: gr.Blocks, port: int) -> tuple[str, str]:
    """Gradio's public link to this port, "" where there is none, and a sentence that tells it or says why not."""
    from gradio import networking

    try:
        link = networking.setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
        return link, f"Public link, for as long as this runs: {link}"
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        told = f"There is no public link: Gradio's share server cannot be reached from here ({reason})."
        return "", f"{told} The app runs locally all the same."


def _tell_token(token: str) -> None:
    _say(f"MCP at /mcp expects the header  Authorization: Bearer {token}  (another one tomorrow, told here)")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def writable_data_dir(settings: Settings) -> Settings:
    """`settings`, with a temporary data folder where their own cannot be written (a Space, a read-only home)."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            return settings
    except OSError:
        return replace(settings, data_dir=Path(tempfile.gettempdir()) / "imgret")
