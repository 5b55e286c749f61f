"""The receiver apprise: a title and a text for any service that the library Apprise knows.

Apprise makes the connection, so what our own HTTP client guarantees does not hold here: neither
which addresses may be reached, nor how large an answer may be. Its URLs hold credentials, and it
takes no other way, so they are always secrets.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Final

from sidelong.alerts.format_json import plain_labels
from sidelong.alerts.incident import Severity
from sidelong.alerts.message_text import facts, group_title, title, worst
from sidelong.alerts.plain_text import fitted, harmless, unmentioning
from sidelong.alerts.receiver import Message, Sent, Undelivered
from sidelong.alerts.receiver_settings import AppriseSettings
from sidelong.alerts.receiver_text import Wording, heading, labels_of, noted
from sidelong.alerts.templates import ESCAPES
from sidelong.errors import ConfigError
from sidelong.ingest.secret import masked, shortened

__all__ = ["AppriseReceiver", "apprise_text"]

_TITLE: Final = 250
_TEXT: Final = 4_000
_EVENTS: Final = 10
_KINDS: Final[dict[Severity, str]] = {
    "info": "info",
    "low": "info",
    "medium": "warning",
    "high": "warning",
    "critical": "failure",
}
_LINE_ENDS: Final = {"text": "\n", "markdown": "  \n", "html": "<br/>\n"}


class AppriseReceiver:
    """A service of Apprise.

    Errors: ConfigError when Apprise is not installed, or the templates are wrong.
    """

    def __init__(self, settings: AppriseSettings) -> None:
        try:
            import apprise
        except ImportError as error:
            raise ConfigError(
                f"receiver {settings.name} needs the library Apprise, which is not installed",
                hint="pip install 'sidelong[apprise]'",
            ) from error
        self.name = settings.name
        self._settings = settings
        self._wording = Wording.of(
            settings.name, settings.title, settings.text, format=settings.format
        )
        self._apprise = apprise
        # Its plugins are loaded at the first URL; some warn of what they import.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            apprise.Apprise.instantiate("json://localhost")
        # What it logs may hold parts of the URL.
        logging.getLogger("apprise").addFilter(_SILENT)

    def send(self, message: Message) -> Sent:
        """See Receiver."""
        apprise = self._apprise
        url = self._settings.url.reveal().strip()
        headline, text, notes = self._wording.render(message)
        headline = heading(message, headline)
        ours_title, ours_text = apprise_text(message, self._settings.format)
        asset = apprise.AppriseAsset(
            allow_templates=False,
            async_mode=False,
            storage_mode="memory",
            service_timeout=self._settings.seconds,
            app_id="sidelong",
            app_desc="sidelong",
            interpret_escapes=False,
            interpret_emojis=False,
            http_redirects=False,
            plugin_paths=[],
        )
        service = apprise.Apprise(asset=asset)
        if not service.add(url):
            raise ConfigError(
                f"what is in {self._settings.url} is no URL of Apprise",
                hint="see Apprise's list of services for how to write it",
            )
        try:
            taken = service.notify(
                title=fitted(headline, _TITLE, unmentioning) if headline else ours_title,
                body=text[:_TEXT] if text else ours_text,
                notify_type=_KINDS[worst(message.events).severity],
                body_format=self._settings.format,
                interpret_escapes=False,
            )
        except Exception as error:  # a plugin may raise whatever its protocol does
            why = shortened(masked(str(error), [url]))
            raise Undelivered(f"Apprise failed: {why}") from None
        if not taken:
            raise Undelivered("Apprise's service did not take it")
        return noted(Sent("taken by Apprise"), notes)


def apprise_text(message: Message, format: str) -> tuple[str, str]:
    """Title and text of ours, the text escaped for its format."""
    shown = [harmless(event) for event in message.events]
    escape: Callable[[str], str] = ESCAPES[format]
    lines: list[str] = []
    for event in shown[:_EVENTS]:
        lines += [title(event)] if len(shown) > 1 else []
        lines += [event.summary, *(f"{name}: {value}" for name, value in facts(event)), ""]
    lines += [f"and {len(shown) - _EVENTS} more"] if len(shown) > _EVENTS else []
    lines += [f"{name}: {value}" for name, value in plain_labels(labels_of(message)).items()]
    body = ""
    for line in lines:
        told = fitted(line, 1_000, lambda text: unmentioning(escape(text))) + _LINE_ENDS[format]
        if len(body) + len(told) > _TEXT:
            break
        body += told
    return fitted(group_title(shown), _TITLE, unmentioning), body.strip()


class _Silent(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False


_SILENT: Final = _Silent()
