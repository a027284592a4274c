"""Discrete-event runs of the real policies: nodes with little TEE memory, antagonists, late readings.

A model, not a machine: docs/spec/simulator.md says what it computes and what it leaves out. Nothing here
sleeps, reads a clock, or touches anything outside.
"""

from s3ml.simulator.antagonists import Episode
from s3ml.simulator.arrivals import Arrivals
from s3ml.simulator.observing import Seen
from s3ml.simulator.scenario import Fleet, Resize, Scenario
from s3ml.simulator.serving import Request, Work
from s3ml.simulator.signals import Forgery, Signals
from s3ml.simulator.simulation import Outcome, simulate
from s3ml.simulator.steering import Steering

__all__ = [
    "Arrivals",
    "Episode",
    "Fleet",
    "Forgery",
    "Outcome",
    "Request",
    "Resize",
    "Scenario",
    "Seen",
    "Signals",
    "Steering",
    "Work",
    "simulate",
]
