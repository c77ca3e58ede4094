"""Services over HTTP: one attempt to post a call to one.

Redirects are not followed, certificates are checked, and no answer takes more memory than its
limit. What a server answers with 4xx is its answer; what may pass by itself is `Again`.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import httpx

from perdure import codec, jsonvalue
from perdure.context import StepResult
from perdure.errors import PerdureError
from perdure_node.service_attempt import Again, Attempt, answered, failed, too_large

__all__ = ["HttpServices", "is_path"]

RETRY_AFTER_MAX_S: Final = 3_600.0
"""The longest pause that a server gets by `Retry-After`."""

_RETRIED: Final = frozenset({408, 425, 429})
"""Of the 4xx; and every 5xx."""

_REASON_BYTES_MAX: Final = 16_384
"""Of the body that goes with an error."""

_IDLE_CONNECTIONS: Final = 100

_SEGMENT: Final = re.compile(r"(?!\.{1,2}$).+")

_AS_THEY_ARE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""What a header can hold. The rest of a key is percent-encoded, so that no two keys are one."""


def is_path(method: str) -> bool:
    """Tell whether a method's name can follow a URL: segments between slashes, no dots alone."""
    return all(_SEGMENT.match(segment) for segment in method.split("/"))


class HttpServices:
    """Posts calls. One pool of connections for all services."""

    def __init__(self, bytes_max: int, wall_ms: Callable[[], int]) -> None:
        """Prepare to call.

        Args:
            bytes_max: The limit of an answer.
            wall_ms: The wall clock, for servers that say until when to wait.
        """
        self._bytes_max: Final = bytes_max
        self._wall_ms: Final = wall_ms
        # Time-outs are the attempt's as a whole; how many there are at a time, the service's.
        self._client: Final = httpx.AsyncClient(
            follow_redirects=False,
            timeout=None,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def attempt(self, attempt: Attempt, url: str) -> StepResult | Again:
        """Post a call once.

        Args:
            attempt: What to call. Its method satisfies `is_path`.
            url: The service's.
        """
        body = None
        if attempt.payload is not None:
            try:
                body = jsonvalue.to_json(codec.decode(attempt.payload))
            except (codec.NotEncodable, PerdureError) as error:
                return failed(attempt, "BadArguments", f"the payload cannot be sent: {error}")
        address = f"{url}/{quote(attempt.method)}"
        try:
            # A host that cannot be is found out only when it is read.
            httpx.URL(address).host  # noqa: B018
        except (httpx.InvalidURL, ValueError) as error:
            return failed(attempt, "InvalidURL", f"{address}: {error}")
        try:
            async with asyncio.timeout(attempt.timeout_s):
                return await self._post(attempt, address, body)
        except TimeoutError:
            return Again("TimeoutError", f"no answer within {attempt.timeout_s:g} s")
        except httpx.TransportError as error:
            what = type(error).__name__
            return Again(what, f"{what}: {error}" if str(error) else what)

    async def _post(self, attempt: Attempt, address: str, body: bytes | None) -> StepResult | Again:
        headers = {
            "Accept": "application/json",
            # A small answer that is a large one once unpacked could not be bounded.
            "Accept-Encoding": "identity",
            "Idempotency-Key": quote(attempt.key, safe=_AS_THEY_ARE),
            "Perdure-Attempt": str(attempt.number),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with self._client.stream("POST", address, content=body, headers=headers) as response:
            status = response.status_code
            if status in _RETRIED or status >= 500:
                reason = f"HTTP {status}: {await _reason(response)}"
                return Again(f"HTTP {status}", reason, self._retry_after_s(response))
            if not response.is_success:
                return failed(attempt, f"HTTP {status}", await _reason(response))
            if response.headers.get("content-encoding", "identity") != "identity":
                return failed(attempt, f"HTTP {status}", "the answer is packed, unasked")
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > self._bytes_max:
                    return too_large(attempt, _length(response, content), self._bytes_max)
        return self._value(attempt, status, bytes(content))

    def _value(self, attempt: Attempt, status: int, content: bytes) -> StepResult:
        try:
            value = jsonvalue.from_json(content) if content.strip() else None
        except PerdureError as error:
            return failed(attempt, f"HTTP {status}", f"the answer is no JSON: {error}")
        return answered(attempt, value, self._bytes_max)

    def _retry_after_s(self, response: httpx.Response) -> float:
        """Return how long the server wants to be left alone; 0: it does not say."""
        text = response.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,18}", text):
            seconds = float(text)
        else:
            try:
                until = email.utils.parsedate_to_datetime(text)
            except ValueError:
                return 0.0
            seconds = until.timestamp() - self._wall_ms() / 1000
        return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


async def _reason(response: httpx.Response) -> str:
    """Return the text of an answer that is an error."""
    if response.is_redirect:
        where = response.headers.get("location", "")
        return f"a redirect to {where:.200}, which is not followed: set it as the url"
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) >= _REASON_BYTES_MAX:
            break
    return content[:_REASON_BYTES_MAX].decode(errors="replace") or response.reason_phrase


def _length(response: httpx.Response, content: bytearray) -> int:
    """Return how long an answer is, as far as is known."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isdigit() else len(content)
