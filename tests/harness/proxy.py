"""A TCP proxy on loopback that can freeze: connections stay open and nothing comes through."""

from __future__ import annotations

import asyncio


class Proxy:
    def __init__(self, port: int) -> None:
        self._target = port
        self._flows: set[asyncio.Task[None]] = set()
        self._through = asyncio.Event()
        self._through.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for flow in list(self._flows):
            flow.cancel()
        await asyncio.gather(*self._flows, return_exceptions=True)

    def freeze(self) -> None:
        self._through.clear()

    def thaw(self) -> None:
        self._through.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            flow = asyncio.create_task(self._copy(source, sink))
            self._flows.add(flow)
            flow.add_done_callback(self._flows.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._through.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return
        finally:
            sink.close()
