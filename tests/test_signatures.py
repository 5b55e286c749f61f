"""Signatures of webhooks, against the reference library of Standard Webhooks and by hand."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from sidelong.alerts.signatures import signed_headers, signing_key
from sidelong.errors import ConfigError

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
BODY = '{"summary":"näme"}'.encode()


def keys(*secrets: str) -> list[bytes]:
    return [signing_key(secret, "the variable X") for secret in secrets]


def now() -> datetime:
    return datetime.now(UTC)


def test_the_reference_library_verifies_ours() -> None:
    headers = signed_headers("msg_1", BODY, keys(SECRET), sent_at=now())
    assert Webhook(SECRET).verify(BODY, headers) == {"summary": "näme"}


def test_a_signature_is_an_hmac_over_id_time_and_body() -> None:
    headers = signed_headers("a.b", BODY, keys(SECRET), sent_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert headers["webhook-timestamp"] == "1767225600"
    wanted = hmac.new(bytes(range(32)), b"a.b.1767225600." + BODY, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(wanted).decode()}"


def test_while_a_key_is_replaced_both_verify() -> None:
    headers = signed_headers("msg_1", BODY, keys(SECRET, OTHER), sent_at=now())
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (SECRET, OTHER):
        Webhook(secret).verify(BODY, headers)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_nothing_can_be_changed_on_the_way(name: str) -> None:
    headers = signed_headers("msg_1", BODY, keys(SECRET), sent_at=now())
    changed = {
        "webhook-id": "msg_2",
        "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1),
        "webhook-signature": signed_headers("msg_1", BODY, keys(OTHER), sent_at=now())[
            "webhook-signature"
        ],
    }
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, {**headers, name: changed[name]})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + b" ", headers)


def test_without_a_secret_there_is_an_id_and_no_signature() -> None:
    headers = signed_headers("msg_1", BODY, [], sent_at=now())
    assert set(headers) == {"webhook-id", "webhook-timestamp"}


def test_a_secret_may_lack_prefix_and_padding() -> None:
    assert keys(SECRET.removeprefix("whsec_").rstrip("=") + "\n") == keys(SECRET)


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("whsec_not*base64", "the signing secret in the variable X is not Base64"),
        ("whsec_" + base64.b64encode(b"short").decode(), "has 5 bytes"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "has 65 bytes"),
        ("näh", "is not Base64"),
    ],
)
def test_a_wrong_secret_is_refused_without_being_shown(secret: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signing_key(secret, "the variable X")
    assert problem in caught.value.problem
    assert secret.removeprefix("whsec_") not in str(caught.value)
    assert caught.value.__cause__ is None
