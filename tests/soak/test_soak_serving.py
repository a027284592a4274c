"""Answers stay right, and none is lost, while the deployment is changed under them; `make soak-serving`."""

import pytest

from tests.soak.run import soak

SLICE_S = 25.0


@pytest.mark.integration
class TestSoak:
    """Kills, rotations, unloads and new versions: each call ends with a right answer."""

    def test_a_slice(self) -> None:
        done = soak(SLICE_S)
        assert done.tally.faults == []
        for way in ("async", "json", "versioned", "blocking"):
            assert done.tally.counts[way, "right"] > 0
        for kind in ("killed", "replaced", "rotated", "unloaded", "loaded", "published", "withdrawn"):
            assert done.events.count(kind) > 0
        assert done.rotations > 0
        assert done.left_behind == []
