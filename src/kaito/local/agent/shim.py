"""The supervisor of one container process: a plain script, run as `python -I -S shim.py RUN_DIR`.

It outlives the node agent, so that a pod outlives it too: the agent reads here what became of a process that it did not
see end. It imports nothing of this package and little of the library, since one runs beside every container.

In RUN_DIR it reads `run.json` (argv, env, cwd, tty, stdin, exec, cgroup, log_bytes, cleanup), holds a lock on `lock`
while it lives, and writes `started.json`, `log` (CRI's format, rotated once to `log.1`) and `exit.json`, each whole or
not at all. A client of `attach.sock` gets the output as frames and may send input: one byte of type, four of length,
then the data. An `exec` run keeps no log, waits for its one client before it starts, and is killed when that client
leaves.

All of it is one file, however long: started with -I it has no path to import a second one from.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any

STDIN, STDOUT, STDERR, EXIT, RESIZE, CLOSE_STDIN = range(6)
"""Frame types. The agent's half is in `attach.py`."""
HEAD = struct.Struct(">BI")
CHUNK = 65536
LINE_LIMIT = 16384
CLIENT_LIMIT = 4 << 20
"""Bytes that an attached client may lag behind before it is cut off; an exec client holds its command back instead."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
START_ERROR = 128
IGNORED_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
RESTORED_SIGNALS = (*IGNORED_SIGNALS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)
"""What we or Python ignore is ignored across exec too, unless it is put back."""
LAST_WORDS_SECONDS = 2.0


def write_whole(path: str, content: dict[str, Any]) -> None:
    with open(path + ".part", "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would double the start time
        json.dump(content, file)
    os.rename(path + ".part", path)  # noqa: PTH104 - as above


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid, it names one process for good."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
        return int(file.read().rpartition(b")")[2].split()[19])


def out_of_memory_kills(cgroup: str) -> int:
    """How often the kernel killed for want of memory: in the container's group, or without one on the machine."""
    files = (f"{cgroup}/memory.events", f"{cgroup}/memory.oom_control") if cgroup else ("/proc/vmstat",)
    for name in files:
        with contextlib.suppress(OSError), open(name, "rb") as file:  # noqa: PTH123 - as above
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    return 0


def timestamp() -> str:
    nanoseconds = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 1_000_000_000))
    return f"{whole}.{nanoseconds % 1_000_000_000:09d}Z"


class Log:
    """Lines as CRI writes them: time, stream, F for a full line or P for a part of one, text."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._file = open("log", "ab", buffering=0)  # noqa: PTH123, SIM115 - open for the life of the process
        self._rest = {STDOUT: b"", STDERR: b""}

    def write(self, stream: int, data: bytes) -> None:
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        for line in lines:
            self._put(stream, b"F", line)
        while len(rest) > LINE_LIMIT:
            self._put(stream, b"P", rest[:LINE_LIMIT])
            rest = rest[LINE_LIMIT:]
        self._rest[stream] = rest

    def close(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._put(stream, b"P", rest)
        self._file.close()

    def _put(self, stream: int, tag: bytes, text: bytes) -> None:
        name = b"stdout" if stream == STDOUT else b"stderr"
        with contextlib.suppress(OSError):  # a full disk must not stop the container
            self._file.write(b"%s %s %s %s\n" % (timestamp().encode(), name, tag, text))
            if self._file.tell() > self._limit:
                self._file.close()
                os.rename("log", "log.1")  # noqa: PTH104 - as above
                self._file = open("log", "ab", buffering=0)  # noqa: PTH123, SIM115 - as above


class ClientConnection:
    """One attached client: what it still has to get, and the beginning of a frame that it sends."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.setblocking(False)
        self.outgoing = bytearray()
        self.incoming = bytearray()

    def send(self, kind: int, data: bytes) -> None:
        self.outgoing += HEAD.pack(kind, len(data)) + data

    def frames(self) -> list[tuple[int, bytes]]:
        found = []
        while len(self.incoming) >= HEAD.size:
            kind, length = HEAD.unpack_from(self.incoming)
            if len(self.incoming) < HEAD.size + length:
                break
            found.append((kind, bytes(self.incoming[HEAD.size : HEAD.size + length])))
            del self.incoming[: HEAD.size + length]
        return found


class Shim:
    def __init__(self, run: dict[str, Any]) -> None:
        self.run = run
        self.is_exec = bool(run.get("exec"))
        self.log = None if self.is_exec else Log(int(run.get("log_bytes") or 10 << 20))
        self.listener = listen()
        self.wake = catch_child_signals()
        self.clients: list[ClientConnection] = []
        self.outputs: dict[int, int] = {}
        self.input: int | None = None
        self.pending_input = bytearray()
        self.input_ends = False
        self.pid = 0
        self.status: int | None = None
        self.started_at = ""
        self.cgroup = str(run.get("cgroup") or "")
        self.kills_before = self.kills()

    def supervise(self) -> None:
        if self.is_exec:
            self.clients.append(ClientConnection(self.listener.accept()[0]))
        failure = self.start()
        while self.status is None or self.outputs:
            self.turn()
        if self.log:
            self.log.close()
        clean_up(self.run)
        result = self.result(failure)
        write_whole("exit.json", result)
        for client in self.clients:
            client.send(EXIT, json.dumps(result).encode())
            say_last_words(client, None if self.is_exec else LAST_WORDS_SECONDS)

    def start(self) -> str:
        """Start the container's process. Returns what went wrong, or an empty text."""
        ours, theirs = self.open_streams()
        failed_reading, failed_writing = os.pipe()
        self.started_at = timestamp()
        self.pid = os.fork()
        if self.pid == 0:
            become(self.run, theirs, failed_writing)
        for descriptor in {*theirs, failed_writing}:
            os.close(descriptor)
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        with open(failed_reading, "rb") as file:  # noqa: PTH123 - as above
            failure = file.read().decode()  # ends at once when exec succeeds: the other end closes on exec
        # Not before exec: until then the process ignores the signals that we ignore, and a SIGTERM would be lost.
        started = {"shim_pid": os.getpid(), "shim_ticks": start_ticks(os.getpid()), "pid": self.pid}
        write_whole("started.json", {**started, "ticks": start_ticks(self.pid), "started_at": self.started_at})
        return failure

    def open_streams(self) -> tuple[list[int], list[int]]:
        """Our ends of the container's streams, and its own ends: input, output, errors."""
        if self.run.get("tty"):
            terminal, theirs = os.openpty()
            self.input, self.outputs = terminal, {terminal: STDOUT}
            return [terminal], [theirs, theirs, theirs]
        if self.run.get("stdin"):
            theirs_in, self.input = os.pipe()
        else:
            theirs_in = os.open("/dev/null", os.O_RDONLY)
        ours_out, theirs_out = os.pipe()
        ours_err, theirs_err = os.pipe()
        self.outputs = {ours_out: STDOUT, ours_err: STDERR}
        ours = [ours_out, ours_err] + ([] if self.input is None else [self.input])
        return ours, [theirs_in, theirs_out, theirs_err]

    def turn(self) -> None:
        """Wait for whatever can go on, and let it."""
        wanted = {self.wake: select.POLLIN, self.listener.fileno(): select.POLLIN}
        held_back = self.is_exec and any(len(client.outgoing) > 4 * CHUNK for client in self.clients)
        if not held_back:
            wanted |= dict.fromkeys(self.outputs, select.POLLIN)
        if self.input is not None and self.pending_input:
            wanted[self.input] = wanted.get(self.input, 0) | select.POLLOUT
        may_read = select.POLLIN if len(self.pending_input) < CHUNK else 0
        by_descriptor = {client.socket.fileno(): client for client in self.clients}
        for descriptor, client in by_descriptor.items():
            wanted[descriptor] = may_read | (select.POLLOUT if client.outgoing else 0)
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        for descriptor, events in poll.poll():
            if descriptor == self.wake:
                self.reap()
            elif descriptor == self.listener.fileno():
                self.clients.append(ClientConnection(self.listener.accept()[0]))
            elif descriptor in by_descriptor:
                self.serve(by_descriptor[descriptor], events)
            else:
                self.move(descriptor, events)

    def move(self, descriptor: int, events: int) -> None:
        if descriptor == self.input and events & (select.POLLOUT | select.POLLERR):
            self.write_input()
        if descriptor in self.outputs and events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self.read_output(descriptor)

    def read_output(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal whose other side closed answers EIO
        stream = self.outputs[descriptor]
        if not data:
            del self.outputs[descriptor]
            if descriptor == self.input:
                self.input = None
            os.close(descriptor)
            return
        if self.log:
            self.log.write(stream, data)
        for client in list(self.clients):
            client.send(stream, data)
            if not self.is_exec and len(client.outgoing) > CLIENT_LIMIT:
                self.leave(client)

    def write_input(self) -> None:
        if self.input is None:
            return
        try:
            written = os.write(self.input, self.pending_input[:CHUNK])
        except BlockingIOError:
            return
        except OSError:
            self.pending_input.clear()  # the process does not read any more; what is sent to it is lost
            self.close_input()
            return
        del self.pending_input[:written]
        if self.input_ends and not self.pending_input:
            self.close_input()

    def close_input(self) -> None:
        if self.input is None:
            return
        if self.run.get("tty"):
            self.pending_input += b"\x04"  # a terminal has no end: it has the end-of-file character
            self.input_ends = False
        else:
            os.close(self.input)
            self.input = None

    def serve(self, client: ClientConnection, events: int) -> None:
        try:
            if events & select.POLLOUT:
                del client.outgoing[: client.socket.send(client.outgoing[:CHUNK])]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = client.socket.recv(CHUNK)
                if not data:
                    self.leave(client)
                    return
                client.incoming += data
        except BlockingIOError:
            return
        except OSError:
            self.leave(client)
            return
        for kind, content in client.frames():
            self.obey(kind, content)

    def obey(self, kind: int, content: bytes) -> None:
        if kind == STDIN and self.input is not None:
            self.pending_input += content
        elif kind == CLOSE_STDIN and not self.is_shared_input():
            self.input_ends = True
            if not self.pending_input:
                self.close_input()
        elif kind == RESIZE and self.run.get("tty") and self.input is not None:
            resize(self.input, content)

    def is_shared_input(self) -> bool:
        """A container's input stays open for the next client, unless it says stdinOnce."""
        return not self.is_exec and not self.run.get("stdin_once")

    def leave(self, client: ClientConnection) -> None:
        client.socket.close()
        if client in self.clients:
            self.clients.remove(client)
        if self.is_exec and self.status is None:
            kill_group(self.pid)

    def reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, CHUNK)
        if self.status is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            kill_group(self.pid)  # before its pid is reaped, and may name another group
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status
            if self.status is not None:
                kill_orphans()

    def result(self, failure: str) -> dict[str, Any]:
        code = os.waitstatus_to_exitcode(self.status or 0)
        killed = -code if code < 0 else 0
        return {
            "code": START_ERROR if failure else (128 + killed if killed else code),
            "signal": killed,
            "error": failure,
            "started_at": self.started_at,
            "finished_at": timestamp(),
            "out_of_memory": killed == signal.SIGKILL and self.kills() > self.kills_before,
        }

    def kills(self) -> int:
        return out_of_memory_kills(self.cgroup)


def listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("attach.sock")  # relative: the path of a socket is limited to 107 bytes
    listener.listen(8)
    return listener


def catch_child_signals() -> int:
    """A descriptor that becomes readable when a child ends."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def become(run: dict[str, Any], streams: list[int], failed: int) -> None:
    """In the child: turn into the container's process, or tell the parent why not. Never returns."""
    try:
        os.setsid()
        libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        if run.get("tty"):
            import termios

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.set_wakeup_fd(-1)
        for number in RESTORED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        join_cgroup(run)
        os.chdir(run["cwd"])
        os.execvpe(run["argv"][0], run["argv"], run["env"])  # noqa: S606 - the container's own command
    except OSError as error:
        os.write(failed, f"cannot start {run['argv'][0]!r}: {error.strerror}".encode())
    finally:
        os._exit(START_ERROR)


def join_cgroup(run: dict[str, Any]) -> None:
    if run.get("cgroup"):
        with open(run["cgroup"] + "/cgroup.procs", "w", encoding="ascii") as file:  # noqa: PTH123 - as above
            file.write("0")


def resize(descriptor: int, content: bytes) -> None:
    import termios

    columns, rows = struct.unpack(">HH", content)
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_orphans() -> None:
    """A container ends with its first process: end what left its group and fell to us as the subreaper."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123
        for child in file.read().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)


def clean_up(run: dict[str, Any]) -> None:
    """Removes the container whose engine's client this was: a killed client leaves it running."""
    if run.get("cleanup"):
        nothing = os.open("/dev/null", os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, nothing, number) for number in (0, 1, 2)]
        with contextlib.suppress(OSError):
            os.waitpid(os.posix_spawnp(run["cleanup"][0], run["cleanup"], run["env"], file_actions=actions), 0)
        os.close(nothing)


def say_last_words(client: ClientConnection, seconds: float | None) -> None:
    with contextlib.suppress(OSError):
        client.socket.settimeout(seconds)
        client.socket.sendall(client.outgoing)
        client.socket.shutdown(socket.SHUT_WR)
        while client.socket.recv(CHUNK):  # until the client has seen all of it and closes
            pass


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def main() -> None:
    os.chdir(sys.argv[1])
    lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.path.exists("closed"):  # noqa: PTH110 - as above
        return  # the agent gave this run up before we began
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    libc().prctl(PR_SET_CHILD_SUBREAPER, 1)
    with open("run.json", encoding="utf-8") as file:  # noqa: PTH123 - as above
        Shim(json.load(file)).supervise()


if __name__ == "__main__":
    main()
