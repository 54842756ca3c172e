"""Runs the reference SniTun client (snitun from PyPI) as a peer for our tests and benchmark.

Only the public API of snitun is used. One process may hold several sessions; each forwards to a TCP endpoint with
snitun's own EndpointConnector. Events go to stdout, one JSON object a line; commands come from stdin, one JSON object a line:

    {"connect": {"id", "edge": [HOST, PORT], "endpoint": [HOST, PORT], "token", "aes_key", "aes_iv" (hex),
                 "protocol_version", "cipher", "allow"?: [CIDR], "block"?: [CIDR], "throttling"?: N}}
                      answers {"event": "connected", "id"} or {"event": "failed", "id", "error"};
                      {"event": "disconnected", "id"} follows when the session ends
    {"disconnect": ID}
    {"stop": true}    ends the process, as the end of stdin and SIGTERM do

The first line is {"event": "ready", "pid": PID}.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys

from snitun.client.access_list import AccessList, AccessListAction
from snitun.client.client_peer import ClientPeer
from snitun.client.connector import EndpointConnector
from snitun.exceptions import SniTunError

LINE_LIMIT = 1 << 20


def emit(**event: object) -> None:
    """Writes one event."""
    print(json.dumps(event), flush=True)


def access_list(order: dict) -> AccessList | None:
    """The access list that an order asks for."""
    for member, action in (("allow", AccessListAction.ALLOW), ("block", AccessListAction.BLOCK)):
        if member in order:
            access = AccessList(default_action=action)
            for network in order[member]:
                access.add(network)
            return access
    return None


async def hold(peer: ClientPeer, order: dict) -> None:
    """Connects one session and waits for its end."""
    ident = order["id"]
    connector = EndpointConnector(*order["endpoint"], access_list=access_list(order))
    try:
        await peer.start(
            connector,
            order["token"].encode(),
            bytes.fromhex(order["aes_key"]),
            bytes.fromhex(order["aes_iv"]),
            throttling=order.get("throttling"),
            protocol_version=order["protocol_version"],
            cipher=order["cipher"],
        )
    except (SniTunError, OSError) as error:
        emit(event="failed", id=ident, error=str(error))
        return
    emit(event="connected", id=ident)
    await peer.wait()
    emit(event="disconnected", id=ident)


async def commands() -> None:
    """Follows stdin to its end."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    peers: dict[str, ClientPeer] = {}
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        order = json.loads(line)
        if "stop" in order:
            break
        if "connect" in order:
            order = order["connect"]
            peers[order["id"]] = peer = ClientPeer(*order["edge"])
            tasks.add(asyncio.create_task(hold(peer, order)))
        elif "disconnect" in order:
            tasks.add(asyncio.create_task(peers.pop(order["disconnect"]).stop()))


async def main() -> None:
    """Runs until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log-level", default="CRITICAL")
    logging.basicConfig(level=parser.parse_args().log_level, stream=sys.stderr)
    follow = asyncio.create_task(commands())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, follow.cancel)
    emit(event="ready", pid=os.getpid())
    try:
        await follow
    except asyncio.CancelledError:
        pass


asyncio.run(main())
