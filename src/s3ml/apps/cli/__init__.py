"""The command line `s3ml`: one module per group of commands, loaded when it is asked for.

Invariants: an error of ours is one line on standard error and an exit status from `EXIT_STATUS`; a traceback
is shown only under ``S3ML_TRACEBACK=1``.
"""

import sys

__all__ = ["main"]

_LIBRARIES = ("click", "rich")


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from s3ml.apps.cli.root import run  # noqa: PLC0415 - so that Ctrl-C during imports is caught too

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("s3ml: interrupted\n")
        status = 130
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        sys.stderr.write("s3ml: the command line is an extra: pip install 's3ml[cli]'\n")
        status = 2
    sys.exit(status)
