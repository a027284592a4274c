"""The memory that TEEs of a host share: how full it is, and how much it pages.

Readers take their roots as parameters, so that they are tested on recorded trees.
"""

from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Counts, Kind, Reading, Source, compare
from s3ml.tee_memory.readings import NodeReadings, ReadingsMalformedError, decode
from s3ml.tee_memory.sampler import Sampler, Servers

__all__ = [
    "PAGE_BYTES",
    "Confidence",
    "Counts",
    "Kind",
    "NodeReadings",
    "Reading",
    "ReadingsMalformedError",
    "Sampler",
    "Servers",
    "Source",
    "compare",
    "decode",
]
