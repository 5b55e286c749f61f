"""MITRE ATT&CK: names and tactics of the techniques that incidents are given.

Source: ATT&CK for Enterprise, version 17.
"""

from typing import Final, NamedTuple

__all__ = ["ATTACK_VERSION", "Technique", "technique"]

ATTACK_VERSION: Final = "17.1"

_DISCOVERY: Final = ("TA0007", "Discovery")
_LATERAL: Final = ("TA0008", "Lateral Movement")
_EXFILTRATION: Final = ("TA0010", "Exfiltration")
_CONTROL: Final = ("TA0011", "Command and Control")

_KNOWN: Final = {
    "T1018": ("Remote System Discovery", _DISCOVERY),
    "T1021": ("Remote Services", _LATERAL),
    "T1021.001": ("Remote Desktop Protocol", _LATERAL),
    "T1021.002": ("SMB/Windows Admin Shares", _LATERAL),
    "T1021.003": ("Distributed Component Object Model", _LATERAL),
    "T1021.004": ("SSH", _LATERAL),
    "T1021.005": ("VNC", _LATERAL),
    "T1021.006": ("Windows Remote Management", _LATERAL),
    "T1046": ("Network Service Discovery", _DISCOVERY),
    "T1048": ("Exfiltration Over Alternative Protocol", _EXFILTRATION),
    "T1048.003": ("Exfiltration Over Unencrypted Non-C2 Protocol", _EXFILTRATION),
    "T1071": ("Application Layer Protocol", _CONTROL),
    "T1071.004": ("DNS", _CONTROL),
    "T1210": ("Exploitation of Remote Services", _LATERAL),
    "T1570": ("Lateral Tool Transfer", _LATERAL),
}


class Technique(NamedTuple):
    """A technique or a sub-technique; name and tactic are None where they are not known here."""

    id: str
    name: str | None
    tactic_id: str | None
    tactic: str | None

    @property
    def parent(self) -> str:
        """The id of the technique that it is or belongs to: T1021 for T1021.004."""
        return self.id.partition(".")[0]

    @property
    def shown(self) -> str:
        """Id and name.

        >>> technique("T1021.004").shown
        'T1021.004 Remote Services: SSH'
        """
        if self.name is None:
            return self.id
        above = _KNOWN.get(self.parent, (None,))[0] if self.parent != self.id else None
        return f"{self.id} {above}: {self.name}" if above else f"{self.id} {self.name}"


def technique(id_: str) -> Technique:
    """What is known of a technique."""
    if id_ not in _KNOWN:
        return Technique(id_, None, None, None)
    name, (tactic_id, tactic) = _KNOWN[id_]
    return Technique(id_, name, tactic_id, tactic)
