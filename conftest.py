"""Property tests have no deadline of wall-clock time, and leave no database behind."""

from hypothesis import settings

settings.register_profile("s3ml", deadline=None, database=None)
settings.load_profile("s3ml")
