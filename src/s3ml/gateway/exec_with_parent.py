"""Become another program that dies with the process that asked for it; run as a script.

A process started this way needs no code between fork and exec of a threaded parent. Linux sends the signal
when the *thread* that started it ends: start it from one that lives as long as it should.

Usage: ``python -I -S exec_with_parent.py PARENT_PID PROGRAM [ARGUMENT…]``.

Source: prctl(2), PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask for SIGKILL at the parent's death, then become the program."""
    parent_pid, program = int(arguments[0]), arguments[1]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:  # It died before the request took effect.
        sys.exit(1)
    os.execv(program, arguments[1:])  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
