"""The grader's side of the zygote: starts it, asks it for children, ends it, and starts it anew when it died.

Every wait has an end. A zygote that does not answer is killed and replaced at the next request; whatever happens to it,
the caller sees a working zygote or a SandboxError.

What this is *not*: a partner of student code; see `channel.py` for that line.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from dca_lab.grading.sandbox import bubblewrap, levels, overlay, places, watch
from dca_lab.grading.sandbox.inside import landlock
from dca_lab.grading.sandbox.inside.wipe import wipe
from dca_lab.grading.sandbox.limits import Limits, SandboxError

START = "import sys; sys.path.insert(0, sys.argv[1]); import json; from dca_lab.grading.sandbox.inside import zygote; "
START += "zygote.main(int(sys.argv[2]), json.loads(sys.argv[3]))"
FIRST_USER = 62000  # beneath the numbers that systemd gives to services
_NUMBERS = itertools.count()
CREDENTIALS = struct.Struct("3i")


class Keeper:
    """One zygote at a time, in the level `level`, with the overlay's helpers and files."""

    def __init__(
        self,
        level: str,
        helpers: Iterable[str],
        files: Iterable[Path],
        optimizers: bool,
        limits: Limits,
    ) -> None:
        self.level, self.limits, self._number = level, limits, next(_NUMBERS)
        self._optimizers = optimizers
        self._top = Path(tempfile.mkdtemp(prefix="dca-grade-"))
        self._top.chmod(0o711)  # another user walks through, and lists nothing
        self._overlay = self._top / "overlay"
        self._overlay.mkdir()
        self._private: Path | None = None
        self._line: socket.socket | None = None
        self._process: subprocess.Popen | None = None
        self.pid: int | None = None
        try:
            overlay.build(self._overlay, helpers, files)
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> str:
        """The private folder as the grader sees it; that of bubblewrap is in another world, behind its process."""
        return (
            f"/proc/{self.pid}/root{bubblewrap.private()}"
            if self.level == "bubblewrap"
            else str(self._private)
        )

    def start(self) -> None:
        """Start a zygote and wait until it has loaded everything."""
        self.stop()
        self._private = Path(tempfile.mkdtemp(prefix="dca-work-", dir=_memory(self.limits)))
        self._private.chmod(0o711)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        line = [*self._command(), "-c", START, *self._inside(theirs.fileno())]
        with theirs, tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                line, env=self._environment(), pass_fds=[theirs.fileno()], cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                start_new_session=True,  # Ctrl-C is for the grader, which then ends its zygotes
            )  # fmt: skip
            theirs.close()
            self._line = ours
            try:
                ours.settimeout(120)
                message, control, _, _ = ours.recvmsg(1 << 16, socket.CMSG_SPACE(CREDENTIALS.size))
                if not message:
                    raise OSError("it ended")
            except OSError as error:
                self.stop()
                said.seek(0)
                last = said.read()[-2000:].decode("utf-8", "replace").strip()
                raise SandboxError(f"the {self.level} sandbox did not start ({error}): {last}") from error
        self.pid = sender(control)

    def child(self, limits: Limits) -> tuple[socket.socket, int | None]:
        """The grader's end of the line to a new child, and the child's number."""
        for attempt in range(2):
            ours, theirs = socket.socketpair()
            try:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                request = {
                    "limits": asdict(limits),
                    "address_space": watch.address_space(self.pid) + limits.memory,
                }
                with theirs:
                    answer = self._ask(request, theirs)
                if "pid" not in answer:
                    raise OSError(answer.get("error", "the zygote is gone"))
                ours.settimeout(30)
                hello, control, _, _ = ours.recvmsg(512, socket.CMSG_SPACE(CREDENTIALS.size))
                if hello != b"!":
                    raise OSError(
                        f"the walls did not stand: {hello[1:].decode('utf-8', 'replace') or 'no word'}"
                    )
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
                return ours, sender(control)
            except OSError as error:
                ours.close()
                if attempt:
                    raise SandboxError(f"no process for a student could be started: {error}") from error
                self.start()
        raise AssertionError("unreachable")

    def end_child(self) -> dict:
        """Kill the running child: its exit status (negative: the signal) and CPU seconds, where known."""
        try:
            return self._ask({"stop": True}) if self._line is not None else {}
        except OSError:
            self.stop()
            return {}

    def _ask(self, request: dict, end: socket.socket | None = None) -> dict:
        if self._line is None:
            self.start()
        self._line.settimeout(20)
        socket.send_fds(self._line, [json.dumps(request).encode()], [] if end is None else [end.fileno()])
        message = self._line.recv(1 << 16)
        if not message:
            raise ConnectionError("the zygote is gone")
        return json.loads(message)

    def stop(self) -> None:
        """End the zygote and its child."""
        if self._line is not None:
            self._line.close()  # what a zygote waits for
            self._line = None
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                for pid in (self.pid, self._process.pid):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL) if pid else None
                self._process.wait()
            self._process = None
        self.pid = None
        if self._private is not None:
            with suppress(OSError):  # the zygote removes it too, for the case that the grader is killed
                wipe(str(self._private))
                self._private.rmdir()
            self._private = None

    def close(self) -> None:
        """End everything and remove the folders."""
        self.stop()
        shutil.rmtree(self._top, ignore_errors=True)

    def _command(self) -> list[str]:
        python = [
            places.interpreter(),
            "-I",
            "-S",
            "-X",
            "utf8",
        ]  # no user site, no .pth files, no environment
        if self.level == "bubblewrap":
            return [*bubblewrap.command(str(self._overlay), self.limits, self._environment()), *python]
        return python

    def _environment(self) -> dict[str, str]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "MPLBACKEND": "Agg",
            "MALLOC_ARENA_MAX": "2",
            **threads,
            **kept,
        }

    def _inside(self, control: int) -> list[str]:
        """Arguments of the zygote: its overlay, its end of the control socket, its settings."""
        wrapped, walls = self.level == "bubblewrap", self.level != "trusted"
        top = bubblewrap.OVERLAY if wrapped else str(self._overlay)
        readable, listable = places.split(places.roots(), places.hidden())
        root = os.geteuid() == 0
        # one for each sandbox: the limit on threads counts those of all processes of a user
        become = (
            FIRST_USER + (17 * os.getpid() + self._number) % 2000 if root and walls and not wrapped else None
        )
        settings = {
            "site": list(places.packages()),
            "private": bubblewrap.private() if wrapped else str(self._private),
            "walls": walls,
            "optimizers": self._optimizers,
            "landlock": walls and landlock.version() > 0,
            "readable": [*readable, *places.DEVICES, top],
            "listable": listable,
            "uid": become,
            "keep_reading": become is not None and levels.closed_to_others() is not None,
            "count_threads": become is not None or (wrapped and not root),
        }
        return [top, str(control), json.dumps(settings)]


def _memory(limits: Limits) -> str | None:
    """A file system in memory for the private folder, if it is roomy: files come and go faster there than on a disk."""
    place = "/dev/shm"
    try:
        room = os.statvfs(place)
    except OSError:
        return None
    return (
        place
        if os.access(place, os.W_OK) and room.f_bavail * room.f_frsize > 16 * limits.file_bytes
        else None
    )


def sender(control: list) -> int | None:
    """Who sent a message, as the kernel tells it: the process number as seen from here."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(data) == CREDENTIALS.size:
            return CREDENTIALS.unpack(data)[0] or None
    return None
