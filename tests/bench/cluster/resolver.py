"""The resolver of the lab: names of the cluster, made-up addresses for the world, and zones that it
passes on to whoever serves them. Told by one JSON argument:

    cluster  {name: address}; what else ends in cluster.local does not exist
    empty    zones in which nothing exists, such as a node's own that is a search path
    zones    {zone: address of its server}
    world    the network in which all other names have an address, three octets
"""

import asyncio
import json
import sys
import zlib
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset


def address_of(name: str, world: str) -> str:
    """The made-up address of an outside name."""
    return f"{world}.{zlib.crc32(name.encode()) % 100 + 100}"


class Resolver(asyncio.DatagramProtocol):
    """Answers over UDP."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told
        self._passing: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            query = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return
        name = str(query.question[0].name).rstrip(".").lower()
        for zone, server in self._told["zones"].items():
            if name == zone or name.endswith("." + zone):
                task = asyncio.ensure_future(self._pass_on(data, server, addr))
                self._passing.add(task)
                task.add_done_callback(self._passing.discard)
                return
        self._transport.sendto(self._answer(query, name), addr)

    def _answer(self, query: dns.message.Message, name: str) -> bytes:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        address = self._told["cluster"].get(name)
        if address is None and not name.endswith(("cluster.local", *self._told.get("empty", ()))):
            address = address_of(name, self._told["world"])
        if address is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif query.question[0].rdtype == 1:
            answer.answer.append(
                dns.rrset.from_text(query.question[0].name, 30, "IN", "A", address)
            )
        return answer.to_wire()

    async def _pass_on(self, data: bytes, server: str, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()

        class Upstream(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                if not answered.done():
                    answered.set_result(data)

        transport, _ = await loop.create_datagram_endpoint(Upstream, remote_addr=(server, 53))
        try:
            transport.sendto(data)
            self._transport.sendto(await asyncio.wait_for(answered, 10), addr)
        except (OSError, TimeoutError):
            pass
        finally:
            transport.close()


async def main(told: dict[str, Any]) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Resolver(told), local_addr=("0.0.0.0", 53))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
