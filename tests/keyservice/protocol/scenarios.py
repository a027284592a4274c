"""What is explored: small deployments, each with another kind of trouble.

`SHORT` is explored whole, or up to a number of worlds, in every run of the suite; `LONG` by `make model`.
"""

from dataclasses import replace

from tests.keyservice.protocol.model import Budget, Scenario

# Nobody does anything wrong: replicas are fast and slow, and the clock goes on.
RACE = Scenario(name="race", witnesses=2, quorum=2, is_honest=True, jumps=(101.0,), budget=Budget(jumps=1))
# Processes are killed at every point of a commit, and start again together.
KILLED = Scenario(name="killed", witnesses=1, quorum=1, once=("narrow",), budget=Budget(crashes=2))
# Requests to storage and to witnesses are lost, unanswered and late.
LOSSES = Scenario(name="losses", witnesses=2, quorum=2, once=("narrow",), budget=Budget(crashes=1, faults=1))
# Stragglers: a witness is asked still when its cosignature is no longer needed.
LATE = Scenario(name="late", once=("narrow",), keeps_forgotten=True, budget=Budget(faults=1), jumps=(301.0,))
# The host has two databases.
HOST = Scenario(
    name="host",
    slots=2,
    witnesses=1,
    quorum=1,
    once=("narrow",),
    jumps=(301.0,),
    budget=Budget(host=1, jumps=1),
)
# It has two databases, three witnesses, and ends a process.
FORK = Scenario(
    name="fork", slots=2, once=("narrow",), jumps=(301.0,), budget=Budget(host=2, jumps=1, crashes=1)
)
# Owners narrow the key service's own policy: every key is replaced.
REKEY = Scenario(name="rekey", witnesses=1, quorum=1, once=("rekey",), jumps=(301.0,), budget=Budget(jumps=1))
REKEY_KILLED = replace(REKEY, name="rekey, killed", budget=Budget(crashes=1))
REKEY_HOST = replace(REKEY, name="rekey, host", slots=2, budget=Budget(host=1, jumps=1))
# Days pass: epochs are replaced by schedule, generations grow old.
DAYS = Scenario(
    name="days",
    witnesses=1,
    quorum=1,
    once=("rotate",),
    jumps=(301.0, 86_500.0),
    size=10,
    budget=Budget(jumps=4),
)
# A replica starts beside one that serves; the platform seals nothing.
UNSEALED = Scenario(
    name="unsealed",
    witnesses=1,
    quorum=1,
    seals=False,
    serves=(True, False),
    budget=Budget(faults=1),
    is_recoverable=False,
)
# Everybody has just started; witnesses may be unreachable.
COLD = Scenario(name="cold", serves=(False, False), once=(), budget=Budget(crashes=1, faults=2))
# Three replicas.
THREE = Scenario(
    name="three",
    replicas=3,
    serves=(True, True, True),
    witnesses=1,
    quorum=1,
    once=("narrow",),
    budget=Budget(crashes=1),
)
# No witnesses: one database, which tells the truth.
ALONE = Scenario(
    name="alone", witnesses=0, quorum=0, once=("narrow", "rotate"), budget=Budget(crashes=1, faults=1)
)

LONG = (
    RACE, KILLED, LOSSES, LATE, HOST, FORK, REKEY, REKEY_KILLED, REKEY_HOST, DAYS, UNSEALED, COLD, THREE,
    ALONE,
)  # fmt: skip
