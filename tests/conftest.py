"""How files are spread over processes: the longest first, and those that share something costly together.

Whatever is in none of the lists below keeps its random place behind them.
"""

from typing import Any

import pytest

# Folders and files that share a cluster for the whole session: in one process it is started once.
TOGETHER = {
    "cluster of the README": (
        "tests/apps/test_apps_proxy.py",
        "tests/apps/test_apps_proxy_hostile.py",
        "tests/apps/test_apps_installed_client.py",
        "tests/apps/test_apps_quickstart.py",  # which kills, and publishes another version
    ),
    "endpoint of the protocol": ("conformance/oip/",),
}
# By how long they take, longest first: a long one that comes last would leave the other processes idle.
LONGEST = (
    "tests/apps/test_apps_runbooks.py",
    *TOGETHER["cluster of the README"],
    "conformance/oip/",
    "tests/apps/test_apps_technologies.py",
    "tests/apps/test_apps_callers_cluster.py",
    "tests/replication/test_replication_restart.py",
    "tests/replication/test_replication_enclaves.py",
    "tests/replication/test_replication_commit.py",
    "tests/replication/test_replication_database.py",
    "tests/modelserver/test_modelserver_draining.py",
    "tests/apps/test_apps_litert.py",
    "tests/soak/",
    "tests/replication/test_replication_edits.py",
    "tests/apps/test_apps_cluster_start.py",
    "tests/replication/test_replication_scale_out.py",
    "tests/replication/test_replication_forks.py",
    "tests/replication/test_replication_rotation.py",
    "tests/modelserver/test_modelserver_hostile.py",
    "tests/keyservice/test_keyservice_storage_faults.py",
    "tests/replication/test_replication_rollback.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of files: pytest-xdist would begin with those that have the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, each file's tests as they were drawn."""
    items.sort(key=lambda item: rank(item.nodeid))


def rank(nodeid: str) -> int:
    """Return the place of a test's file among the longest, or the place behind them."""
    return next((place for place, start in enumerate(LONGEST) if nodeid.startswith(start)), len(LONGEST))


def scope_of(nodeid: str) -> str:
    """Return what a test stays together with: its file, or the files that share a cluster."""
    for name, starts in TOGETHER.items():
        if nodeid.startswith(starts):
            return name
    return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread files as `--dist loadfile` does, but for those that belong together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = scope_of
    return scheduler
