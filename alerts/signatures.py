"""Signatures of webhooks, by which a receiver knows that a request is ours, whole and recent.

Source: Standard Webhooks specification 1.0: headers webhook-id, webhook-timestamp and
webhook-signature, HMAC-SHA256 (v1) over "id.timestamp.body" with a secret of 24 to 64 bytes.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from sidelong.errors import ConfigError

__all__ = ["signed_headers", "signing_key"]

_PREFIX: Final = "whsec_"
_SHORTEST: Final = 24
_LONGEST: Final = 64


def signing_key(secret: str, where: str) -> bytes:
    """The key in `secret`: "whsec_" and Base64. where: what to call the secret in an error.

    Errors: ConfigError, which does not show it.
    """
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(
            f"the signing secret in {where} is not Base64",
            hint="make one with: echo whsec_$(openssl rand -base64 32)",
        ) from None  # for the cause might show it
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise ConfigError(
            f"the signing secret in {where} has {len(key)} bytes",
            hint=f"it takes {_SHORTEST} to {_LONGEST}: echo whsec_$(openssl rand -base64 32)",
        )
    return key


def signed_headers(
    message_id: str, body: bytes, keys: Sequence[bytes], *, sent_at: datetime
) -> dict[str, str]:
    """The headers for `body`, signed with each of `keys`: while one replaces another, both.

    Without a key there is no signature, but still the id by which a repetition is known.
    """
    moment = sent_at.astimezone(UTC).replace(microsecond=0)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(moment.timestamp()))}
    if keys:
        text = body.decode()
        headers["webhook-signature"] = " ".join(
            Webhook(key).sign(message_id, moment, text) for key in keys
        )
    return headers
