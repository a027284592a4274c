"""Storage in PostgreSQL, shared by any number of replicas.

Imported only where a setting names such a database: the driver is in no other process.
"""

from s3ml.keyservice.storage.postgresql.session import Timeouts
from s3ml.keyservice.storage.postgresql.storage import PostgreSQLStorage

__all__ = ["PostgreSQLStorage", "Timeouts"]
