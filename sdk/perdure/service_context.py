"""What a Python service sees while it runs: `ctx`, and who sends the calls that it makes.

A service is outside of the method that called it. It has that step's key and attempt, and no
object: no state to save, no steps, no timers. Calls that it makes are plain calls, made again
when the service is attempted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.context import DurableContext, StepResult, TimerSetting, current_turn
from perdure.frames import Encoding, Kind
from perdure.ids import ObjectKey
from perdure.runtime import current_client

if TYPE_CHECKING:
    from perdure.client import Answer, Client

__all__ = ["ServiceTurn", "service_context"]


@contextmanager
def service_context(
    service: str,
    method: str,
    *,
    key: str,
    attempt: int,
    client: Client | None = None,
    chain: Sequence[Sequence[str]] = (),
) -> Iterator[None]:
    """Run the block as an attempt of a service, not as the method that called it.

    Args:
        service: The service's name.
        method: The method's.
        key: The step's idempotency key.
        attempt: The number of this attempt, from 1.
        client: Makes the calls of the service, on the running loop. None: the loop's own.
        chain: The calls that the service runs inside of.
    """
    loop = asyncio.get_running_loop()
    turn = ServiceTurn(service, method, key, attempt, client, chain, loop)
    token = current_turn.set(turn)
    try:
        yield
    finally:
        current_turn.reset(token)


class _ServiceContext(DurableContext):
    """The context of one attempt of a service."""

    __slots__ = ("_service_logger",)

    def __init__(self, service: str, method: str, key: str, attempt: int) -> None:
        super().__init__(ObjectKey(service, ""), method, key, attempt=attempt, key=key)
        self._service_logger: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        return f"<DurableContext of the service {self._object.type}.{self._method}>"

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        if self._service_logger is None:
            service, method, key = self._object.type, self._method, self.idempotency_key
            self._service_logger = logging.LoggerAdapter(
                logging.getLogger(f"perdure.service.{service}"),
                {"durable_service": service, "durable_method": method, "idempotency_key": key},
            )
        return self._service_logger


class ServiceTurn:
    """A `Turn` without an object: what `service_context` sets, with the same arguments."""

    _context: DurableContext | None = None

    def __init__(
        self,
        service: str,
        method: str,
        key: str,
        attempt: int,
        client: Client | None,
        chain: Sequence[Sequence[str]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._key = key
        self._attempt = attempt
        self._service = service
        self._method = method
        self._client = client
        self._chain = chain
        self._loop = loop

    @property
    def context(self) -> DurableContext:
        """See `context.Turn`."""
        if self._context is None:
            self._context = _ServiceContext(self._service, self._method, self._key, self._attempt)
        return self._context

    @property
    def partition_count(self) -> int | None:
        """See `context.Turn`."""
        return self._caller().partition_count

    def _caller(self) -> Client:
        # A sync service runs in a thread: a loop that it starts there is not the client's.
        here = asyncio.get_running_loop() is self._loop
        return self._client if here and self._client is not None else current_client()

    def call(
        self,
        target: ObjectKey,
        kind: Kind,
        method: str = "",
        *,
        arguments: bytes = b"",
        encoding: Encoding = Encoding.MSGPACK,
        key: str | None = None,
        timeout_s: float | None = 30.0,
        have: tuple[int, int] | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Answer]:
        """See `context.Turn`."""
        return self._caller().call(
            target,
            kind,
            method,
            arguments=arguments,
            encoding=encoding,
            key=key,
            timeout_s=timeout_s,
            have=have,
            chain=self._chain,
            partition=partition,
        )

    def value(self, name: str, make: Callable[[], bytes]) -> bytes:  # noqa: ARG002 - nothing is kept
        """See `context.Turn`."""
        return make()

    def save(self) -> None:
        """See `context.Turn`."""
        self._refuse("save()")

    def service(
        self,
        service: str,
        method: str,  # noqa: ARG002
        payload: bytes | None,  # noqa: ARG002
    ) -> asyncio.Future[StepResult]:
        """See `context.Turn`."""
        self._refuse(f"a call of the service {service}")

    def run_step(
        self,
        name: str,
        function: Callable[[], Any],  # noqa: ARG002
    ) -> asyncio.Future[StepResult]:
        """See `context.Turn`."""
        self._refuse(f"ctx.run({name!r})")

    def sleep(self, until_ms: int) -> asyncio.Future[StepResult]:  # noqa: ARG002
        """See `context.Turn`."""
        self._refuse("ctx.sleep")

    def set_timer(self, timer: TimerSetting) -> None:
        """See `context.Turn`."""
        self._refuse(f"the timer {timer.name!r}")

    def cancel_timer(self, name: str) -> bool:
        """See `context.Turn`."""
        self._refuse(f"the timer {name!r}")

    def timers(self) -> list[TimerSetting]:
        """See `context.Turn`."""
        self._refuse("ctx.timers")

    def send(
        self,
        target: ObjectKey,
        method: str,
        arguments: bytes,  # noqa: ARG002
        due_ms: int,  # noqa: ARG002
        key: str | None,  # noqa: ARG002
    ) -> asyncio.Future[Answer]:
        """See `context.Turn`."""
        self._refuse(f"a send to {target}.{method}")

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{what} inside of the service {self._service}.{self._method}, which is one step of a "
            f"method and has none of its own: do it in the method"
        )
