"""Runs the reference SniTun server (snitun from PyPI) as a peer for our tests and benchmark.

Only the public API of snitun is used. Events go to stdout, one JSON object a line; commands come from stdin, one a line:

    wait NAME     answers {"event": "peer", "hostname": NAME} once an agent serves that name
    gone NAME     answers {"event": "gone", "hostname": NAME} once none does
    peers         answers {"event": "peers", "count": N}
    stop          ends the process, as the end of stdin and SIGTERM do

The first line is {"event": "ready", "visitors": PORT, "agents": PORT, "pid": PID}. Fernet keys come from SNITUN_FERNET_KEYS,
comma-separated, newest first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys

from snitun.server.run import SniTunServer, SniTunServerSingle

PORT_ATTEMPTS = 10
POLL_S = 0.01


def emit(**event: object) -> None:
    """Writes one event."""
    print(json.dumps(event), flush=True)


def free_port(host: str) -> int:
    """A port that is free now; snitun takes port 0 for "the default port"."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


async def start(args: argparse.Namespace, keys: list[str]) -> tuple[object, int, int]:
    """Starts the server; answers it with the ports of visitors and of agents."""
    hosts: list[str] = args.host or ["127.0.0.1"]
    options = {"throttling": args.throttling, "proxy_protocol": args.proxy_protocol}
    for attempt in range(PORT_ATTEMPTS):
        visitors = args.port or free_port(hosts[0])
        try:
            if args.ports == "one":
                server = SniTunServerSingle(keys, host=hosts, port=visitors, **options)
                await server.start()
                return server, visitors, visitors
            agents = args.agent_port or free_port(hosts[0])
            server = SniTunServer(
                keys, sni_host=hosts, sni_port=visitors, peer_host=hosts, peer_port=agents, **options
            )
            done, _ = await server.start()
            for task in done:
                task.result()
            return server, visitors, agents
        except OSError:
            # Somebody took the port in between.
            if args.port or attempt == PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def until_peer(server: object, name: str, available: bool) -> None:
    """Waits until an agent serves `name`, or until none does."""
    while server.peers.peer_available(name) != available:
        await asyncio.sleep(POLL_S)
    emit(event="peer" if available else "gone", hostname=name)


async def commands(server: object) -> None:
    """Follows stdin to its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()
    while line := (await reader.readline()).decode().strip():
        verb, _, name = line.partition(" ")
        if verb == "stop":
            break
        if verb == "peers":
            emit(event="peers", count=server.peers.connections)
        elif verb in ("wait", "gone"):
            tasks.add(asyncio.create_task(until_peer(server, name, verb == "wait")))


async def main() -> None:
    """Runs until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", choices=["one", "two"], default="one")
    parser.add_argument("--host", action="append")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--agent-port", type=int, default=0)
    parser.add_argument("--throttling", type=int)
    parser.add_argument("--proxy-protocol", action="store_true")
    parser.add_argument("--log-level", default="CRITICAL")
    args = parser.parse_args()
    logging.basicConfig(level=args.log_level, stream=sys.stderr)

    server, visitors, agents = await start(args, os.environ["SNITUN_FERNET_KEYS"].split(","))
    follow = asyncio.create_task(commands(server))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, follow.cancel)
    emit(event="ready", visitors=visitors, agents=agents, pid=os.getpid())
    try:
        await follow
    except asyncio.CancelledError:
        pass


asyncio.run(main())
