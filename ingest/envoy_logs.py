"""Envoy's access logs, as text by any format string and as JSON by any keys.

What the entries mean is told in envoy_exchanges.py.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import polars as pl

from sidelong.errors import ConfigError
from sidelong.ingest.envoy_entries import FIELD_NAMES, envoy_fields
from sidelong.ingest.envoy_exchanges import envoy_flows
from sidelong.ingest.envoy_format import ENVOY_FORMAT, ISTIO_FORMAT, EnvoyFormat
from sidelong.ingest.envoy_operators import ISTIO_KEYS, field_of
from sidelong.ingest.log_lines import JsonLog, TextLog

__all__ = ["EnvoySettings", "envoy_json", "envoy_keys", "envoy_lines", "envoy_text", "placed"]

_OWN_LINE: Final = r"^\d{4}-\d\d-\d\dT[0-9:.]+Z\t[a-z]+\t"
_ENDS: Final = ("downstream_remote", "downstream_direct_remote", "upstream_host")


class EnvoySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an Envoy logs, and whose it is. Section [envoy].

    format: the format string of a text log; None for Istio's and Envoy's own. json: the key of each
    field that is not where Istio's JSON has it, by a name of `FIELD_NAMES` or an operator such as
    `%DOWNSTREAM_PEER_URI_SAN%`. time_format: as in `%START_TIME(...)%`, of a JSON log.

    pod (`namespace/pod`), workload (`namespace/name`), ip, node: the proxy, where its log does not
    say so itself. trusted_remote: take the client's address although it may come from
    `x-forwarded-for`. xfcc: take the client's identity from `x-forwarded-client-cert`; not for a
    proxy that forwards what clients send in it.
    """

    format: str | None = None
    json: dict[str, str] = {}
    time_format: str | None = None
    pod: str | None = None
    workload: str | None = None
    ip: str | None = None
    node: str | None = None
    trusted_remote: bool = False
    xfcc: bool = True


def envoy_lines(settings: EnvoySettings = EnvoySettings()) -> TextLog:  # noqa: B008, a frozen value
    """Decodes text lines. Errors: ConfigError for a format that cannot be read back."""
    return TextLog(envoy_text(settings), lambda entries: envoy_flows(placed(entries, settings)))


def envoy_text(settings: EnvoySettings) -> Callable[[pl.Series], pl.DataFrame]:
    """Turns lines of text into columns of `ENVOY_FIELDS`, `fault` and `usable`, one row per line.

    Where a format is given, by that; else by Istio's and by Envoy's own, which cannot be mistaken
    for one another: the last character is a quote in one of them only.
    """
    formats = [settings.format] if settings.format else [ISTIO_FORMAT, ENVOY_FORMAT]
    first, *others = (EnvoyFormat(format) for format in formats)

    def read(lines: pl.Series) -> pl.DataFrame:
        entries = first.read(lines)
        for other in others:
            odd = ~entries["usable"]
            if odd.any():
                again = other.read(lines.filter(odd)).with_columns(row=odd.arg_true())
                numbered = entries.with_row_index("row").filter(~odd)
                both = pl.concat([numbered, again], how="diagonal_relaxed").sort("row")
                entries = both.drop("row").select(entries.columns)
        typed = envoy_fields(entries, first.time)
        usable = pl.col("usable") & pl.col("start_time").is_not_null()
        if not entries["usable"].all():  # what Istio's agent and Envoy say of themselves
            own = usable | ~lines.str.contains(_OWN_LINE)
            return typed.with_columns(usable=usable, fault=pl.when(own).then("fault"))
        return typed.with_columns(usable=usable)

    return read


def envoy_json(settings: EnvoySettings = EnvoySettings()) -> JsonLog:  # noqa: B008
    """Decodes lines of JSON. Errors: ConfigError for a field that nobody knows."""
    keys, read = envoy_keys(settings)
    return JsonLog(
        keys | {"scope": "scope"}, read, lambda entries: envoy_flows(placed(entries, settings))
    )


def envoy_keys(
    settings: EnvoySettings,
) -> tuple[dict[str, str], Callable[[pl.DataFrame], pl.DataFrame]]:
    """The key of each field, and what turns texts by field into `ENVOY_FIELDS`, as `envoy_text`.

    Errors: ConfigError for a field that nobody knows.
    """
    keys = ISTIO_KEYS | {_field(name): key for name, key in settings.json.items()}
    time = None
    if settings.time_format:
        time = EnvoyFormat(f"%START_TIME({settings.time_format})%").time

    def read(texts: pl.DataFrame) -> pl.DataFrame:
        """What has a `scope` and no ends is what Istio's agent says of itself."""
        present = texts.select(
            pl.col(name).replace("-", "")
            if name == "x_forwarded_for"
            else pl.when((pl.col(name) != "-") & (pl.col(name) != "")).then(name)
            for name in texts.columns
        )
        nobody = pl.all_horizontal(pl.col(name).is_null() for name in _ENDS if name in keys)
        other = nobody & pl.col("upstream_cluster").is_null() & pl.col("downstream_local").is_null()
        own = other & (pl.col("scope").is_not_null() if "scope" in present.columns else False)
        faulty = present.with_columns(
            own=own, fault=pl.when(other).then(pl.lit("no entry of an access log"))
        )
        typed = envoy_fields(faulty, time)
        return typed.with_columns(
            usable=pl.col("fault").is_null(), fault=pl.when(~pl.col("own")).then("fault")
        )

    return keys, read


def _field(name: str) -> str:
    field = name if name in FIELD_NAMES else field_of(name)
    if field is None:
        raise ConfigError(
            f"[envoy] json has {name!r}, which is no field and no operator with a meaning here",
            hint=f"the fields are {', '.join(sorted(FIELD_NAMES))}",
        )
    return field


def placed(entries: pl.DataFrame, settings: EnvoySettings) -> pl.DataFrame:
    """The entries with what the settings say of their proxy, where they do not say it."""
    said = {name: getattr(settings, name) for name in ("pod", "workload", "ip", "node")}
    columns = [
        (pl.col(name).fill_null(value) if name in entries.columns else pl.lit(value)).alias(name)
        for name, value in said.items()
        if value is not None
    ]
    columns.append(pl.lit(settings.trusted_remote).alias("trusted_remote"))
    if not settings.xfcc and "xfcc" in entries.columns:
        columns.append(pl.lit(None, pl.String).alias("xfcc"))
    return entries.with_columns(columns)
