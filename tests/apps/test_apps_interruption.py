"""A signal ends a cluster once, and never in the middle of starting a process."""

import os
import signal
from collections.abc import Iterator

import pytest

from s3ml.apps.cluster.interruption import SIGNALS, Interruption, Stopped


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


class TestInterruption:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_a_signal_stops(self, number: int) -> None:
        interruption = Interruption()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), number)
        assert interruption.asked.is_set()

    def test_a_second_signal_changes_nothing(self) -> None:
        Interruption()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    def test_while_held_it_waits_for_the_end_of_the_block(self) -> None:
        interruption = Interruption()
        reached = []
        with pytest.raises(Stopped), interruption.held():  # noqa: PT012 - the order inside is the fact
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end")
        assert reached == ["the end"]

    def test_held_without_a_signal_is_nothing(self) -> None:
        interruption = Interruption()
        with interruption.held():
            assert not interruption.asked.is_set()
