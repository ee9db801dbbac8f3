"""The pictures of pages that load as one scrolls, read with a real Chromium through playwright.

Every term gets a fresh browser context: no cookies, downloads or service workers, and no way out but the guarded proxy.
The browser does not load pictures: each request for one is answered on the spot with an empty picture of an odd size,
so that layouts and scripts go on, the site is not asked for what the download will fetch anyway, and whatever is still
shown small is an icon.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

from imgret_tools.collect.net.guard import FetchError, host_of
from imgret_tools.collect.net.polite import Web, back_off, forbidding_tag
from imgret_tools.collect.net.proxy import GuardProxy
from imgret_tools.collect.read.candidates import Candidate, Facts, Raw, from_page
from imgret_tools.collect.read.scripts import COLLECT, FIND_MORE, SCROLL, STATE
from imgret_tools.collect.read.static_page import backgrounds, lazy, srcsets
from imgret_tools.collect.spec import Spec
from imgret_tools.errors import CollectError, PathRefused

if TYPE_CHECKING:
    from playwright.async_api import Browser, ElementHandle, Page, Request, Response, Route

PLACEHOLDER = (641, 643)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_FLAGS = ("--disable-gpu", "--disable-dev-shm-usage", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp")
_ASKED_POLITELY = frozenset({"document", "xhr", "fetch"})
_NEVER_LOADED = frozenset({"media", "font", "texttrack", "manifest"})
_IDLE_ROUNDS = 2
_STALE_STEPS = 25
_CSS = re.compile(r"^(css=|[a-zA-Z]*[#.\[]\S)")

T = TypeVar("T")
Found = Callable[[list[Candidate]], bool]


class _Page(TypedDict):
    base: str
    images: list[dict[str, object]]
    license: str
    linked_data: list[str]
    robots: list[str]


def find_chromium(own: str = "") -> str:
    """The browser to use: playwright's `own` if it is installed, else one on PATH or where installers put it."""
    if own and Path(own).exists():
        return own
    for place in (*map(shutil.which, _NAMES), *_PLACES):
        if place and Path(place).exists():
            return place
    raise CollectError(
        "No Chromium or Chrome was found. Install one (`playwright install chromium`, or your system's package "
        "chromium), or use the mode html or json, which need no browser."
    )


def crawl_in_browser(
    spec: Spec,
    terms: list[tuple[str, str]],
    web: Web,
    on_term: Callable[[str, str], tuple[Found, Callable[[str, str], None]]],
) -> None:
    """Crawls the terms, `spec.parallel` at a time, until all are done or `web.stop` is set.

    `on_term(category, term)` returns two functions: one takes what a page shows and says whether that is enough, the
    other is told at the end why the term stopped and, when it failed, the reason. Runs its own event loop: call it
    from a thread without one.
    """
    asyncio.run(_crawl(spec, terms, web, on_term))


async def _crawl(
    spec: Spec,
    terms: list[tuple[str, str]],
    web: Web,
    on_term: Callable[[str, str], tuple[Found, Callable[[str, str], None]]],
) -> None:
    try:
        from playwright.async_api import Error, async_playwright
    except ModuleNotFoundError as error:
        raise CollectError(
            "Crawling with a browser needs playwright: pip install 'imgret-tools[collect]', or use the mode html or json."
        ) from error
    places = asyncio.Semaphore(spec.parallel)
    with GuardProxy(allow_private=web.manners.allow_private) as proxy:
        async with async_playwright() as playwright:
            root = hasattr(os, "geteuid") and os.geteuid() == 0
            try:
                browser = await playwright.chromium.launch(
                    executable_path=find_chromium(playwright.chromium.executable_path),
                    args=list(_FLAGS),
                    chromium_sandbox=not root,  # Chromium refuses to sandbox itself as root
                    proxy={"server": proxy.url, "bypass": "<-loopback>"},
                    handle_sigint=False,
                )
            except Error as error:
                raise CollectError(
                    "Chromium does not start: {reason}. Check that it runs on its own.", reason=_line(error)
                ) from error

            async def one(category: str, term: str) -> None:
                async with places:
                    if web.stop.is_set():
                        return
                    found, ended = on_term(category, term)
                    try:
                        stopped = await _Visit(spec, web, browser).run(
                            spec.page_url(category, term, spec.first_page), found
                        )
                        ended(stopped, "")
                    except (FetchError, PathRefused) as failure:
                        ended("failed", _with_refusals(str(failure), proxy))
                    except Error as failure:
                        ended("failed", _with_refusals(_line(failure), proxy))

            try:
                await asyncio.gather(*(one(category, term) for category, term in terms))
            finally:
                with suppress(Error):  # Ctrl-C in a terminal ends playwright's own process too
                    await browser.close()


class _Visit:
    """One search page in one fresh context, from opening to nothing new."""

    def __init__(self, spec: Spec, web: Web, browser: Browser) -> None:
        self.spec, self.web, self.browser = spec, web, browser
        self.pending: set[Request] = set()
        self.answer: Response | None = None
        self.deadline = time.monotonic() + spec.max_seconds

    async def run(self, url: str, found: Found) -> str:
        """Reports what the page shows until it is enough; returns why it stopped."""
        chrome = f"Chrome/{self.browser.version.split('.')[0]}.0.0.0"
        context = await self.browser.new_context(
            user_agent=f"Mozilla/5.0 (compatible; {self.web.manners.user_agent}) {chrome}",
            viewport={"width": 1280, "height": 1000},
            accept_downloads=False,
            service_workers="block",
        )
        try:
            await context.route("**/*", self._on_request)
            page = await context.new_page()
            context.on("page", self._close)
            page.on("request", self._began)
            page.on("response", self._answered)
            page.on("requestfinished", self._ended)
            page.on("requestfailed", self._ended)
            page.set_default_timeout(self.web.manners.timeout * 1000)
            await self._open(page, url)
            return await self._scroll(page, found)
        finally:
            await context.close()

    async def _on_request(self, route: Route) -> None:
        """Pictures are answered here, pages and data asked for politely, sounds and fonts not at all."""
        request = route.request
        try:
            host = host_of(request.url)
        except PathRefused:
            await route.abort("accessdenied")
            return
        if request.resource_type == "image" and not self.spec.load_images:
            await route.fulfill(body=_placeholder(), content_type="image/png")
        elif request.resource_type in _NEVER_LOADED:
            await route.abort("blockedbyclient")
        else:
            if request.resource_type in _ASKED_POLITELY:
                try:
                    forbidden = await asyncio.to_thread(self.web.forbidden, request.url)
                except (FetchError, PathRefused) as error:
                    forbidden = str(error)
                if forbidden:
                    await route.abort("blockedbyclient")
                    return
                await self._wait(self.web.pace.reserve(host))
            await route.continue_()

    async def _open(self, page: Page, url: str) -> None:
        """Opens the page, again after failures of the moment; FetchError or PathRefused when it cannot be had."""
        from playwright.async_api import Error

        for attempt in range(self.web.manners.retries + 1):
            if forbidden := await asyncio.to_thread(self.web.forbidden, url):
                raise PathRefused(forbidden)
            self.answer = None
            try:
                try:
                    await page.goto(url, wait_until="domcontentloaded")
                except Error:
                    if self.answer is None or self.answer.status < 400:  # an empty error page is an error to Chromium
                        raise
                await self._judge(page)
                return
            except (FetchError, Error) as error:
                failure = error if isinstance(error, FetchError) else FetchError(_line(error))
                wait = back_off(failure, attempt)
                last = attempt == self.web.manners.retries or "ERR_TUNNEL" in str(failure)
                if failure.permanent or last or wait > self.web.manners.longest_wait:
                    raise failure from error
                if failure.wait is not None:
                    self.web.pace.hold(host_of(url), failure.wait)
                await self._wait(wait)

    async def _judge(self, page: Page) -> None:
        if (response := self.answer) is None:
            return
        if response.status >= 400:
            after = response.headers.get("retry-after", "")
            raise FetchError(
                "the server answers {status}",
                status=response.status,
                permanent=response.status < 500 and response.status not in (408, 425, 429),
                wait=float(after) if after.isdigit() else None,
            )
        if self.web.manners.obey_robots:
            if forbidden := await asyncio.to_thread(self.web.forbidden, page.url):
                raise PathRefused(forbidden)
            tags = [
                header["value"] for header in await response.headers_array() if header["name"].lower() == "x-robots-tag"
            ]
            if tag := forbidding_tag(tags):
                raise FetchError("its X-Robots-Tag says {tag!r}", tag=tag, permanent=True)

    async def _scroll(self, page: Page, found: Found) -> str:
        """Reads, scrolls, presses "load more" and waits, until enough, nothing new, or out of time."""
        idle = bottoms = count = stale = 0
        while time.monotonic() < self.deadline and not self.web.stop.is_set():
            candidates = await self._steady(page, lambda: self._read(page))
            enough, before, count = found(candidates), count, len({candidate.url for candidate in candidates})
            if enough:
                return "enough"
            idle, stale = (0, 0) if count > before else (idle, stale + 1)
            if stale > _STALE_STEPS:  # a feed that grows for ever by what it has shown before
                return "nothing new"
            if not await self._steady(page, lambda: page.evaluate(SCROLL)):
                await asyncio.sleep(0.08)
                continue
            bottoms += 1
            state = await self._state(page)
            pressed = await self._press_more(page)
            changed = await self._settle(page, state)
            idle = 0 if changed and pressed else idle + 1
            if idle > _IDLE_ROUNDS:
                return "nothing new"
            if bottoms >= self.spec.max_rounds:
                return "max_rounds"
        return "stopped" if self.web.stop.is_set() else "max_seconds"

    async def _read(self, page: Page) -> list[Candidate]:
        read = cast(_Page, await page.evaluate(COLLECT, list(PLACEHOLDER)))
        facts = Facts(
            base=read["base"],
            images=[_raw(image) for image in read["images"]],
            license=read["license"],
            linked_data=read["linked_data"],
        )
        if self.web.manners.obey_robots and (tag := forbidding_tag(read["robots"])):
            raise FetchError("its robots meta tag says {tag!r}", tag=tag, permanent=True)
        return list(from_page(facts, self.spec))

    async def _press_more(self, page: Page) -> bool:
        """Presses the button that loads more, found anew each time (its id may change); whether there was one."""
        from playwright.async_api import Error

        button: ElementHandle | None = None
        if wanted := self.spec.load_more:
            selector = (
                wanted
                if wanted.startswith(("css=", "text="))
                else f"css={wanted}"
                if _CSS.match(wanted)
                else f"text={wanted}"
            )
            for element in await page.query_selector_all(selector):
                if await element.is_visible() and await element.is_enabled():
                    button = element
                    break
        else:
            button = (await page.evaluate_handle(FIND_MORE)).as_element()
        if button is None:
            return False
        try:
            await button.click(timeout=1500, no_wait_after=True)
        except Error:
            with suppress(Error):  # something lies over it, or it is gone
                await button.evaluate("button => button.click()")
        return True

    async def _state(self, page: Page) -> str:
        return str(await self._steady(page, lambda: page.evaluate(STATE)))

    async def _settle(self, page: Page, before: str) -> bool:
        """Waits until the page has changed and nothing is under way, at most `settle` seconds of silence."""
        quiet = time.monotonic() + self.spec.settle
        while time.monotonic() < min(quiet, self.deadline) and not self.web.stop.is_set():
            await asyncio.sleep(0.05)
            if any(request.resource_type in (*_ASKED_POLITELY, "script") for request in self.pending):
                quiet = time.monotonic() + self.spec.settle
            elif await self._state(page) != before:
                return True
        return False

    async def _steady(self, page: Page, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives; once more when the page went on to another address in between."""
        from playwright.async_api import Error

        try:
            return await read()
        except Error:
            await page.wait_for_load_state("domcontentloaded")
            return await read()

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.web.stop.is_set():
                raise FetchError("stopped")
            await asyncio.sleep(min(left, 0.2))

    def _answered(self, response: Response) -> None:
        if response.request.is_navigation_request() and response.frame.parent_frame is None:
            self.answer = response

    def _began(self, request: Request) -> None:
        self.pending.add(request)

    def _ended(self, request: Request) -> None:
        self.pending.discard(request)

    @staticmethod
    async def _close(page: Page) -> None:
        await page.close()


def _raw(image: dict[str, object]) -> Raw:
    kind = image["kind"]
    own = cast(dict[str, str], image.get("attributes") or {})
    elements = [own, *cast(list[dict[str, str]], image.get("sources") or [])]
    waiting = [backgrounds(own)] if kind == "background" else [lazy(element) for element in elements]
    return Raw(
        "og" if kind == "og" else "background" if kind == "background" else "img",
        src=str(image.get("src") or ""),
        srcsets=tuple(value for element in elements for value in srcsets(element)) if kind == "img" else (),
        lazy=tuple(value for values in waiting for value in values),
        link=str(image.get("link") or ""),
        width=float(cast(float, image.get("width") or 0)),
        height=float(cast(float, image.get("height") or 0)),
        license=str(image.get("license") or ""),
    )


@cache
def _placeholder() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", PLACEHOLDER, 230).save(out, "PNG", optimize=True)
    return out.getvalue()


def _line(error: BaseException) -> str:
    """The first line of playwright's message, without its call log."""
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__


def _with_refusals(reason: str, proxy: GuardProxy) -> str:
    """`reason`, or what the proxy said about a host when that is why."""
    for host, refusal in proxy.refused.items():
        if host in reason or any(sign in reason for sign in ("403", "502", "ERR_TUNNEL")):
            return refusal
    return reason
