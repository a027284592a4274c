"""Random walks through larger deployments, by the same moves and rules."""

import os
from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.keyservice.protocol.explorer import judge, stage
from tests.keyservice.protocol.model import Budget, Scenario
from tests.keyservice.protocol.rules import BrokenError

LARGE = Scenario(
    name="large",
    replicas=3,
    slots=2,
    serves=(True, True, False),
    once=("narrow", "rotate", "rekey", "acknowledge"),
    jumps=(101.0, 301.0, 86_500.0),
    size=30,
    keeps_forgotten=True,
    budget=Budget(crashes=3, faults=4, host=3, jumps=4),
)
WALKS = int(os.environ.get("S3ML_MODEL_WALKS", "3"))
MOVES = int(os.environ.get("S3ML_MODEL_MOVES", "25"))


class Walk(RuleBasedStateMachine):
    """One move after another, whichever; what it did is told where a rule breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.model, self.held, self.world = self.stack.enter_context(stage(LARGE))
        self.trace: list[str] = []

    @rule(choice=st.integers(0, 1 << 16))
    def move(self, choice: int) -> None:
        moves = list(self.model.moves(self.world))
        if not moves:
            return
        chosen = moves[choice % len(moves)]
        self.trace.append(chosen.label)
        try:
            self.world = self.held.after(self.world, chosen.go())
            judge(self.model, self.held, self.world)
        except BrokenError as error:
            raise AssertionError("\n".join([str(error), *self.trace])) from error

    def teardown(self) -> None:
        self.stack.close()


TestWalks = Walk.TestCase
TestWalks.settings = settings(
    max_examples=WALKS, stateful_step_count=MOVES, deadline=None, derandomize=WALKS < 10, database=None
)
