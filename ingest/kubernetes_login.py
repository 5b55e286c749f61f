"""Which cluster, and as whom: the settings of the watch, and the credentials behind them.

The official client (extra `kubernetes`) reads kubeconfig or service account, renews tokens, runs
credential plugins and knows proxies and certificates. Nothing else of it is used.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sidelong.errors import ConfigError

if TYPE_CHECKING:
    from kubernetes.client import Configuration
    from urllib3 import PoolManager

__all__ = ["KubernetesSettings", "credentials", "log_in"]

_HINT: Final = (
    "name a file in KUBECONFIG or as kubeconfig in [kubernetes], or run in a pod whose service"
    " account may list and watch pods"
)


class KubernetesSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which cluster to watch, and with how much patience.

    kubeconfig: the file; without it KUBECONFIG, else the service account of the pod this runs in,
    else ~/.kube/config. context: the context of it, else its current one. sync_timeout_seconds: how
    long the first lists may take. keep_ended_seconds, keep_ended: how long and how many holders of
    addresses are remembered after their end. silence_seconds: a watch on which nothing comes for so
    long is begun anew; the server sends a sign of life each minute. watch_seconds: how long one
    watch is asked to last. retry_seconds: the longest pause between two attempts.
    """

    kubeconfig: str = ""
    context: str = ""
    sync_timeout_seconds: float = 30.0
    keep_ended_seconds: float = 3600.0
    keep_ended: int = 100_000
    silence_seconds: float = 90.0
    watch_seconds: int = 300
    retry_seconds: float = 30.0


def log_in(settings: KubernetesSettings) -> "tuple[Configuration, PoolManager]":
    """Where the cluster is and who asks it, and connections that are set up for it.

    Errors: ConfigError when the extra is not installed, or when the settings name no cluster.
    """
    try:
        from kubernetes import config
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject
    except ImportError as error:
        raise ConfigError(
            "to ask Kubernetes for its pods, its client is needed",
            hint="pip install 'sidelong[kubernetes]'",
        ) from error

    file = settings.kubeconfig or os.environ.get("KUBECONFIG", "")
    in_pod = not (file or settings.context) and "KUBERNETES_SERVICE_HOST" in os.environ
    file = file or str(Path("~/.kube/config").expanduser())
    where = "the service account of this pod" if in_pod else f"the kubeconfig {file}"
    configuration = Configuration()
    try:
        if not in_pod:
            context = settings.context or None
            # The client does not declare the types of these two.
            config.load_kube_config(file, context, configuration, False)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        pool: PoolManager = RESTClientObject(configuration).pool_manager
    except config.ConfigException as error:
        raise ConfigError(f"{where} cannot be used: {error}", hint=_HINT) from error
    except Exception as error:  # a malformed file fails in many ways, some of which quote it
        raise ConfigError(f"{where} is malformed: {type(error).__name__}", hint=_HINT) from error
    return configuration, pool


def credentials(configuration: "Configuration") -> dict[str, str]:
    """The headers that say who asks; renews a token that is about to expire."""
    bearer = configuration.auth_settings().get("BearerToken")
    return {bearer["key"]: bearer["value"]} if bearer and bearer["value"] else {}
