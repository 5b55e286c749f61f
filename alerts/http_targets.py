"""Where may be sent: which URLs, and which of the addresses behind a name.

A configuration, a reload of it or a name server must not be able to point sidelong at what only
its own network can reach. So whatever is not on the public Internet is refused unless it is
permitted, and it is the address that is judged, after every translation of names and notations.
Sources: RFC 6890 (special addresses), RFC 6598 (carrier-grade NAT), RFC 6052 (NAT64).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from sidelong.errors import ConfigError

__all__ = ["Address", "Permission", "Place", "embedded", "place"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, OpenStack and most others
        "169.254.170.2",  # credentials of AWS containers
        "169.254.170.23",  # and of EKS pods
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google, IPv6
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure's host, at an address that looks public
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, taken apart. Its repr and `shown` hold neither path nor credentials."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    """What is asked for: path and query."""
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The URL as far as it is no secret: the path of a webhook often is one."""
        return f"{self.scheme}://{self.authority}" + ("/" if self.target == "/" else "/…")

    @property
    def whole(self) -> str:
        """The URL as a proxy is asked for it."""
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """Host and port as in a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the URL must not be shown, where an answer or an error repeats it."""
        if self.target == "/":
            parts = []
        else:
            path, _, query = self.target.partition("?")
            values = [pair.partition("=")[2] for pair in query.split("&")]
            pieces = [piece for piece in path.split("/") if len(piece) >= 8]
            parts = [self.target, path, query, *pieces, *values]
        decoded = [unquote(part) for part in parts]
        return tuple(
            part
            for part in (*parts, *decoded, *(self.credentials or ()))
            if len(part.strip("/")) > 1
        )


def place(url: str, *, allow_http: bool = False) -> Place:
    """The parts of `url`.

    Errors: ConfigError when it is no URL of https (or http, if allowed); without its secrets.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        ascii_host = host.rstrip(".").encode("idna" if not host.isascii() else "ascii").decode()
    except ValueError:  # UnicodeError is one; no cause, for it would show the URL
        raise ConfigError(
            "a receiver's URL cannot be read", hint="write it as https://host/path"
        ) from None
    if parts.scheme not in ("https", "http") or not ascii_host:
        raise ConfigError(
            f"a receiver's URL begins with {parts.scheme or 'no scheme'}:// and names"
            f" {'the host ' + ascii_host if ascii_host else 'no host'}",
            hint="write it as https://host/path",
        )
    if any(not "!" <= character <= "~" for character in ascii_host + parts.path + parts.query):
        raise ConfigError(
            f"the URL of {parts.scheme}://{ascii_host!r} holds characters that no URL holds",
            hint="write them with %, as in %20",
        )
    if parts.scheme == "http" and not allow_http:
        raise ConfigError(
            f"http://{ascii_host}/… would send alerts and tokens unencrypted",
            hint="use https, or set allow_http = true",
        )
    return Place(
        scheme=parts.scheme,
        host=ascii_host.lower(),
        port=port or (443 if parts.scheme == "https" else 80),
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        credentials=(unquote(parts.username), unquote(parts.password or ""))
        if parts.username is not None
        else None,
    )


class Permission:
    """What besides the public Internet may be reached: networks, addresses and names.

    A network permits the addresses in it, whatever name led there. A name (`*.svc` for all that end
    so) permits private and loopback addresses behind it. Metadata services, which give credentials
    to whoever asks, are permitted by nothing but their very address.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._networks: list[_Network] = []
        self._names: list[str] = []
        for entry in allowed:
            text = entry.strip().lower()
            if "/" in text or ":" in text or text.replace(".", "").isdigit():
                try:
                    self._networks.append(ipaddress.ip_network(text))
                except ValueError as error:
                    raise ConfigError(
                        f"allow_private has {entry!r}, which is no network: {error}",
                        hint='networks are written "10.0.0.0/8", addresses "10.1.2.3"',
                    ) from error
            else:
                self._names.append(text.rstrip("."))

    def refusal(self, host: str, address: Address) -> str | None:
        """Why `address`, to which `host` led, may not be connected to; None when it may."""
        for judged in embedded(address):
            kind = _kind(judged)
            if kind and not self._permits(host, judged, kind):
                return f"{address} is {kind}"
        return None

    def _permits(self, host: str, address: Address, kind: str) -> bool:
        if address in _METADATA:
            return any(net.num_addresses == 1 and address in net for net in self._networks)
        if any(address in net for net in self._networks):
            return True
        return kind in ("private", "loopback") and any(
            self._named(host, name) for name in self._names
        )

    @staticmethod
    def _named(host: str, name: str) -> bool:
        return host.endswith(name[1:]) if name.startswith("*.") else host == name


def embedded(address: Address) -> tuple[Address, ...]:
    """The address or addresses that are really reached: an IPv6 one may carry an IPv4 one.

    >>> embedded(ipaddress.ip_address("::ffff:127.0.0.1"))
    (IPv4Address('127.0.0.1'),)
    """
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    inner = [address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *(found for found in inner if found))


def _kind(address: Address) -> str | None:
    """What makes an address special; None for one of the public Internet."""
    if address in _METADATA:
        return "a metadata service"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    if not address.is_global or site_local or address in _NAT64_LOCAL:
        reserved = address.is_reserved and not site_local
        return "reserved" if reserved else "private"
    return None
