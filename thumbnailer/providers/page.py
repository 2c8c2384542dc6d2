"""One page visited for one capture: opened, waited for, tidied up, photographed."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import (
    CaptureRefused,
    PageCrashed,
    TargetStatus,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamFailed,
)
from thumbnailer.model import CaptureRequest, Deadline, WaitUntil
from thumbnailer.providers import alterations, page_scripts, whole_page
from thumbnailer.providers.document import Document, are_alike, is_of_main_frame
from thumbnailer.providers.equipment import Equipment
from thumbnailer.providers.hearsay import Hearsay
from thumbnailer.providers.page_errors import PROVIDER, net_error, translate_navigation
from thumbnailer.providers.page_world import PageWorld, if_possible
from thumbnailer.providers.picture import Taken, photograph
from thumbnailer.providers.playwright_errors import PlaywrightError, PlaywrightTimeout
from thumbnailer.providers.resting import Resting, shows_whole_page
from thumbnailer.providers.user_agents import introduction

if TYPE_CHECKING:
    from playwright.async_api import Dialog, Page, Request, Response, Route

#: The most that each wait may take, in seconds; every one also takes only a share of what is left.
IDLE_SECONDS = 10.0
CONSENT_SECONDS = 5.0
PROGRAM_SECONDS = 10.0
CRASH_NEWS_SECONDS = 0.2
NOT_LOADED = "The browser could not load the page."
#: Kept back from ``wait_for``, so that there is time left to refuse in good order.
RESERVED_SECONDS = 2.0

MAX_NAMES = 5_000


class Visit:
    """A visit of ``page``, which is fresh and knows ``proxy``, to ``request.url``.

    Opening, the answer's status, each wait and the picture come in this order; the waits give up
    quietly when their time is over, because a picture of a page that never rests is still one.
    """

    def __init__(
        self,
        page: Page,
        request: CaptureRequest,
        equipment: Equipment,
        proxy: EgressProxy,
        deadline: Deadline,
    ) -> None:
        self._page = page
        self._world = PageWorld(page)
        self._request = request
        self._equipment = equipment
        self._proxy = proxy
        self._deadline = deadline
        self._answer = Document(page)
        self._resting = Resting(page, self._world, request, deadline)
        self._crashed = asyncio.Event()
        self._hearsay = Hearsay(page, self._crashed)
        self._blocked: set[str] = set()
        # Of the main frame: the document asked for last, and how the last answer turned out.
        self._document = request.url
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._failure: ThumbnailerError | None = None

    async def picture(self) -> bytes:
        """Make the visit and bring the picture.

        Raises:
            CaptureRefused: a selector is invalid or nothing (visible) matches it, or a program fails.
            TargetForbidden: the page led to where nobody may go.
            TargetStatus, TargetUnreachable: the page is at fault.
            PageChallenged: the page is a check for robots.
            ImageTooLarge: the picture would have more pixels than allowed, or the PDF more bytes.
            PageCrashed: the page crashed, took too much memory, or asked for too much.
            playwright.async_api.Error: the page or the browser failed otherwise.
        """
        visiting = asyncio.ensure_future(self._make())
        crashing = asyncio.ensure_future(self._crashed.wait())
        try:
            await asyncio.wait({visiting, crashing}, return_when=asyncio.FIRST_COMPLETED)
            # A crashed page may still hand out a picture, small and empty.
            if self._crashed.is_set():
                what = "asks for too much" if self._hearsay.is_too_much else "crashed in the browser"
                raise PageCrashed(f"The page {what}.", provider=PROVIDER)
            return visiting.result()
        finally:
            visiting.cancel()
            crashing.cancel()
            await asyncio.wait({visiting, crashing})

    async def _make(self) -> bytes:
        await self._refuse_invalid_selectors()
        self._listen()
        await self._install()
        await self._open()
        await self._wait()
        await self._alter()
        await self._tidy_up()
        await self._resting.begin(max_full_page_height=self._equipment.bounds.max_full_page_height)
        await self._refuse_failed_document()
        await self._refuse_challenge()
        picture = await self._resting.last_of(self._photograph, self._hide_leftovers)
        # A script may have left the page at the last moment.
        await self._refuse_failed_document()
        return picture

    async def _refuse_invalid_selectors(self) -> None:
        asked = {
            "hide_selectors": self._request.hide_selectors,
            "selector": (self._request.selector,),
            "wait_for": (self._request.wait_for,),
        }
        for option, values in asked.items():
            selectors = [value for value in values if value is not None]
            if selectors and await self._world.run(page_scripts.INVALID_SELECTORS, selectors):
                raise CaptureRefused(f"The option {option} is not a valid CSS selector.")

    def _listen(self) -> None:
        page = self._page
        page.on("crash", lambda _: self._crashed.set())
        page.on("request", self._note_request)
        page.on("response", self._note_response)
        page.context.on("dialog", _dismiss)
        page.context.on("page", _close)

    async def _install(self) -> None:
        if self._request.hide_selectors:
            selectors = json.dumps(self._request.hide_selectors)
            await self._page.add_init_script(f"({page_scripts.HIDE})({selectors})")
        if shows_whole_page(self._request):
            await self._page.add_init_script(f"({whole_page.KEEP_SHOWN})()")
        if self._request.block_cookie_banners:
            await self._page.add_init_script(self._equipment.consent_script)
        browser = self._page.context.browser
        assert browser is not None  # it has launched the page
        introduced = introduction(self._request, browser.version)
        await self._world.send("Emulation.setUserAgentOverride", introduced)
        await alterations.introduce_caller(self._page, self._request)
        await alterations.send_headers(self._page, self._request)
        if self._request.block_ads:
            await self._page.route("**/*", self._let_pass_or_block)

    async def _open(self) -> None:
        await self._go(self._page.goto(self._request.url, wait_until="commit", timeout=0))
        if await self._breaks_off():
            length = await self._world.attempt(page_scripts.LENGTH)
            await self._go(self._page.reload(wait_until="commit", timeout=0))
            if await self._breaks_off():
                # A server may count its bytes wrongly, at which no visitor sees anything amiss.
                if not are_alike(length, await self._world.attempt(page_scripts.LENGTH)):
                    raise TargetUnreachable("The target's host broke the connection.")
                await self._world.send("Page.stopLoading")
        await self._refuse_failed_document()

    async def _go(self, going: Awaitable[Response | None]) -> None:
        try:
            await going
        except PlaywrightError as error:
            failure = translate_navigation(error)
            if failure is not None:
                await self._hear_of_a_crash(error)
                await self._refuse_failed_answer()
                # The proxy knows why; the browser only that it did not get through.
                raise self._refusal() or failure from error
            if "interrupted by another navigation" not in error.message:
                raise

    async def _breaks_off(self) -> bool:
        """Wait for the moment, and for what never comes only while there is nothing to show."""
        moment: Literal["load", "domcontentloaded"] = (
            "domcontentloaded" if self._request.wait_until is WaitUntil.DOMCONTENTLOADED else "load"
        )
        with suppress(PlaywrightTimeout):
            seconds = self._deadline.share_seconds(2, self._equipment.load_timeout_seconds)
            loading = self._page.wait_for_load_state(moment, timeout=seconds * 1000)
            return await self._answer.breaks_off_before(loading)
        if await self._world.attempt(page_scripts.HAS_CONTENT):
            # What hangs may be a style sheet, without which nothing is drawn.
            await self._world.send("Page.stopLoading")
            return False
        return await self._answer.breaks_off_before(self._page.wait_for_load_state(moment, timeout=0))

    async def _hear_of_a_crash(self, error: PlaywrightError) -> None:
        """Give the news of a crash time to come: the navigation that it broke off is told first."""
        if net_error(error) == "ABORTED":
            with suppress(TimeoutError):
                async with asyncio.timeout(CRASH_NEWS_SECONDS):
                    await self._crashed.wait()
                    await asyncio.sleep(CRASH_NEWS_SECONDS)  # ``picture`` has heard, and ends this

    async def _wait(self) -> None:
        if self._request.wait_until is WaitUntil.LOAD:
            await self._resting.content_arrives()
        if self._request.wait_until is WaitUntil.NETWORKIDLE:
            with suppress(PlaywrightTimeout):
                await self._page.wait_for_load_state(
                    "networkidle", timeout=self._deadline.share_seconds(2, IDLE_SECONDS) * 1000
                )
        if self._request.wait_for is not None:
            seconds = max(0.1, self._deadline.remaining_seconds() - RESERVED_SECONDS)
            try:
                await self._page.wait_for_selector(f"css={self._request.wait_for}", timeout=seconds * 1000)
            except PlaywrightTimeout as error:
                raise CaptureRefused("Nothing that matches wait_for appeared in time.") from error

    async def _alter(self) -> None:
        if self._request.css is not None:
            await alterations.style(self._page, self._world, self._request.css)
        if self._request.js is not None:
            await alterations.run(
                self._page, self._request.js, self._deadline.share_seconds(2, PROGRAM_SECONDS)
            )

    async def _tidy_up(self) -> None:
        if self._request.block_cookie_banners:
            patience = self._deadline.share_seconds(3, CONSENT_SECONDS)
            settled = self._page.evaluate(page_scripts.CONSENT_SETTLED, patience * 1000)
            await if_possible(settled, patience + 0.5)
            await self._hide_leftovers()
        hidden = list(self._request.hide_selectors)
        if self._request.block_ads:
            names = await self._world.attempt(page_scripts.NAMES_IN_USE, MAX_NAMES)
            hidden += self._equipment.ads.selectors_for(self._page.url, names)
            await self._world.attempt(page_scripts.COLLAPSE, sorted(self._blocked))
        if hidden:
            await self._world.attempt(page_scripts.HIDE, hidden)

    async def _hide_leftovers(self) -> None:
        if self._request.block_cookie_banners:
            await self._world.attempt(page_scripts.HIDE_LEFTOVERS, list(self._equipment.banner_selectors))

    async def _photograph(self) -> Taken:
        return await photograph(self._page, self._world, self._request, self._equipment.bounds)

    def _note_request(self, request: Request) -> None:
        # Redirects come here too, one request for each hop.
        if is_of_main_frame(request):
            self._document = request.url

    def _note_response(self, response: Response) -> None:
        if not is_of_main_frame(response.request):
            return
        # Only plain http can be answered by the proxy, which takes its mark out of all other answers.
        if response.url.startswith("http:") and self._proxy.is_own(response.headers):
            self._failure = self._refusal() or UpstreamFailed(NOT_LOADED, provider=PROVIDER)
        else:
            self._failure, self._status, self._headers = None, response.status, response.headers

    def _refusal(self) -> ThumbnailerError | None:
        """Why the proxy did not reach the host of the latest document, if it did not."""
        # A copy, because an error that is raised twice collects the traces of both.
        return copy.copy(self._proxy.refusals.of_url(self._document))

    async def _refuse_challenge(self) -> None:
        self._equipment.challenges.refuse_answer(self._headers)
        await self._equipment.challenges.refuse_page(self._world)

    async def _refuse_failed_answer(self) -> None:
        if self._failure is not None:
            raise self._failure
        status = self._status
        if status is not None and any(status in failing for failing in self._request.fail_on_status):
            await self._refuse_challenge()
            raise TargetStatus(status)

    async def _refuse_failed_document(self) -> None:
        await self._refuse_failed_answer()
        if self._page.url.startswith("chrome-error:"):
            raise self._refusal() or TargetUnreachable("The target could not be loaded.")

    async def _let_pass_or_block(self, route: Route, request: Request) -> None:
        with suppress(PlaywrightError):
            if not is_of_main_frame(request) and self._equipment.ads.blocks(
                request.url, page_url=self._page.url, resource_type=request.resource_type
            ):
                self._blocked.add(request.url)
                await route.abort("blockedbyclient")
            else:
                await route.continue_()


async def _dismiss(dialog: Dialog) -> None:
    with suppress(PlaywrightError):
        await dialog.dismiss()


async def _close(popup: Page) -> None:
    with suppress(PlaywrightError):
        await popup.close()
