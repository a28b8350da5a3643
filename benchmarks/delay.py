"""A TCP proxy that adds a round-trip time between a worker and its database, for tests and benchmarks."""

import asyncio
import threading
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK = 64 * 2**10  # bytes


class DelayProxy:
    """Forwards connections to a PostgreSQL's private socket; each byte arrives `round_trip / 2` seconds later.

    Use it as a context manager; `url` is the database's address through it.
    """

    def __init__(self, database_url: str, round_trip: float) -> None:
        parts = urlsplit(database_url)
        query = parse_qs(parts.query)
        self._socket = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._user = parts.username
        self._database = unquote(parts.path.lstrip("/"))
        self.round_trip = round_trip  # seconds; may be changed while it runs
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delay-proxy", daemon=True)
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""

    def __enter__(self) -> "DelayProxy":
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", 0), self._loop
        ).result(10)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"postgresql+psycopg://{self._user}@127.0.0.1:{port}/{self._database}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Forward until the source ends: read at once, written later, so that delays do not add up."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                at, chunk = await due.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                if not chunk:
                    return
                sink.write(chunk)
                await sink.drain()

        writing = asyncio.create_task(write())
        try:
            with suppress(ConnectionError):
                chunk = b"-"
                while chunk:
                    chunk = await source.read(CHUNK)
                    due.put_nowait((self._loop.time() + self.round_trip / 2, chunk))
                await writing
        finally:
            writing.cancel()
            sink.close()
