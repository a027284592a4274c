"""uvicorn's settings: what handles connections."""

import pytest

from s3ml.listening import ConnectionGuard, ConnectionLimits, http_config


class TestConnections:
    """Every server holds its connections to limits."""

    @pytest.mark.parametrize(("given", "expected"), [(None, ConnectionLimits().connections), (100, 99)])
    def test_a_guard_of_its_own(self, given: int | None, expected: int) -> None:
        """Of those that are given one is kept free: uvicorn itself refuses requests where all are taken."""
        config = http_config(grace_s=1, connections=given)
        guard: object = config.http
        assert isinstance(guard, ConnectionGuard)
        assert guard.limits.connections == expected
        assert config.limit_concurrency == given
