"""What a pod of the lab does all day: serves, calls, asks DNS. Told by one JSON argument:

serve    [port, ...]: answers HTTP there; SIGUSR1 closes the ports, SIGUSR2 opens them again
calls    [{to, port, path, every}]: GETs, every so many seconds give or take half; `to` is an
         address or a name, or several of which one is drawn each time
lookups  [{name, every, new}]: asks DNS; `{}` in a name becomes something new each time: 16
         letters, 48 for "bulk", or an "address"
dns      the address of the resolver
search   suffixes that are tried first for a name of fewer than five dots, as in Kubernetes
seed     of all chance
"""

import asyncio
import json
import random
import signal
import sys
from contextlib import suppress
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

_NDOTS = 5
_BACKLOG = 1024  # one may stand for hundreds of pods
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 512\r\nconnection: close\r\n\r\n" + b"x" * 512


async def serve(ports: list[int]) -> None:
    """Serve HTTP on the ports until told to stop, and again until told to go on."""
    loop = asyncio.get_running_loop()
    stopped, opened = asyncio.Event(), asyncio.Event()
    opened.set()

    def close() -> None:
        opened.clear()
        stopped.set()

    def reopen() -> None:
        stopped.clear()
        opened.set()

    loop.add_signal_handler(signal.SIGUSR1, close)
    loop.add_signal_handler(signal.SIGUSR2, reopen)
    while True:
        await opened.wait()
        servers = [
            await asyncio.start_server(answer, "0.0.0.0", port, backlog=_BACKLOG) for port in ports
        ]
        await stopped.wait()
        for server in servers:
            server.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(_ANSWER)
        await writer.drain()
    writer.close()


async def call(what: dict[str, Any], told: dict[str, Any], chance: random.Random) -> None:
    """GET again and again."""
    targets = what["to"] if isinstance(what["to"], list) else [what["to"]]
    await asyncio.sleep(chance.uniform(0, what["every"]))
    while True:
        target = chance.choice(targets)
        with suppress(OSError, TimeoutError, dns.exception.DNSException):
            address = await resolved(target, told)
            if address:
                await get(address, what["port"], what.get("path", "/"))
        await asyncio.sleep(what["every"] * chance.uniform(0.5, 1.5))


async def get(address: str, port: int, path: str) -> None:
    """One GET on a connection of its own."""
    async with asyncio.timeout(3):
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
        await reader.read(-1)
        writer.close()


async def resolved(name: str, told: dict[str, Any]) -> str | None:
    """The address of a name, looked up as a stub resolver in Kubernetes does."""
    if name.replace(".", "").isdigit():
        return name
    tried = [name]
    if name.count(".") < _NDOTS:
        tried = [f"{name}.{suffix}" for suffix in told.get("search", [])] + tried
    for one in tried:
        for kind in ("A", "AAAA"):
            found = await asked(one, kind, told["dns"])
            if kind == "A" and found:
                await asked(one, "AAAA", told["dns"])
                return found
    return None


async def asked(name: str, kind: str, server: str) -> str | None:
    """The first address that a server gives for a name."""
    query = dns.message.make_query(name, kind)
    answer = await dns.asyncquery.udp(query, server, timeout=2)
    for records in answer.answer:
        for record in records:
            if record.rdtype == dns.rdatatype.A:
                return str(record.address)
    return None


async def look_up(what: dict[str, Any], told: dict[str, Any], chance: random.Random) -> None:
    """Ask DNS again and again."""
    number = chance.randrange(1 << 32)
    await asyncio.sleep(chance.uniform(0, what["every"]))
    while True:
        number += chance.randrange(1, 1 << 20)
        with suppress(OSError, TimeoutError, dns.exception.DNSException):
            await asked(
                what["name"].format(_said(what, number)), what.get("type", "A"), told["dns"]
            )
        await asyncio.sleep(what["every"] * chance.uniform(0.5, 1.5))


def _said(what: dict[str, Any], number: int) -> str:
    if what.get("new") == "address":
        return ".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24))
    text = f"{number * 0x9E3779B97F4A7C15 % (1 << 64):016x}"
    return text * 3 if what.get("new") == "bulk" else text


async def main(told: dict[str, Any]) -> None:
    """All of it at once, until killed."""
    chance = random.Random(told.get("seed", 0))
    work = [serve(told["serve"])] if told.get("serve") else []
    work += [call(one, told, chance) for one in told.get("calls", [])]
    work += [look_up(one, told, chance) for one in told.get("lookups", [])]
    await asyncio.gather(*work, asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
