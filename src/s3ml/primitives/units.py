"""Units by name, so that no constant hides one in a comment."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

US_PER_S = 1_000_000
MINUTE_S = 60
HOUR_S = 60 * MINUTE_S
DAY_S = 24 * HOUR_S
