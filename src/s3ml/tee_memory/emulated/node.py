"""A node whose EPC is emulated: brought up, entered by its servers, read, resized, brought down.

All changes to the machine go through here: under the registry's lock, written down first, each repeatable.
EMULATED: it makes co-located servers contend and page for real, and measures no SGX hardware (ADR 24).
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import msgspec

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.names import check_name
from s3ml.tee_memory.emulated.group import LEAST_BYTES, NO_LIMIT, PARENT, Group, check_size
from s3ml.tee_memory.emulated.holder import holder_of, is_alive
from s3ml.tee_memory.emulated.host import Host, check_host
from s3ml.tee_memory.emulated.source import EmulatedSource
from s3ml.tee_memory.emulated.state import Holder, Node, Registry, State
from s3ml.tee_memory.emulated.swap import PAGE_CLUSTER, add_device, plan_swap, start_swap, stop_swap

GRACE_S = 2.0
_PR_SET_THP_DISABLE = 41
_HOLDER_DEADLINE_S = 60.0
_END_DEADLINE_S = 30.0
_POLL_S = 0.02
_EVICTION_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedNode:
    """One node; a value that names it, so that any process may hold one.

    Args:
        name: Of the node, among those of this machine.
        registry: Where the machine's state lies.
        host: The machine.
        monotonic_s: The clock of its sources.
    """

    name: str
    registry: Registry = field(default_factory=Registry)
    host: Host = field(default_factory=Host)
    monotonic_s: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        check_name(self.name, what="node")

    def up(self, *, size_bytes: int) -> Self:
        """Bring the node up. One that a killed command left, or whose holder was killed, is healed.

        Args:
            size_bytes: Of its EPC; whole pages, 4 MiB at least.

        Raises:
            ConfigurationError: it is up already, the size is none, this machine cannot, or another state
                folder's nodes are up.
            UnavailableError: the kernel or a program refuses; what was done so far was undone.
        """
        check_size(size_bytes)
        check_host(self.host)
        with self.registry.locked():
            state = self._current_state()
            known = None if state is None else state.nodes.get(self.name)
            if known is not None and is_alive(known.holder):
                raise ConfigurationError(
                    f"emulated EPC: {self.name} is up: resize it, or bring it down first"
                )
            if state is not None and not state.nodes:  # A killed command left it half done.
                self._restore_machine(state)
                state = None
            try:
                self._bring_up(state, size_bytes)
            except BaseException:
                if known is None:
                    self._bring_down(grace_s=0.0)
                raise
        return self

    def down(self, *, grace_s: float = GRACE_S) -> bool:
        """Bring the node down: what runs in it ends, and with the last node every setting is restored.

        Args:
            grace_s: How long processes may take to end before they are killed.

        Returns:
            Whether there was anything to do.

        Raises:
            ConfigurationError: this process is not root's, or the state cannot be read.
            UnavailableError: the kernel refuses; what is left to do stays in the state for another try.
        """
        if os.geteuid() != 0:
            raise ConfigurationError("emulated EPC: expected to run as root")
        with self.registry.locked():
            return self._bring_down(grace_s=grace_s)

    def resize(self, size_bytes: int) -> None:
        """Give the node another size, and wait until it holds.

        Raises:
            ConfigurationError: the size is none, or the node is not up.
            UnavailableError: the pages could not be evicted in time; they still are, little by little.
        """
        check_size(size_bytes)
        with self.registry.locked():
            state, node = self._known()
            # The holder comes back to the size in the state: it is there first.
            changed = msgspec.structs.replace(node, size_bytes=size_bytes)
            self.registry.write(state.with_node(self.name, changed))
            self.group().set_limit(size_bytes)

    def evict(self) -> None:
        """Evict whatever can be, once: what is used comes back by itself, and no more than that.

        Raises:
            ConfigurationError: the node is not up.
            UnavailableError: it went down just now.
        """
        with self.registry.locked():
            _, node = self._known()
            group = self.group()
            for _ in range(_EVICTION_TRIES):
                if group.try_limit(LEAST_BYTES):
                    break
            group.set_limit(node.size_bytes)

    def enter(self, server: str | None = None) -> None:
        """Move this process into the node, with what it runs from now on; before `exec`, or after a fork.

        From then on it uses small pages alone, as an enclave does. What it has in memory stays outside.

        Args:
            server: The server of the node that its paging is attributed to; none where None.

        Raises:
            ConfigurationError: the node is not up, or a name is none.
            UnavailableError: the kernel refuses.
        """
        group = self.existing_group()
        if server is not None:
            group = group.server(server)
            group.create()
        if ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0):
            raise UnavailableError("emulated EPC: the kernel does not disable large pages")
        group.enter()

    def source(self) -> EmulatedSource:
        """Return a source of the whole node's counts, to be closed.

        Raises:
            ConfigurationError: the node is not up.
            UnavailableError: it went down just now.
        """
        group = self.existing_group()
        return EmulatedSource(group.path, name=f"emulated EPC {self.name}", monotonic_s=self.monotonic_s)

    def server_source(self, server: str) -> EmulatedSource:
        """Return a source of one server's counts, to be closed; its capacity is the node's.

        Raises:
            ConfigurationError: the node is not up, or nothing entered that server.
            UnavailableError: it went down just now.
        """
        group = self.existing_group().server(server)
        if not group.is_there:
            raise ConfigurationError(f"emulated EPC: {self.name}: nothing entered the server {server}")
        name = f"emulated EPC {self.name}/{server}"
        return EmulatedSource(group.path, name=name, monotonic_s=self.monotonic_s)

    def servers(self) -> tuple[str, ...]:
        """Return the servers that were entered, in alphabetical order.

        Raises:
            ConfigurationError: the node is not up.
        """
        return self.existing_group().servers()

    def size_bytes(self) -> int:
        """Return the size of its EPC.

        Raises:
            ConfigurationError: the node is not up.
        """
        return self._known()[1].size_bytes

    def group(self) -> Group:
        """Return its group, there or not.

        Raises:
            ConfigurationError: this machine has no controller.
        """
        return Group(path=self._parent().path / self.name)

    def existing_group(self) -> Group:
        """Return its group.

        Raises:
            ConfigurationError: the node is not up.
        """
        group = self.group()
        if not group.is_there:
            raise ConfigurationError(
                f"emulated EPC: {self.name} is not up: s3ml epc-emulate up {self.name} --size MIB"
            )
        return group

    def _parent(self) -> Group:
        controller = self.host.controller()
        if controller is None:
            raise ConfigurationError(
                "emulated EPC: this machine lacks the memory controller of cgroup version 1"
            )
        return Group(path=controller / PARENT)

    def _known(self) -> tuple[State, Node]:
        state = self.registry.read()
        if state is None or self.name not in state.nodes:
            raise ConfigurationError(
                f"emulated EPC: {self.name} is not up: s3ml epc-emulate up {self.name} --size MIB"
            )
        return state, state.nodes[self.name]

    def _current_state(self) -> State | None:
        """Return the state; one of an earlier run of the kernel has nothing left to restore."""
        state = self.registry.read()
        if state is not None and state.boot_id != self.host.boot_id:
            self.registry.write(None)
            return None
        return state

    def _bring_up(self, state: State | None, size_bytes: int) -> None:
        if state is None:
            state = self._prepare_machine()
        group = self.group()
        self.registry.write(state.with_node(self.name, Node(size_bytes=size_bytes)))
        group.create()
        group.forbid_killing()
        holder = self._start_holder(group)
        group.set_limit(size_bytes)
        self.registry.write(state.with_node(self.name, Node(size_bytes=size_bytes, holder=holder)))

    def _prepare_machine(self) -> State:
        """Do what the first node needs: the parent group, which no other state may have, and swap."""
        parent = self._parent()
        if parent.is_there:
            raise ConfigurationError(
                f"emulated EPC: {parent.path} is there, and {self.registry.folder} knows nothing of it: "
                "use the --state that its nodes were brought up with"
            )
        state = State(
            boot_id=self.host.boot_id,
            page_cluster_before=int(self.host.read(PAGE_CLUSTER)),
            swap=plan_swap(self.host),
            nodes={},
        )
        self.registry.write(state)
        parent.create()
        state = msgspec.structs.replace(state, swap=add_device(self.host, state.swap))
        self.registry.write(state)
        start_swap(self.host, state.swap)
        return state

    def _start_holder(self, group: Group) -> Holder:
        words = ("-I", "-B", "-m", "s3ml.tee_memory.emulated.holder")
        command = [sys.executable, *words, self.name, str(group.path), str(self.registry.folder.absolute())]
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, no shell
                command,
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_HOLDER_DEADLINE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"emulated EPC: its holder does not start: {error}") from error
        text = done.stdout.decode(errors="replace").strip()
        holder = holder_of(int(text)) if text.isdecimal() else None
        if holder is None:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
            raise UnavailableError(f"emulated EPC: its holder does not start: {said[-1][:200]}")
        return holder

    def _bring_down(self, *, grace_s: float) -> bool:
        state = self._current_state()
        if state is None:
            return False
        node = state.nodes.get(self.name)
        if node is not None:
            group = self.group()
            if group.is_there:
                # Nobody waits for memory any more, and so everybody can end.
                group.set_limit(NO_LIMIT)
                group.end_members(grace_s=grace_s)
            _end_holder(node.holder)
            group.remove()
            state = state.with_node(self.name, None)
            self.registry.write(state)
        if state.nodes:
            return node is not None
        self._restore_machine(state)
        return True

    def _restore_machine(self, state: State) -> None:
        stop_swap(self.host, state.swap, page_cluster_before=state.page_cluster_before)
        self._parent().remove()
        self.registry.write(None)


def _end_holder(holder: Holder | None) -> None:
    """End a holder, if it is still that process.

    Raises:
        UnavailableError: it does not end.
    """
    if holder is None or not is_alive(holder):
        return
    os.kill(holder.pid, signal.SIGTERM)
    end = time.monotonic() + _END_DEADLINE_S
    while is_alive(holder):
        if time.monotonic() > end:
            raise UnavailableError(f"emulated EPC: its holder, process {holder.pid}, does not end")
        time.sleep(_POLL_S)
