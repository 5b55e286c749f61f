"""Whether a manifest is what an API server takes: schemas of the CRDs, models of the client."""

import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import kubernetes.client
import yaml

__all__ = ["check_manifest", "check_text"]

Schemas = Mapping[str, Mapping[str, Any]]


def check_text(text: str, schemas: Schemas) -> list[dict[str, Any]]:
    """The manifests in YAML text, each checked."""
    manifests = list(yaml.safe_load_all(text))
    assert manifests
    for manifest in manifests:
        check_manifest(manifest, schemas)
    return manifests


def check_manifest(manifest: Mapping[str, Any], schemas: Schemas) -> None:
    """Fails unless the manifest is valid, unknown fields included."""
    if manifest["kind"] == "NetworkPolicy":
        _check_model(dict(manifest), "V1NetworkPolicy")
    else:
        jsonschema.Draft7Validator(schemas[manifest["kind"]]).validate(manifest)


def _check_model(value: Any, model: str) -> None:
    """Against the client's models, which are written from the OpenAPI of Kubernetes."""
    model = re.sub(r"^(?:List|Dict)", lambda found: found[0].lower(), model)
    if model.startswith("list["):
        assert isinstance(value, list), value
        for one in value:
            _check_model(one, model[5:-1])
    elif model.startswith(("dict(", "dict[")):
        assert isinstance(value, dict), value
        for one in value.values():
            _check_model(one, model[5:-1].split(", ")[1])
    elif model in ("str", "int", "bool", "object"):
        plain: dict[str, type] = {"str": str, "int": int, "bool": bool, "object": object}
        assert isinstance(value, plain[model]), value
    else:
        kind = getattr(kubernetes.client, model)
        types = {kind.attribute_map[name]: of for name, of in kind.openapi_types.items()}
        assert isinstance(value, dict), value
        assert value.keys() <= types.keys(), value.keys() - types.keys()
        for name, inner in value.items():
            _check_model(inner, types[name])
