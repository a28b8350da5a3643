"""`python -m simulator`: serve the simulated gateway until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from asyncio import BaseTransport, Transport
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulator.answers import PathAsSent, failed, open_connections, refused
from simulator.api import Api
from simulator.clock import Clock
from simulator.faults import Faults
from simulator.faults_file import BadFaults, read_faults
from simulator.keeping import Keeping
from simulator.kept import BadFile, Records
from simulator.shop import Shop
from simulator.tokens import Tokens
from simulator.webhooks import Webhooks
from simulator.witness import Witness

TICK = 0.25  # seconds between checks for what is due by the clock


class CuttableProtocol(H11Protocol):
    """HTTP/1.1 with connections that a fault can reset."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Register the connection under its client's address."""
        super().connection_made(cast("Transport", transport))
        self._peer = transport.get_extra_info("peername")
        if self._peer:
            open_connections[self._peer[:2]] = cast("Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        if self._peer:
            open_connections.pop(self._peer[:2], None)
        super().connection_lost(exc)


class SimulatorServer(uvicorn.Server):
    """A server that prints its address, and ends quietly on a stop signal."""

    def __init__(self, config: uvicorn.Config, words: str | None) -> None:
        super().__init__(config)
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and print the address."""
        await super().startup(sockets)
        if self._words is not None and self.started:
            sys.stdout.write(self._words + "\n")
            sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Reset the connections that a fault keeps open, and close the others."""
        for transport in list(open_connections.values()):
            transport.abort()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End with status 0 on SIGTERM and SIGINT; uvicorn would raise them again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def application(arguments: argparse.Namespace, faults: Faults) -> Starlette:
    """The simulator as an ASGI application; raises BadFile when its state file cannot be used."""
    shop = Shop(faults, Clock(arguments.clock_file))
    webhooks = Webhooks(shop)
    api = Api(shop, Tokens(shop, arguments.key, arguments.secret), webhooks)
    witness = Witness(shop, api, faults.seed)
    if arguments.state is not None:
        keeping = Keeping(Records(arguments.state), shop, api.schedules, webhooks)
        keeping.restore(with_faults=arguments.faults is None)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK)
            witness.settle()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.ensure_future(tick())
        yield
        ticking.cancel()
        webhooks.stop()
        shop.save()

    return Starlette(
        routes=[*api.routes(), *witness.routes()], lifespan=lifespan, middleware=[Middleware(PathAsSent)],
        exception_handlers={HTTPException: refused, Exception: failed},
    )  # fmt: skip


def main() -> None:
    """Read the command line and serve."""
    arguments = _arguments()
    try:
        faults = _faults(arguments)
    except (OSError, ValueError) as error:
        sys.exit(f"simulator: faults cannot be read from {arguments.faults}: {error}")
    try:
        listener = _listen(arguments.host, arguments.port)
    except (OSError, OverflowError) as error:
        sys.exit(f"simulator: cannot listen on {arguments.host}:{arguments.port}: {error}")
    try:
        served = application(arguments, faults)
    except BadFile as error:
        sys.exit(f"simulator: {error}")
    config = uvicorn.Config(
        served, http=CuttableProtocol, access_log=False, log_level="error", lifespan="on", proxy_headers=False,
        server_header=False, ws="none",
        # Longer than clients keep connections, so that the client closes them first.
        timeout_keep_alive=75, timeout_graceful_shutdown=1,
    )  # fmt: skip
    if arguments.until_stdin_closes:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    words = f"PortOne simulator on http://{host}:{listener.getsockname()[1]}"
    SimulatorServer(config, None if arguments.quiet else words).run(sockets=[listener])


def _stop_when_stdin_closes() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _listen(host: str, port: int) -> socket.socket:
    # With an explicit protocol: only then asyncio sets TCP_NODELAY, which sends small answers at once.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(2048)
    return listener


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="again simulator", description="A stand-in for PortOne V1.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on (8765); 0 for any that is free")
    parser.add_argument(
        "--key",
        default=os.environ.get("SIMULATOR_KEY", "sim_key"),
        help="imp_key that is accepted (SIMULATOR_KEY, else sim_key)",
    )
    parser.add_argument(
        "--secret",
        default=os.environ.get("SIMULATOR_SECRET", "sim_secret"),
        help="imp_secret that is accepted (SIMULATOR_SECRET, else sim_secret)",
    )
    parser.add_argument("--faults", type=Path, help="a JSON file of faults; docs/reference/simulator.md")
    parser.add_argument("--seed", type=int, default=0, help="decides which calls a rate hits (0)")
    parser.add_argument(
        "--state", type=Path, help="a file that keeps cards, payments and the ledger; none unless given"
    )
    parser.add_argument(
        "--clock-file",
        type=Path,
        help="a file that holds the seconds to move the clock by, and that a shop may share",
    )
    parser.add_argument("--quiet", action="store_true", help="do not say where it listens")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def _faults(arguments: argparse.Namespace) -> Faults:
    if arguments.faults is None:
        return Faults(arguments.seed)
    try:
        return read_faults(json.loads(_decoded(arguments.faults.read_bytes())), arguments.seed)
    except OSError as error:
        raise BadFaults(f"{arguments.faults} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise BadFaults(f"{arguments.faults} is neither UTF-8 nor CP949, {where}; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadFaults(f"not JSON: {error}") from None


def _decoded(document: bytes) -> str:
    """A JSON document as text: UTF-8, UTF-16, or CP949, which Korean Windows writes."""
    try:
        return document.decode(json.detect_encoding(document))
    except UnicodeDecodeError:
        return document.decode("cp949")


if __name__ == "__main__":
    main()
