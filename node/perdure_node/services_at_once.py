"""Services in Python that never wait: called where their step begins.

They need no task, no place among the concurrent attempts, and no time to be over: they have ended
before anything else happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from perdure import codec, services
from perdure.context import StepResult, current_turn
from perdure.errors import ServiceNotFound
from perdure.service_context import ServiceTurn
from perdure.service_settings import ServiceSettings
from perdure.services import Retry
from perdure_node.beginning import Beginnings
from perdure_node.service_attempt import Again, Attempt, answered, raised_by

if TYPE_CHECKING:
    from perdure.client import Client

__all__ = ["ServicesAtOnce"]

_AS_USUAL: Final = ServiceSettings()


class ServicesAtOnce:
    """Makes first attempts that may be the only ones."""

    def __init__(
        self,
        settings: Mapping[str, ServiceSettings],
        places: Mapping[str, asyncio.Semaphore],
        bytes_max: int,
        client: Client | None,
    ) -> None:
        """Prepare to call.

        Args:
            settings: By the services' names. One that is not there is called as usual.
            places: How many more attempts each service bears now.
            bytes_max: The limit of an encoded result.
            client: Makes the calls that services make, on the node's loop.
        """
        self._settings: Final = settings
        self._places: Final = places
        self._bytes_max: Final = bytes_max
        self._client: Final = client
        self._beginnings: Final = Beginnings()

    def attempt(
        self,
        service: str,
        method: str,
        payload: bytes | None,
        key: str,
        chain: Sequence[Sequence[str]],
        loop: asyncio.AbstractEventLoop,
    ) -> StepResult | Again | None:
        """Call a service for the first time, if it is there and neither waits nor has to.

        Args:
            service: Its name.
            method: The method's name.
            payload: Encoded; None: there is none.
            key: The idempotency key of the step.
            chain: The calls that the step is inside of.
            loop: The one that runs here.

        Returns:
            How it has ended; None: it has not been called.
        """
        settings = self._settings.get(service, _AS_USUAL)
        if settings.url is not None:
            return None
        try:
            found = services.find(service, method)
        except ServiceNotFound:
            return None
        places = self._places.get(service)
        if found.waits or (places is not None and places.locked()):
            return None
        attempt = Attempt(service, method, payload, key, 1, settings.timeout_s)
        turn = ServiceTurn(service, method, key, 1, self._client, chain, loop)
        try:
            value = copy_context().run(self._value, found.bind, payload, turn)
        except BaseException as error:
            # SystemExit too: a service may not end the node.
            if isinstance(error, Retry):
                return Again("Retry", str(error), error.after_s or 0.0)
            return raised_by(attempt, error)
        return answered(attempt, value, self._bytes_max)

    def _value(
        self, bind: Callable[[], Callable[..., Any]], payload: bytes | None, turn: ServiceTurn
    ) -> Any:
        current_turn.set(turn)
        function = bind()
        coroutine = function() if payload is None else function(codec.decode(payload))
        rest, value = self._beginnings.begin(coroutine)
        if rest is not None:
            raise AssertionError(f"{function} waits")
        return value
