"""How the tests run a short slice of what `make fuzz` does for long."""

from hypothesis import HealthCheck, Phase, settings


def quiet(examples: int) -> settings:
    """Return settings with that many examples, the same at each run, however slow the machine is."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
