"""Who gives addresses their names: a pod map from a file, or a watch on the Kubernetes API."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidelong.errors import ConfigError
from sidelong.ingest.kubernetes_login import KubernetesSettings
from sidelong.ingest.podmap import PodMap, PodMaps
from sidelong.terminal import Terminal

__all__ = ["named_by"]


@contextmanager
def named_by(
    pods: str | None, kubernetes: bool, settings: KubernetesSettings, terminal: Terminal
) -> Iterator[PodMaps | None]:
    """The map in the file `pods`, or the pods of a cluster as they are, or neither.

    Errors: ConfigError for both at once, or for a map or a cluster that cannot be used; SourceError
    for a cluster that does not answer.
    """
    if pods and kubernetes:
        raise ConfigError(
            f"--kubernetes and --pods {pods} both say who holds which address",
            hint="--kubernetes for traffic of now, --pods for traffic of another time",
        )
    if not kubernetes:
        yield PodMap.read(Path(pods)) if pods else None
        return
    from sidelong.ingest.kubernetes_watch import watch_kubernetes  # not for those without one

    def say(text: str) -> None:
        terminal.say(f"sidelong: {text}")

    with watch_kubernetes(settings, say=say) as watch:
        yield watch
