"""Policies that know nothing of a replica but whether it is ready: by turns, and at random."""

from dataclasses import dataclass
from random import Random

from s3ml.scheduling.balancer.policies.dividing import equal
from s3ml.scheduling.balancer.policies.drawing import nobody, reasons_of
from s3ml.scheduling.balancer.view import Choice, Reason, Shares, View


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """One ready replica after the other."""

    name: str = "round-robin"

    def pick(self, view: View, draw: Random) -> Choice:  # noqa: ARG002 - nothing is drawn
        """Choose the next one."""
        ready = view.ready
        if not ready:
            return nobody(view)
        chosen = ready[view.turn % len(ready)].name
        return Choice(replica=chosen, reasons=reasons_of(view, Reason.NOT_DRAWN) | {chosen: Reason.CHOSEN})

    def shares(self, view: View) -> Shares:
        """Divide equally."""
        return equal(view)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Any ready replica, each as likely as another."""

    name: str = "random"

    def pick(self, view: View, draw: Random) -> Choice:
        """Draw one."""
        ready = view.ready
        if not ready:
            return nobody(view)
        chosen = draw.choice(ready).name
        return Choice(replica=chosen, reasons=reasons_of(view, Reason.NOT_DRAWN) | {chosen: Reason.CHOSEN})

    def shares(self, view: View) -> Shares:
        """Divide equally."""
        return equal(view)
