"""A receiver's own words: templates for title and text, and ours where a template fails."""

from collections.abc import Mapping
from dataclasses import dataclass

from sidelong.alerts.message_text import group_title
from sidelong.alerts.plain_text import harmless
from sidelong.alerts.receiver import Message, Sent
from sidelong.alerts.templates import Rendering, Template

__all__ = ["Wording", "heading", "labels_of", "noted"]


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates for a message's title and text; None where ours is said."""

    title: Template | None = None
    text: Template | None = None

    @classmethod
    def of(
        cls, name: str, title: str | None, text: str | None, *, format: str, heading: str = "text"
    ) -> "Wording":
        """From the settings of receiver `name`; title is escaped as `heading`, text as `format`.

        Errors: ConfigError.
        """
        return cls(
            None if title is None else Template(title, name=f"{name}.title", format=heading),
            None if text is None else Template(text, name=f"{name}.text", format=format),
        )

    def render(self, message: Message) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Title and text, None where ours is to be said, and what went wrong."""
        problems: list[str] = []
        told: list[str | None] = []
        for template in (self.title, self.text):
            try:
                text = template.render(message.events, labels_of(message)) if template else None
            except Rendering as error:
                problems.append(f"the template {template.name if template else ''} failed: {error}")
                text = None
            told.append(text.strip() or None if text is not None else None)
        title = " ".join(told[0].split()) if told[0] else None
        return title, told[1], tuple(problems)


def heading(message: Message, said: str | None) -> str | None:
    """The title of a template, if it said one; of a reminder one that says so; else None for ours.

    For chats, where a reminder would look like something new.
    """
    if said is not None or not message.occasion:
        return said
    return f"{group_title([harmless(event) for event in message.events])} (still open)"


def labels_of(message: Message) -> Mapping[str, str]:
    """What the routes say of the group, as text."""
    labels = message.context.get("labels") or {}
    return {str(name): str(value) for name, value in labels.items()}


def noted(sent: Sent, problems: tuple[str, ...]) -> Sent:
    """The answer, with what went wrong on our side."""
    if not problems:
        return sent
    return Sent(sent.status, "; ".join([*filter(None, [sent.answer]), *problems]))
