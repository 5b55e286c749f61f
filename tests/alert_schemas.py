"""What the receivers' published references demand of a payload, as JSON Schema of our own.

Sources, read 2026-11: CloudEvents 1.0.2 (spec, JSON format); Slack, Block Kit reference and the
text object; Adaptive Cards 1.4; PagerDuty, Events API v2; Alertmanager, api/v2/openapi.yaml; OCSF
1.5.0, detection_finding and the objects in it; ECS 8.17, field reference and allowed values.
Unknown keys are refused, so that none is there by mistake.
"""

from typing import Any, Final

__all__ = ["SCHEMAS"]

Schema = dict[str, Any]

MOMENT: Final = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$",
}


def text(longest: int, shortest: int = 1) -> Schema:
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def thing(required: dict[str, Any], optional: dict[str, Any] | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def several(item: Any, most: int | None = None, least: int = 0) -> Schema:
    return {"type": "array", "items": item, "minItems": least} | (
        {"maxItems": most} if most is not None else {}
    )


def only(value: Any) -> Schema:
    return {"const": value}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


PLAIN: Final = {"type": "object"}
STATUS: Final = one_of("open", "update", "closed")
SEVERITY: Final = one_of("info", "low", "medium", "high", "critical")
KIND: Final = one_of("scan", "dns_exfiltration", "lateral_movement", "anomaly")

# An attribute of a CloudEvent is named in lower case letters and digits, at most 20 of them.
CLOUDEVENTS: Final = several(
    {
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            "specversion": only("1.0"),
            "id": text(256),
            "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
            "type": {
                "type": "string",
                "pattern": r"^dev\.sidelong\.incident\.(open|update|closed)$",
            },
            "datacontenttype": only("application/json"),
            "subject": text(512),
            "time": MOMENT,
            "data": PLAIN,
        },
        "patternProperties": {"^[a-z0-9]{1,20}$": {"type": ["string", "integer", "boolean"]}},
        "additionalProperties": False,
    }
)
# data is an object, and so the pattern must not be asked of it:
CLOUDEVENTS["items"]["patternProperties"] = {
    "^(?!data$)[a-z0-9]{1,20}$": {"type": ["string", "integer", "boolean"]}
}


def slack_text(longest: int) -> Schema:
    return {
        "oneOf": [
            thing(
                {"type": only("plain_text"), "text": text(longest)}, {"emoji": {"type": "boolean"}}
            ),
            thing(
                {"type": only("mrkdwn"), "text": text(longest)}, {"verbatim": {"type": "boolean"}}
            ),
        ]
    }


_SECTION: Final = {
    **thing(
        {"type": only("section")},
        {"text": slack_text(3_000), "fields": several(slack_text(2_000), 10, 1)},
    ),
    "anyOf": [{"required": ["text"]}, {"required": ["fields"]}],
}
_HEADER: Final = thing(
    {
        "type": only("header"),
        "text": thing(
            {"type": only("plain_text"), "text": text(150)}, {"emoji": {"type": "boolean"}}
        ),
    }
)
SLACK: Final = thing(
    {
        "text": text(40_000),
        "blocks": several(
            {
                "oneOf": [
                    _HEADER,
                    _SECTION,
                    thing({"type": only("divider")}),
                    thing({"type": only("context"), "elements": several(slack_text(3_000), 10, 1)}),
                ]
            },
            50,
            1,
        ),
    },
    {
        "mrkdwn": {"type": "boolean"},
        "unfurl_links": {"type": "boolean"},
        "unfurl_media": {"type": "boolean"},
        "channel": text(80),
    },
)

_STYLE: Final = {
    "size": one_of("default", "small", "medium", "large", "extraLarge"),
    "weight": one_of("default", "lighter", "bolder"),
    "color": one_of("default", "dark", "light", "accent", "good", "warning", "attention"),
    "isSubtle": {"type": "boolean"},
}
_RUNS: Final = thing(
    {
        "type": only("RichTextBlock"),
        "inlines": several(
            thing({"type": only("TextRun"), "text": text(2_000, 0)}, _STYLE), None, 1
        ),
    }
)
_TEXT_BLOCK: Final = thing(
    {"type": only("TextBlock"), "text": text(2_000)}, {"wrap": {"type": "boolean"}, **_STYLE}
)
TEAMS: Final = thing(
    {
        "type": only("message"),
        "attachments": several(
            thing(
                {
                    "contentType": only("application/vnd.microsoft.card.adaptive"),
                    "content": thing(
                        {
                            "type": only("AdaptiveCard"),
                            "version": only("1.4"),
                            "body": several({"oneOf": [_RUNS, _TEXT_BLOCK]}, None, 1),
                        },
                        {"$schema": {"type": "string"}, "msteams": PLAIN},
                    ),
                },
                {"contentUrl": {"type": "null"}},
            ),
            1,
            1,
        ),
    }
)

PAGERDUTY: Final = several(
    thing(
        {
            "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
            "event_action": one_of("trigger", "acknowledge", "resolve"),
            "dedup_key": text(255),
            "payload": thing(
                {
                    "summary": text(1_024),
                    "source": text(1_024),
                    "severity": one_of("critical", "error", "warning", "info"),
                },
                {
                    "timestamp": MOMENT,
                    "component": {"type": "string"},
                    "group": {"type": "string"},
                    "class": {"type": "string"},
                    "custom_details": PLAIN,
                },
            ),
        },
        {"client": {"type": "string"}, "client_url": {"type": "string", "format": "uri"}},
    )
)

_LABELS: Final = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    "additionalProperties": text(1_024),
}
ALERTMANAGER: Final = several(
    thing(
        {"labels": {**_LABELS, "minProperties": 1, "required": ["alertname"]}},
        {
            "annotations": {**_LABELS, "additionalProperties": text(4_096)},
            "startsAt": MOMENT,
            "endsAt": MOMENT,
            "generatorURL": {"type": "string", "format": "uri"},
        },
    )
)

_MS: Final = {"type": "integer", "minimum": 1_000_000_000_000}
_IP: Final = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_NAMED: Final = thing({"uid": text(512), "name": text(512)})
_ENDPOINT: Final = {
    **thing(
        {},
        {
            "ip": _IP,
            "name": text(512),
            "hostname": text(512),
            "instance_uid": text(512),
            "port": {"type": "integer", "minimum": 0, "maximum": 65_535},
        },
    ),
    "anyOf": [{"required": [key]} for key in ("ip", "name", "hostname", "instance_uid")],
}
_EVIDENCE: Final = {
    **thing(
        {},
        {
            "name": text(512),
            "src_endpoint": _ENDPOINT,
            "dst_endpoint": _ENDPOINT,
            "query": thing({"hostname": text(512)}),
            "data": PLAIN,
        },
    ),
    "anyOf": [{"required": [key]} for key in ("src_endpoint", "dst_endpoint", "query", "data")],
}
_ATTACK: Final = thing(
    {"technique": _NAMED},
    {"version": text(16), "tactic": _NAMED, "sub_technique": _NAMED},
)
OCSF: Final = several(
    thing(
        {
            "activity_id": one_of(1, 2, 3),
            "category_uid": only(2),
            "class_uid": only(2004),
            "type_uid": one_of(200401, 200402, 200403),
            "time": _MS,
            "severity_id": one_of(0, 1, 2, 3, 4, 5, 6, 99),
            "metadata": thing(
                {
                    "version": only("1.5.0"),
                    "product": thing(
                        {"vendor_name": text(64)}, {"name": text(64), "version": text(64)}
                    ),
                },
                {
                    "uid": text(64),
                    "correlation_uid": text(128),
                    "labels": several(text(1_100)),
                },
            ),
            "finding_info": thing(
                {"uid": text(128), "title": text(1_024)},
                {
                    "desc": text(2_000),
                    "types": several(text(64)),
                    "created_time": _MS,
                    "first_seen_time": _MS,
                    "last_seen_time": _MS,
                    "analytic": thing(
                        {"type_id": one_of(0, 1, 2, 3, 4, 99)},
                        {"name": text(64), "uid": text(64)},
                    ),
                    "attacks": several(_ATTACK),
                },
            ),
        },
        {
            "activity_name": one_of("Create", "Update", "Close"),
            "category_name": only("Findings"),
            "class_name": only("Detection Finding"),
            "type_name": text(64),
            "severity": one_of("Informational", "Low", "Medium", "High", "Critical"),
            "status_id": one_of(0, 1, 2, 3, 4, 5, 6, 99),
            "status": one_of("New", "In Progress", "Resolved"),
            "start_time": _MS,
            "end_time": _MS,
            "is_alert": {"type": "boolean"},
            "risk_score": {"type": "integer"},
            "message": text(2_000),
            "evidences": several(_EVIDENCE, None, 1),
            "resources": several(
                thing(
                    {},
                    {"uid": text(512), "name": text(512), "type": text(64), "namespace": text(512)},
                )
            ),
            "remediation": thing({"desc": text(16_500)}),
            "unmapped": PLAIN,
        },
    )
)

_KEYWORD: Final = text(1_024)
_KEYWORDS: Final = several(_KEYWORD)
_CATEGORIES: Final = one_of(
    *("api", "authentication", "configuration", "database", "driver", "email", "file", "host"),
    *("iam", "intrusion_detection", "library", "malware", "network", "package", "process"),
    *("registry", "session", "threat", "vulnerability", "web"),
)
ECS: Final = several(
    thing(
        {
            "@timestamp": MOMENT,
            "ecs": thing({"version": _KEYWORD}),
            "event": thing(
                {
                    "id": _KEYWORD,
                    "kind": one_of(
                        *("alert", "asset", "enrichment", "event", "metric", "state"),
                        *("pipeline_error", "signal"),
                    ),
                    "category": several(_CATEGORIES),
                    "type": several(
                        one_of(
                            "allowed", "connection", "denied", "end", "info", "start", "protocol"
                        )
                    ),
                },
                {
                    "action": _KEYWORD,
                    "module": _KEYWORD,
                    "dataset": _KEYWORD,
                    "provider": _KEYWORD,
                    "reason": _KEYWORD,
                    "created": MOMENT,
                    "start": MOMENT,
                    "end": MOMENT,
                    "severity": {"type": "integer"},
                    "risk_score": {"type": "number"},
                },
            ),
        },
        {
            "message": text(2_000),
            "labels": {
                "type": "object",
                "propertyNames": {"pattern": r"^[^.]+$"},
                "additionalProperties": _KEYWORD,
            },
            "tags": _KEYWORDS,
            "rule": thing(
                {}, {"id": _KEYWORD, "name": _KEYWORD, "category": _KEYWORD, "version": _KEYWORD}
            ),
            "observer": thing({}, {"vendor": _KEYWORD, "product": _KEYWORD, "version": _KEYWORD}),
            "orchestrator": thing(
                {},
                {
                    "type": _KEYWORD,
                    "namespace": _KEYWORD,
                    "resource": thing({}, {"type": _KEYWORD, "name": _KEYWORD}),
                },
            ),
            "source": thing({}, {"address": _KEYWORD, "ip": _IP}),
            "destination": thing(
                {},
                {
                    "address": _KEYWORD,
                    "ip": _IP,
                    "port": {"type": "integer", "minimum": 0, "maximum": 65_535},
                    "domain": _KEYWORD,
                },
            ),
            "network": thing({}, {"protocol": _KEYWORD}),
            "related": thing({}, {"ip": several(_IP), "hosts": _KEYWORDS}),
            "threat": thing(
                {},
                {
                    "framework": _KEYWORD,
                    "tactic": thing({}, {"id": _KEYWORDS, "name": _KEYWORDS}),
                    "technique": thing(
                        {},
                        {
                            "id": _KEYWORDS,
                            "name": _KEYWORDS,
                            "subtechnique": thing({}, {"id": _KEYWORDS, "name": _KEYWORDS}),
                        },
                    ),
                },
            ),
            "sidelong": PLAIN,
        },
    )
)

JSON: Final = thing(
    {
        "version": only(1),
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "incidents": several(
            {
                "type": "object",
                "required": ["id", "status", "kind", "severity", "score", "actor", "summary"],
                "properties": {
                    "status": STATUS,
                    "kind": KIND,
                    "severity": SEVERITY,
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                    "detected_at": MOMENT,
                    "first_seen": MOMENT,
                    "last_seen": MOMENT,
                },
            },
            None,
            1,
        ),
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "alertmanager": ALERTMANAGER,
    "cloudevents": CLOUDEVENTS,
    "ecs": ECS,
    "json": JSON,
    "ocsf": OCSF,
    "pagerduty": PAGERDUTY,
    "slack": SLACK,
    "teams": TEAMS,
}
