"""What a balancer knows of simulated servers: its own counts and timings, and the readings that reached it."""

from collections.abc import Mapping, Sequence

from s3ml.scheduling.balancer import Replica, View
from s3ml.scheduling.balancer.timing import CountedTiming, SampledTiming
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.serving import Request, Server
from s3ml.simulator.steering_kind import Steering
from s3ml.tee_memory.reading import Reading
