"""The product's balancer with the costs of the experiments' model: its policies know what was calibrated.

Reads a plan (JSON, one line) from standard input; its policy is switched over its own socket.
"""

import sys
from functools import partial
from pathlib import Path

import msgspec
import uvloop

from s3ml.apps.processes.balancer import BalancerOptions, serve
from s3ml.scheduling.balancer.policies import POLICIES, policy_named
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from s3ml.scheduling.model import Model


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a balancer of the experiments runs.

    Args:
        gateway: The gateway's folder.
        membership: The file that names replicas and agents.
        control: Its socket.
        picker: The port on which it picks for each request; None to steer by weights.
        policy: The one to begin with.
        model: What the policies know of the model.
    """

    gateway: str
    membership: str
    control: str
    picker: int | None
    policy: str
    model: Model


INTERVAL_S = 0.2
READINGS_INTERVAL_S = 0.25


def main() -> None:
    """Balance until terminated."""
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    options = BalancerOptions(
        policy=plan.policy,
        gateway=Path(plan.gateway),
        membership=Path(plan.membership),
        control=Path(plan.control),
        listen=None,
        picker=None if plan.picker is None else ("127.0.0.1", plan.picker),
        settings=BalancerSettings(
            steering=Steering.WEIGHTS if plan.picker is None else Steering.PICKER,
            interval_s=INTERVAL_S,
            readings_interval_s=READINGS_INTERVAL_S,
        ),
    )
    uvloop.run(serve(options, {name: partial(policy_named, name, plan.model) for name in POLICIES}))


if __name__ == "__main__":
    main()
