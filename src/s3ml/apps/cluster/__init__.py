"""The local cluster: platform, key service, replicas and gateway as processes of one machine."""

from s3ml.apps.cluster.interruption import Interruption, Stopped
from s3ml.apps.cluster.layout import ClusterFolder
from s3ml.apps.cluster.local import Endpoints, LocalCluster
from s3ml.apps.cluster.options import ClusterOptions
from s3ml.apps.cluster.process import Replica

__all__ = [
    "ClusterFolder",
    "ClusterOptions",
    "Endpoints",
    "Interruption",
    "LocalCluster",
    "Replica",
    "Stopped",
]
