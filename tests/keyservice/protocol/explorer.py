"""Explore every world that a scenario leads to, nearest first, and say how a broken one came about."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from s3ml.keyservice import cosigning, releasing
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.note import Note
from tests.clocks import FakeClock
from tests.keyservice.protocol.memory_storage import Database
from tests.keyservice.protocol.model import Ghost, Model, Scenario, World
from tests.keyservice.protocol.node import Bench
from tests.keyservice.protocol.probes import PROBES, appraise, probe
from tests.keyservice.protocol.rules import BrokenError, Rules
from tests.keyservice.protocol.stepping import dice_of
from tests.keyservice.protocol.trails import Lives
from tests.keyservice.protocol.witnesses import Line, Panel
from tests.keyservice.protocol.works import WORKS, begin

# Of every world that was seen, by its key: the world before it, and the move between them.
Seen = dict[Any, tuple[Any, str] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """How a rule is broken, in as few moves as can be.

    Args:
        rule: Its letter.
        told: What is wrong.
        trace: The moves.
    """

    rule: str
    told: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{number:2}. {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([self.told, *lines])


@dataclass(slots=True, kw_only=True)
class Explored:
    """What an exploration saw.

    Args:
        name: Of the scenario.
        states: Different worlds.
        moves: Moves between them.
        inputs: Inputs that the real code took.
        depth: The most moves from the beginning.
        stuck: Worlds whose newest database a quorum of witnesses cannot follow any more.
        is_whole: Whether no world was left out.
        seconds: How long it took.
        broken: The nearest counterexample.
    """

    name: str
    states: int = 0
    moves: int = 0
    inputs: int = 0
    depth: int = 0
    stuck: int = 0
    is_whole: bool = True
    seconds: float = 0.0
    broken: Counterexample | None = None

    def __str__(self) -> str:
        whole = "all" if self.is_whole else f"to depth {self.depth}"
        return (
            f"{self.name}: {self.states} states ({whole}), {self.moves} moves, depth {self.depth}, "
            f"{self.inputs} inputs of real code, {self.stuck} stuck, {self.seconds:.1f} s"
        )


@contextmanager
def stage(scenario: Scenario) -> Iterator[tuple[Model, Rules, World]]:
    """Set up a scenario: its replicas, witnesses and databases, and the world that it begins with."""
    clock = FakeClock()
    panel = Panel(count=scenario.witnesses, clock=clock)
    bench = Bench(
        panel=panel,
        clock=clock,
        seals=scenario.seals,
        replicas=scenario.replicas,
        quorum=scenario.quorum,
        keeps_forgotten=scenario.keeps_forgotten,
    )

    def line(url: str, timeout_s: float) -> Line:
        return Line(panel, url)

    with (
        dice_of(bench.table),
        mock.patch.object(cosigning, "WitnessClient", line),
        mock.patch.object(releasing, "appraise", appraise),
        mock.patch.object(VerifyKey, "is_signed", functools.lru_cache(1 << 16)(VerifyKey.is_signed)),
        mock.patch.object(Note, "parse", functools.lru_cache(1 << 14)(Note.parse)),
    ):
        lives = Lives(bench)
        try:
            model = Model(scenario, lives, WORKS)
            rules = Rules(model=model, quorum=scenario.quorum)
            yield model, rules, first_world(model, rules)
        finally:
            lives.close()


def first_world(model: Model, rules: Rules) -> World:
    """Return the world in which a deployment serves, on as many replicas as the scenario says."""
    scenario, lives = model.scenario, model.lives
    empty = World(
        slots=tuple(Database() for _ in range(scenario.slots)),
        points=(0,) * scenario.replicas,
        trails=(),
        lives=(0,) * scenario.replicas,
        witnesses=(None,) * scenario.witnesses,
        ghost=Ghost(admitted=frozenset({(0, 0)})),  # It makes the keys.
    )
    trails = tuple(lives.begin(index, 0, empty.around(index)) for index in range(scenario.replicas))
    world = replace(empty, trails=trails)
    model.works = {**WORKS, "begin": begin}
    world = rules.after(world, model.start(world, 0, "begin"))
    while (one := next((w for w in world.trails[0].look.waiting), None)) is not None:
        world = rules.after(world, model.do(world, 0, one, "ok"))
    assert world.trails[0].look.phase == "serving", world.trails[0].events
    model.works = dict(WORKS)
    for index, is_serving in enumerate(scenario.serves):
        while is_serving and not world.trails[index].look.is_ready:
            moved = rules.step_of(world, index)
            assert moved is not None
            world = rules.after(world, moved)
    world = replace(world, said=())
    for index, is_serving in enumerate(scenario.serves):
        if not is_serving:
            world = rules.after(world, model.crash(world, index))
    model.limit = world.slots[0].size + scenario.size
    return replace(
        world,
        slots=(world.slots[0],) * scenario.slots,
        said=(),
        past=(),
        now_s=world.now_s,
        budget=scenario.budget,
        ghost=replace(world.ghost, lost=frozenset()),
    )


def explore(
    scenario: Scenario,
    *,
    seconds: float = 1e9,
    states: int = 1 << 30,
    seed: Callable[[], None] = lambda: None,
) -> Explored:
    """Explore a scenario, nearest worlds first, until a rule breaks or everything was seen.

    Args:
        scenario: The sizes.
        seconds: When to stop, of one core.
        states: How many worlds to stop at.
        seed: Called once the deployment serves, before anything is explored.
    """
    found = Explored(name=scenario.name)
    began = time.process_time()
    with stage(scenario) as (model, rules, first):
        seed()
        seen: Seen = {first.key: None}
        queue = deque([(first, 0)])
        last: tuple[Any, str] | None = None
        try:
            judge(model, rules, first)
            while queue:
                world, depth = queue.popleft()
                if time.process_time() - began > seconds or len(seen) > states:
                    found.is_whole = False
                    break
                found.depth = max(found.depth, depth)
                for move in model.moves(world):
                    last = (world.key, move.label)
                    after = rules.after(world, move.go())
                    found.moves += 1
                    if after.key not in seen:
                        seen[after.key] = last
                        judge(model, rules, after)
                        queue.append((after, depth + 1))
        except BrokenError as error:
            found.is_whole = False
            found.broken = Counterexample(rule=error.rule, told=str(error), trace=_trace(seen, last))
        found.states, found.inputs, found.stuck = len(seen), model.lives.lived, rules.stuck
    found.seconds = time.process_time() - began
    return found


def judge(model: Model, rules: Rules, world: World) -> None:
    """Hold everything against a world that is seen for the first time.

    Raises:
        BrokenError: a rule is broken.
    """
    for index, trail in enumerate(world.trails):
        if trail.look.is_ready:
            for label in PROBES:
                if (told := probe(model.lives, world, index, label)) is not None:
                    rules.told(world, index, told)
    if model.scenario.recovers and model.scenario.is_recoverable:
        rules.recovers(world)


def _trace(seen: Seen, last: tuple[Any, str] | None) -> tuple[str, ...]:
    labels = []
    while last is not None:
        labels.append(last[1])
        last = seen[last[0]]
    return tuple(reversed(labels))
