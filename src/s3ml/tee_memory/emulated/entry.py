"""Becoming another program inside a node: enter, then execute it, so that all of its memory is inside.

Usage: ``python -m s3ml.tee_memory.emulated.entry FOLDER NODE SERVER COMMAND…``, FOLDER the state's; SERVER
may be empty for none.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from s3ml.primitives.errors import ConfigurationError, S3MLError
from s3ml.tee_memory.emulated.node import EmulatedNode
from s3ml.tee_memory.emulated.state import Registry

MODULE = "s3ml.tee_memory.emulated.entry"
_EXIT_INPUT = 2


def execute_inside(node: EmulatedNode, server: str | None, command: Sequence[str]) -> NoReturn:
    """Enter a node and become `command`: its status and its signals are this process's own.

    Args:
        node: An emulated node that is up.
        server: What its paging is attributed to; none where None.
        command: A program, searched for in ``PATH``, and its arguments.

    Raises:
        ConfigurationError: the node is not up, or there is no such program.
        UnavailableError: the kernel refuses.
    """
    if not command:
        raise ConfigurationError("emulated EPC: expected a command to run")
    node.enter(server)
    # Python ignores these; the program is to find them as a shell would give them.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - what the caller asked for, no shell
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"{command[0]}: cannot be run: {said}") from error


def entry_command(node: EmulatedNode, server: str) -> tuple[str, ...]:
    """Return arguments of this interpreter: it enters `server`, and becomes what is appended to them."""
    return ("-I", "-B", "-m", MODULE, str(node.registry.folder.absolute()), node.name, server)


def main(arguments: list[str]) -> int:
    """Enter and execute.

    Returns:
        The exit status, where the program was not reached.
    """
    folder, name, server, *command = arguments
    try:
        node = EmulatedNode(name=name, registry=Registry(folder=Path(folder)))
        execute_inside(node, server or None, command)
    except S3MLError as error:
        sys.stderr.write(f"s3ml: {error}\n")
        return _EXIT_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
