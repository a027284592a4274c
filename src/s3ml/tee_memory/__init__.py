"""The memory that TEEs of a host share: how full it is, and how much it pages.

Readers take their roots as parameters, so that they are tested on recorded trees.
"""

from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Counts, Kind, Reading, Source, compare

__all__ = ["PAGE_BYTES", "Confidence", "Counts", "Kind", "Reading", "Source", "compare"]
