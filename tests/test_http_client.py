"""HTTP to receivers: to permitted places only, bounded in every way, and no secret in any error."""

import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from web_server import Request, WebServer, serving, trickling, tunnelling

from sidelong.alerts.http_client import HttpClient, HttpSettings, retry_after
from sidelong.alerts.http_targets import Permission, place
from sidelong.alerts.receiver import Undelivered
from sidelong.errors import ConfigError
from sidelong.ingest.secret import Secret, masked, shortened

LOOPBACK = ("127.0.0.1",)
TOKEN = "tok-5f2a9c/0=="


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def plain() -> Iterator[WebServer]:
    with serving() as server:
        yield server


@pytest.fixture
def encrypted(authority: trustme.CA) -> Iterator[WebServer]:
    with serving(authority=authority) as server:
        yield server


def client(
    *, resolve: Callable[[str, int], list[str]] | None = None, **settings: object
) -> HttpClient:
    given = {"allow_http": True, "allow_private": LOOPBACK, **settings}
    return HttpClient(HttpSettings(**given), resolve=resolve)  # type: ignore[arg-type]


def refused(sender: HttpClient, url: str, headers: dict[str, str] | None = None) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        sender.post(url, b"{}", headers or {})
    return caught.value


def answering(
    status: int, headers: dict[str, str] | None = None, body: bytes = b""
) -> Callable[[Request], tuple[int, dict[str, str], bytes]]:
    return lambda _: (status, headers or {}, body)


# What arrives


def test_a_request_arrives_as_it_was_meant(plain: WebServer) -> None:
    answer = client().post(
        f"http://127.0.0.1:{plain.port}/hook?x=1", b'{"a":1}', {"Content-Type": "application/json"}
    )
    (got,) = plain.requests
    assert (got.method, got.target, got.body) == ("POST", "/hook?x=1", b'{"a":1}')
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{plain.port}"
    assert got.headers["user-agent"] == "sidelong"
    assert (answer.status, answer.body, answer.sent.status, answer.sent.answer) == (
        (200, b"ok", "200 OK", "ok")
    )


def test_the_certificate_and_the_name_are_those_of_the_url_not_of_the_address(
    encrypted: WebServer, ca: str
) -> None:
    sender = client(ca=ca, resolve=lambda *_: ["127.0.0.1"])
    sender.post(f"https://hooks.example:{encrypted.port}/a", b"", {})
    assert encrypted.requests[0].headers["host"] == f"hooks.example:{encrypted.port}"


def test_a_certificate_for_another_name_is_refused(encrypted: WebServer, ca: str) -> None:
    sender = client(ca=ca, resolve=lambda *_: ["127.0.0.1"])
    error = refused(sender, f"https://other.example:{encrypted.port}/")
    assert "certificate is not trusted" in error.why
    assert not error.permanent
    assert encrypted.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(encrypted: WebServer) -> None:
    assert "certificate" in refused(client(), f"https://127.0.0.1:{encrypted.port}/").why


def test_a_renewed_authority_is_trusted_without_a_restart(
    encrypted: WebServer, ca: str, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    sender = client(ca=str(path))
    url = f"https://127.0.0.1:{encrypted.port}/"
    refused(sender, url)
    path.write_bytes(Path(ca).read_bytes())
    os.utime(path, (0, 0))
    assert sender.post(url, b"", {}).status == 200


def test_an_authority_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/absent/ca\.pem"):
        client(ca="/absent/ca.pem").post("https://127.0.0.1:1/", b"", {})


def test_credentials_in_a_url_become_a_header_and_stay_out_of_the_target(plain: WebServer) -> None:
    client().post(f"http://ann:s%40fe@127.0.0.1:{plain.port}/a", b"", {})
    (got,) = plain.requests
    assert got.headers["authorization"] == "Basic YW5uOnNAZmU="
    assert got.target == "/a"


def test_the_second_address_is_tried_when_the_first_is_dead(plain: WebServer) -> None:
    sender = client(allow_private=("127.0.0.0/8", "::1"), resolve=lambda *_: ["::1", "127.0.0.1"])
    assert sender.post(f"http://hooks.example:{plain.port}/", b"", {}).status == 200


def test_a_proxy_in_the_environment_is_not_used(
    plain: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert client().post(f"http://127.0.0.1:{plain.port}/", b"", {}).status == 200


def test_a_configured_proxy_is_asked_for_the_whole_url(plain: WebServer) -> None:
    def unknown(host: str, port: int) -> list[str]:
        if host != "127.0.0.1":
            raise OSError("no such name")
        return [host]

    sender = client(proxy=f"http://127.0.0.1:{plain.port}", resolve=unknown)
    sender.post("http://hooks.example/a", b"", {})
    assert plain.requests[0].target == "http://hooks.example/a"
    assert plain.requests[0].headers["host"] == "hooks.example"


def test_a_proxy_is_no_way_around_the_permission(plain: WebServer) -> None:
    sender = client(proxy=f"http://127.0.0.1:{plain.port}")
    assert "metadata" in refused(sender, "http://169.254.169.254/latest").why
    assert plain.requests == []


def test_through_a_proxy_the_target_still_shows_its_certificate(
    encrypted: WebServer, ca: str
) -> None:
    asked: list[str] = []
    with tunnelling(encrypted.port, asked) as port:
        sender = client(
            ca=ca,
            proxy=f"http://127.0.0.1:{port}",
            resolve=lambda host, _: ["127.0.0.1" if host == "127.0.0.1" else "8.8.8.8"],
        )
        sender.post("https://hooks.example/a", b"{}", {"Authorization": f"Bearer {TOKEN}"})
    assert [line.split()[:2] for line in asked] == [["CONNECT", "hooks.example:443"]]
    assert encrypted.requests[0].target == "/a"


def test_a_proxy_that_refuses_the_tunnel_is_told_so(plain: WebServer) -> None:
    sender = client(
        proxy=f"http://127.0.0.1:{plain.port}",
        resolve=lambda host, _: ["127.0.0.1" if host == "127.0.0.1" else "8.8.8.8"],
    )
    assert "unnel" in refused(sender, "https://hooks.example/a").why


# What is answered


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_says_so(plain: WebServer, status: int) -> None:
    plain.answer = answering(status, {"Location": "http://169.254.169.254/latest/meta-data/"})
    error = refused(client(), f"http://127.0.0.1:{plain.port}/")
    assert error.permanent
    assert "redirect" in error.why
    assert len(plain.requests) == 1


@pytest.mark.parametrize(
    ("status", "permanent"),
    [(400, True), (401, True), (404, True), (410, True), (422, True), (408, False), (425, False),
     (429, False), (500, False), (502, False), (503, False)],
)  # fmt: skip
def test_only_what_can_never_succeed_is_permanent(
    plain: WebServer, status: int, permanent: bool
) -> None:
    plain.answer = answering(status, body=b"because")
    error = refused(client(), f"http://127.0.0.1:{plain.port}/")
    assert error.permanent is permanent
    assert str(status) in error.why
    assert error.why.endswith("because")


def test_retry_after_is_passed_on(plain: WebServer) -> None:
    plain.answer = answering(429, {"Retry-After": "17"})
    assert refused(client(), f"http://127.0.0.1:{plain.port}/").retry_after == 17.0


@pytest.mark.parametrize(
    "value",
    [None, "", "soon", "-3", "1e9", "1" * 400 + "x", "Thu, 99 Foo"],
)
def test_a_retry_after_that_says_nothing_is_none(value: str | None) -> None:
    assert retry_after(value, 0.0) is None


def test_a_retry_after_in_the_past_is_now() -> None:
    assert retry_after("Thu, 01 Jan 1970 00:01:30 GMT", 1000.0) == 0.0


@given(st.text() | st.from_regex(r"(Mon, )?\d{1,3} Jan \d{1,6} [\d:]{1,9} ([+-]\d{1,9}|GMT)?"))
def test_no_retry_after_of_a_server_is_an_error(value: str) -> None:
    seconds = retry_after(value, 0.0)
    assert seconds is None or 0.0 <= seconds < float("inf")


def test_an_answer_is_read_to_its_bound_only(plain: WebServer) -> None:
    plain.answer = answering(200, body=b"x" * 1_000_000)
    answer = client(answer_bytes=1000).post(f"http://127.0.0.1:{plain.port}/", b"", {})
    assert len(answer.body) == 1000
    assert len(answer.shown) == 200


def test_an_answer_is_not_unpacked(plain: WebServer) -> None:
    plain.answer = answering(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b bomb")
    assert client().post(f"http://127.0.0.1:{plain.port}/", b"", {}).body == b"\x1f\x8b bomb"


def test_an_answer_cannot_write_to_the_terminal(plain: WebServer) -> None:
    plain.answer = answering(400, body="no\x1b[2J\r\nway\u202e!".encode())
    why = refused(client(), f"http://127.0.0.1:{plain.port}/").why
    assert why.endswith("no\ufffd[2J way\ufffd!")


# Time


@pytest.mark.parametrize(
    "beginning",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["status", "header", "continue"],
)
def test_a_server_that_trickles_meets_the_total_time_out(beginning: bytes) -> None:
    with trickling(beginning, b"a", threading.Event()) as port:
        sender = client(total_seconds=0.3, read_seconds=5.0)
        assert "within 0.3 s" in refused(sender, f"http://127.0.0.1:{port}/").why


def test_a_handshake_that_trickles_meets_the_total_time_out() -> None:
    with trickling(b"\x16\x03\x03\x40\x00", b"\x02", threading.Event()) as port:
        assert (
            "within 0.3 s" in refused(client(total_seconds=0.3), f"https://127.0.0.1:{port}/").why
        )


def test_a_body_that_trickles_does_not_undo_a_delivery() -> None:
    with trickling(
        b"HTTP/1.1 202 Taken\r\nContent-Length: 99\r\n\r\n", b"a", threading.Event()
    ) as port:
        sent = client(total_seconds=0.3).post(f"http://127.0.0.1:{port}/", b"", {}).sent
    assert sent.status == "202 Taken"


def test_a_silent_server_meets_the_read_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        error = refused(client(read_seconds=0.1), f"http://127.0.0.1:{port}/")
    assert "timed out" in error.why
    assert not error.permanent


def test_nobody_listening_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    error = refused(client(), f"http://127.0.0.1:{port}/secret-path")
    assert error.why == f"POST http://127.0.0.1:{port}/…: Connection refused"
    assert not error.permanent


def test_a_resolver_that_hangs_meets_the_connect_time_out() -> None:
    release = threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        release.wait(10)
        return []

    error = refused(client(connect_seconds=0.05, resolve=hangs), "http://hooks.example/")
    release.set()
    assert "not resolved within 0.05 s" in error.why


# Where to


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.1.1", "0.0.0.0",
     "100.64.0.1", "100.100.100.200", "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.0.192",
     "169.254.169.254", "168.63.129.16", "::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fec0::1",
     "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
     "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::",
     "2002:a9fe:a9fe::1", "2001:db8::1"],
)  # fmt: skip
def test_what_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert Permission().refusal("hooks.example", ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808"])
def test_what_is_of_the_public_internet_is_permitted(address: str) -> None:
    assert Permission().refusal("hooks.example", ipaddress.ip_address(address)) is None


@pytest.mark.parametrize(
    ("allowed", "host", "address", "permitted"),
    [
        ("10.0.0.0/8", "x.example", "10.1.2.3", True),
        ("10.0.0.0/8", "x.example", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "x.example", "192.168.0.1", False),
        ("10.1.2.3", "x.example", "10.1.2.3", True),
        ("alertmanager.monitoring.svc", "alertmanager.monitoring.svc", "10.1.2.3", True),
        ("alertmanager.monitoring.svc", "x.alertmanager.monitoring.svc", "10.1.2.3", False),
        ("*.monitoring.svc", "alertmanager.monitoring.svc", "10.1.2.3", True),
        ("*.monitoring.svc", "evilmonitoring.svc", "10.1.2.3", False),
        ("localhost", "localhost", "127.0.0.1", True),
        ("localhost", "localhost", "169.254.169.254", False),
        ("x.example", "x.example", "169.254.1.1", False),
        ("0.0.0.0/0", "x.example", "169.254.1.1", True),
        ("0.0.0.0/0", "x.example", "169.254.169.254", False),
        ("::/0", "x.example", "fd00:ec2::254", False),
        ("169.254.169.254/32", "x.example", "169.254.169.254", True),
        ("::/0", "x.example", "64:ff9b::7f00:1", False),
    ],
)
def test_a_permission_goes_as_far_as_it_says(
    allowed: str, host: str, address: str, permitted: bool
) -> None:
    why = Permission((allowed,)).refusal(host, ipaddress.ip_address(address))
    assert (why is None) is permitted


def test_a_permission_that_is_no_network_is_named() -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0\.1/8"):
        Permission(("10.0.0.1/8",))


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "[::ffff:7f00:1]"]
)
def test_no_notation_of_an_address_gets_around_the_check(plain: WebServer, host: str) -> None:
    error = refused(client(allow_private=()), f"http://{host}:{plain.port}/")
    assert "may not be sent to" in error.why
    assert plain.requests == []


def test_the_address_that_was_judged_is_the_one_that_is_dialled(plain: WebServer) -> None:
    """A name server that answers a public address first and loopback next gains nothing."""
    answers = iter([["192.0.2.1"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    sender = client(
        allow_private=("192.0.2.0/24",), connect_seconds=0.2, total_seconds=1, resolve=rebinding
    )
    refused(sender, f"http://hooks.example:{plain.port}/")
    assert asked == ["hooks.example"]
    assert plain.requests == []


def test_of_several_addresses_only_the_permitted_are_dialled(plain: WebServer) -> None:
    sender = client(allow_private=LOOPBACK, resolve=lambda *_: ["169.254.169.254", "127.0.0.1"])
    sender.post(f"http://hooks.example:{plain.port}/", b"", {})
    assert len(plain.requests) == 1


def test_http_needs_to_be_allowed() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        HttpClient().post("http://hooks.example/x", b"", {})


def test_a_configuration_can_be_checked_without_a_network() -> None:
    HttpClient().check("https://hooks.example/x")
    with pytest.raises(ConfigError, match="loopback"):
        HttpClient().check("https://127.0.0.1/x")


@pytest.mark.parametrize(
    "url",
    ["", "hooks.example/x", "ftp://hooks.example/", "https:///x", "https://h:99999/", "https://[::1/",
     "https://h/a b", "https://h/\r\nX: y", "https://h/\N{SNOWMAN}", "https://a..\N{SNOWMAN}/"],
)  # fmt: skip
def test_what_is_no_url_is_an_error_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError):
        HttpClient().post(url, b"", {})


@given(st.text() | st.from_regex(r"https?://[^/]*(/.*)?"))
def test_any_other_text_is_an_error_of_the_configuration_at_most(url: str) -> None:
    try:
        parts = place(url, allow_http=True)
    except ConfigError:
        return
    assert parts.host.isascii()
    assert parts.target.isascii()
    assert not set(parts.host + parts.target) & set("\r\n\t \x00")
    assert not set(parts.host) & set("@/?#")


def test_a_name_is_sent_in_ascii() -> None:
    assert place("https://bücher.example./x").host == "xn--bcher-kva.example"


# What is not told


def test_no_error_shows_a_path_a_token_or_credentials(plain: WebServer) -> None:
    url = f"http://ann:pa55word@127.0.0.1:{plain.port}/services/T0001234/B0009876?token=quer1"
    echo = f"no {TOKEN} at /services/T0001234/B0009876, T0001234, quer1, ann, pa55word, x-secret-1"
    plain.answer = answering(400, body=echo.encode())
    with pytest.raises(Undelivered) as caught:
        client().post(url, b"", {"Authorization": f"Bearer {TOKEN}"}, secrets=["x-secret-1"])
    assert caught.value.__cause__ is None
    assert caught.value.why == (
        f"POST http://127.0.0.1:{plain.port}/… answered 400 Bad Request: "
        "no *** at ***, ***, ***, ***, ***, ***"
    )


def test_an_answer_that_is_shown_hides_the_same(plain: WebServer) -> None:
    plain.answer = answering(200, body=TOKEN.encode())
    answer = client().post(f"http://127.0.0.1:{plain.port}/", b"", {"X-Api-Key": TOKEN})
    assert answer.shown == "***"
    assert TOKEN not in repr(answer)


def test_a_place_prints_without_its_path_and_credentials() -> None:
    shown = repr(place("https://ann:pa55word@hooks.example/services/T0001234"))
    assert "hooks.example" in shown
    assert not any(secret in shown for secret in ("ann", "pa55word", "T0001234"))


@pytest.mark.parametrize(
    "value", [f"{TOKEN}\n", f"{TOKEN}\r\nX-Evil: 1", f"{TOKEN}\x00", "\N{SNOWMAN}"]
)
def test_a_header_that_cannot_be_sent_is_told_by_name_not_by_value(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        client().post("http://127.0.0.1:1/", b"", {"Authorization": value})
    assert "'Authorization'" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://h:tok-5f2a9c/", "https://u:tok-5f2a9c@[::1/", "ftp://h/tok-5f2a9c"]
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpClient().post(url, b"", {})
    assert "tok-5f2a9c" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# Secrets


def test_a_secret_is_read_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOOK", "one")
    (tmp_path / "hook").write_text("two\n")
    assert Secret(env="HOOK").reveal() == "one"
    assert Secret(file=str(tmp_path / "hook")).reveal() == "two"
    monkeypatch.setenv("HOOK", "three")
    assert Secret(env="HOOK").reveal() == "three"


def test_a_secret_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(ConfigError, match="the variable HOOK, which is not set"):
        Secret(env="HOOK").reveal()
    with pytest.raises(ConfigError, match="the file /absent/hook, which cannot be read"):
        Secret(file="/absent/hook").reveal()


@pytest.mark.parametrize(
    ("content", "why"), [(b" \n", "empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "bytes")]
)
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "hook"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        Secret(file=str(path)).reveal()


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "b"}])
def test_a_secret_is_in_one_place(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either"):
        Secret(**given)


def test_a_secret_is_masked_in_every_form() -> None:
    assert masked('a "b/c" YSAiYi9jIg== a%20%22b%2Fc%22 a \\"b/c\\"', ['a "b/c"']) == " ".join(
        ["***"] * 4
    )


def test_what_is_shown_is_one_printable_line() -> None:
    assert shortened("a\n\tb\x07\u2066c" + "d" * 300, 10) == "a b��cddd…"


def test_tls_is_never_older_than_1_2() -> None:
    assert client()._context().minimum_version == ssl.TLSVersion.TLSv1_2
