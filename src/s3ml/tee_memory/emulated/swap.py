"""Compressed memory as swap, where evicted pages go; a device of the machine that is free, or one more.

Every step may be repeated: whatever a killed command left is completed or taken back by the next.

Source: Documentation/admin-guide/blockdev/zram.rst; swapon(8). Swap space in memory costs about what an SGX
page costs: ADR 24.
"""

import contextlib
import subprocess

import msgspec

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.emulated.host import PROGRAM_PATH, Host, list_devices
from s3ml.tee_memory.emulated.state import Swap
from s3ml.tee_memory.reading import PAGE_BYTES

PAGE_CLUSTER = "proc/sys/vm/page-cluster"
ALGORITHM = "lz4"
HIGHEST_PRIORITY = 32767
_PROGRAM_DEADLINE_S = 60.0
_CONTROL = "sys/class/zram-control"


def plan_swap(host: Host) -> Swap:
    """Choose a device, and note how it was.

    Raises:
        UnavailableError: the kernel does not tell.
    """
    devices = list_devices(host)
    free = next((device for device in devices if is_free(host, device)), None)
    return Swap(
        device=free,
        is_added=free is None,
        algorithm_before=None if free is None else chosen_algorithm(host, free),
        devices_before=devices,
    )


def add_device(host: Host, swap: Swap) -> Swap:
    """Add a device where the machine had none to spare.

    Raises:
        UnavailableError: the kernel adds none.
    """
    if swap.device is not None:
        return swap
    device = int(host.read(f"{_CONTROL}/hot_add"))
    return msgspec.structs.replace(swap, device=device, algorithm_before=chosen_algorithm(host, device))


def start_swap(host: Host, swap: Swap) -> None:
    """Give the device a size, and swap to it before anything else.

    Raises:
        UnavailableError: the kernel or a program refuses.
    """
    device = f"sys/block/zram{swap.device}"
    if ALGORITHM in host.read(f"{device}/comp_algorithm").replace("[", "").replace("]", "").split():
        host.write(f"{device}/comp_algorithm", ALGORITHM)
    # A device has no more than what is stored in it: its size is only a limit.
    host.write(f"{device}/disksize", host.memory_bytes // 2 // PAGE_BYTES * PAGE_BYTES)
    path = str(_node_of(host, swap))
    _run("mkswap", path)
    _run("swapon", "--priority", str(HIGHEST_PRIORITY), path)
    host.write(PAGE_CLUSTER, 0)


def stop_swap(host: Host, swap: Swap, *, page_cluster_before: int) -> None:
    """Restore whatever was changed; nothing where nothing was.

    Raises:
        UnavailableError: the kernel or a program refuses; what was not restored still is in the state.
    """
    host.write(PAGE_CLUSTER, page_cluster_before)
    devices = list_devices(host)
    device = swap.device
    if device is None:  # A killed command may have added it without a word.
        new = [one for one in devices if one not in swap.devices_before and is_free(host, one)]
        device = new[-1] if new else None
    if device is None or device not in devices:
        return
    if f"/dev/zram{device}" in swap_devices(host):
        _run("swapoff", str(_node_of(host, swap)))
    if host.read(f"sys/block/zram{device}/initstate") != "0":
        host.write(f"sys/block/zram{device}/reset", 1)
    if swap.is_added:
        host.write(f"{_CONTROL}/hot_remove", device)
    elif swap.algorithm_before is not None and chosen_algorithm(host, device) != swap.algorithm_before:
        host.write(f"sys/block/zram{device}/comp_algorithm", swap.algorithm_before)


def is_free(host: Host, device: int) -> bool:
    """Tell whether nobody uses a device.

    Raises:
        UnavailableError: the kernel does not tell.
    """
    return host.read(f"sys/block/zram{device}/disksize") == "0"


def chosen_algorithm(host: Host, device: int) -> str | None:
    """Return how a device compresses, or None where the kernel marks nothing."""
    with contextlib.suppress(UnavailableError):
        for word in host.read(f"sys/block/zram{device}/comp_algorithm").split():
            if word.startswith("["):
                return word.strip("[]")
    return None


def swap_devices(host: Host) -> tuple[str, ...]:
    """Return the files that this machine swaps to.

    Raises:
        UnavailableError: the kernel does not tell.
    """
    return tuple(line.split()[0] for line in host.read("proc/swaps").splitlines()[1:] if line.strip())


def _node_of(host: Host, swap: Swap) -> object:
    return host.root / f"dev/zram{swap.device}"


def _run(program: str, *arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed programs of the system, no shell
            [program, *arguments],
            env={"PATH": PROGRAM_PATH, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROGRAM_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"emulated EPC: {program}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
        raise UnavailableError(f"emulated EPC: {program}: {said[-1][:200]}")
