"""Every world near the beginning of small deployments holds every rule; `make model` goes further."""

from dataclasses import replace

import pytest

from tests.keyservice.protocol.explorer import Explored, explore
from tests.keyservice.protocol.model import Scenario
from tests.keyservice.protocol.scenarios import (
    ALONE,
    COLD,
    DAYS,
    HOST,
    KILLED,
    LOSSES,
    RACE,
    REKEY,
    REKEY_HOST,
    THREE,
    UNSEALED,
)

# Worlds of each in the suite; about a second of one core for each hundred.
STATES = {RACE: 250, KILLED: 80, LOSSES: 80, HOST: 150, REKEY: 60, REKEY_HOST: 100, DAYS: 40, COLD: 40}
STATES |= {ALONE: 80, UNSEALED: 100, THREE: 30}


@pytest.mark.parametrize("scenario", STATES, ids=lambda one: one.name)
def test_every_rule_holds(scenario: Scenario) -> None:
    found = explore(scenario, states=STATES[scenario])
    assert found.broken is None, f"{found}\n{found.broken}"


def test_an_exploration_is_the_same_every_time() -> None:
    def told(found: Explored) -> Explored:
        return replace(found, seconds=0.0)

    assert told(explore(HOST, states=40)) == told(explore(HOST, states=40))


def test_a_small_one_is_explored_whole() -> None:
    found = explore(replace(RACE, name="calm", witnesses=1, quorum=1, budget=replace(RACE.budget, jumps=0)))
    assert found.broken is None
    assert found.is_whole
    assert found.states > 10
