"""What is wrong with an inference request, with the status that answers it.

Source: Open Inference Protocol, "HTTP/REST", error responses.
"""

from s3ml.primitives.errors import ConfigurationError


class OIPError(ConfigurationError):
    """An inference request, or an answer to one, is wrong.

    Args:
        message: One line: what was expected, what was got.
        status: What a server answers with: 400, or 404 or 405 for a path or a model that is not there.
        allow: With 405, the method that the path has.
    """

    def __init__(self, message: str, *, status: int = 400, allow: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.allow = allow
