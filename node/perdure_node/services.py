"""Services as a node calls them: bounded, timed, and attempted again where that may help.

An answer ends a call, and so does an error that the service gives as its answer. Attempts that
say nothing about the work (no connection, no answer in time, "come back later") are made again,
always with the same idempotency key.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from perdure import services
from perdure.bodies import pack_error
from perdure.context import StepResult
from perdure.errors import Code, ServiceNotFound
from perdure.service_settings import ServiceSettings
from perdure_node.clock import Clock, SystemClock
from perdure_node.python_services import PythonServices
from perdure_node.service_attempt import Again, Attempt, Standing, failed
from perdure_node.services_at_once import ServicesAtOnce

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure_node.http_services import HttpServices

__all__ = ["RESULT_BYTES_MAX", "Services"]

RESULT_BYTES_MAX: Final = 4 << 20
"""Of an answer, as it comes over HTTP and as it is recorded."""

_AS_USUAL: Final = ServiceSettings()

_log = logging.getLogger("perdure.service")


class Services:
    """Calls services, by HTTP where the settings have a URL, else in this process."""

    def __init__(
        self,
        settings: Mapping[str, ServiceSettings],
        client: Client | None = None,
        *,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare to call.

        Args:
            settings: By the services' names. One that is not there is called as usual.
            client: Makes the calls of services in Python, on the node's loop.
            clock: The node's.
            chance: Returns a number from 0 to 1 for each pause, so that callers spread out.
            pause: Waits for so many seconds.
        """
        self._settings: Final = dict(settings)
        self._clock: Final = clock or SystemClock()
        self._chance: Final = chance
        self._pause: Final = pause
        self._python: Final = PythonServices(RESULT_BYTES_MAX, client)
        self._http: HttpServices | None = None
        self._places: Final[dict[str, asyncio.Semaphore]] = {}
        self._at_once: Final = ServicesAtOnce(
            self._settings, self._places, RESULT_BYTES_MAX, client
        )
        self.standing: dict[str, Standing] = {}
        """How the calls that are not over stand, by idempotency key."""

    def begin(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        chain: Sequence[Sequence[str]],
        loop: asyncio.AbstractEventLoop,
    ) -> StepResult | Coroutine[Any, Any, StepResult]:
        """Call a service for the first time, at once if it never waits.

        Args:
            service: Its name.
            method: The method's name.
            payload: As for `call`.
            key: Likewise.
            chain: Likewise.
            loop: The one that runs here.

        Returns:
            The result, or a coroutine that goes on up to that.
        """
        ended = self._at_once.attempt(service, method, payload, key, chain, loop)
        if isinstance(ended, StepResult):
            return ended
        return self.call(service, method, payload, key, 1, chain=chain, ended=ended)

    async def call(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        attempt: int,
        *,
        chain: Sequence[Sequence[str]] = (),
        ended: Again | None = None,
    ) -> StepResult:
        """Call a service until it has answered, or has been attempted often enough.

        Args:
            service: Its name.
            method: The method's name.
            payload: Encoded; None: there is none.
            key: The idempotency key of the step: the same for every attempt, and after a restart.
            attempt: The number of the first attempt made here; the later ones count on.
            chain: The calls that the step is inside of, for calls that the service makes.
            ended: How the first attempt has ended, if it was made already.

        Returns:
            The code and payload to record: OK, SERVICE_ERROR, SERVICE_NOT_FOUND,
            RESULT_NOT_STORABLE or RESULT_TOO_LARGE.

        Raises:
            asyncio.CancelledError: Whoever waits was cancelled: nothing is known of the work.
        """
        try:
            return await self._call(service, method, payload, key, attempt, chain, ended)
        finally:
            self.standing.pop(key, None)

    async def _call(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        attempt: int,
        chain: Sequence[Sequence[str]],
        first: Again | None,
    ) -> StepResult:
        settings = self._settings.get(service, _AS_USUAL)
        number, failure = attempt, ""
        while True:
            self.standing[key] = Standing(number, failure, None)
            current = Attempt(service, method, payload, key, number, settings.timeout_s)
            try:
                ended = first or await self._attempt(current, settings, chain)
            except ServiceNotFound as error:
                return StepResult(*pack_error(Code.SERVICE_NOT_FOUND, error.args))
            first = None
            if isinstance(ended, StepResult):
                return ended
            count = number - attempt + 1
            if count >= settings.attempts:
                attempts = "1 attempt" if count == 1 else f"{count} attempts, the last"
                return failed(current, ended.type, f"{attempts}: {ended.reason}")
            pause_s = max(ended.after_s, self._backoff_s(settings, count))
            _log.info("%s: again after %.2f s: %s", current, pause_s, ended.reason)
            failure = ended.reason
            again_s = asyncio.get_running_loop().time() + pause_s
            self.standing[key] = Standing(number, failure, again_s)
            await self._pause(pause_s)
            number += 1

    async def close(self) -> None:
        """Close all connections. Calls have been cancelled, or fail."""
        if self._http is not None:
            await self._http.close()

    async def _attempt(
        self, attempt: Attempt, settings: ServiceSettings, chain: Sequence[Sequence[str]]
    ) -> StepResult | Again:
        url = settings.url
        if url is not None:
            http = self._open_http(attempt)
            async with self._places_of(attempt.service, settings):
                return await http.attempt(attempt, url)
        # Looked for at each attempt: a notebook may have defined it anew.
        found = services.find(attempt.service, attempt.method, self._over_http())
        places = self._places_of(attempt.service, settings)
        await places.acquire()
        return await self._python.attempt(attempt, found, chain, places)

    def _places_of(self, service: str, settings: ServiceSettings) -> asyncio.Semaphore:
        places = self._places.get(service)
        if places is None:
            places = self._places[service] = asyncio.Semaphore(settings.concurrency)
        return places

    def _backoff_s(self, settings: ServiceSettings, count: int) -> float:
        # The exponent is bounded, so that many attempts make no number too large for a float.
        longest_s = settings.backoff_min_s * 2.0 ** min(count - 1, 64)
        return min(longest_s, settings.backoff_max_s) * (1 + self._chance()) / 2

    def _over_http(self) -> list[str]:
        return [name for name, one in self._settings.items() if one.url is not None]

    def _open_http(self, attempt: Attempt) -> HttpServices:
        # Imported here: most nodes have no service over HTTP.
        from perdure_node.http_services import HttpServices, is_path

        if not is_path(attempt.method):
            raise ServiceNotFound(
                attempt.service, attempt.method, ": a method over HTTP is a path such as 'charge'"
            )
        if self._http is None:
            self._http = HttpServices(RESULT_BYTES_MAX, self._clock.wall_ms)
        return self._http
