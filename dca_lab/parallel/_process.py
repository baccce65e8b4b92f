"""What a launched process does: join the group, run the task, leave the result or the traceback in the folder.

Its own death is arranged first: a thread waits for the end of the process that launched it. It is *not* called
by hand; `launch.py` is the other side.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import psutil
import torch
import torch.distributed as dist


def main(rank: int, world_size: int, folder: str, threads: int, timeout: float) -> None:
    """Process `rank` of `world_size`: the task and the result are files in `folder`."""
    threading.Thread(target=_die_with_parent, args=(folder,), daemon=True).start()
    try:
        torch.set_num_threads(threads)
        # Written by the launching process into a folder that only this user can read: pickles are safe here.
        function, args = torch.load(Path(folder) / "task.pt", mmap=True, weights_only=False)
        _join_group(rank, world_size, folder, timeout)
        result = function(*args)
        _write(Path(folder) / f"result-{rank}.pt", lambda path: torch.save(result, path))
        dist.barrier()  # who leaves early closes connections that others may still be setting up
        dist.destroy_process_group()
    except BaseException:  # SystemExit too: no process may end without a word
        # The file is there before the connections close: what the others then complain about is later.
        text = traceback.format_exc()
        _write(Path(folder) / f"error-{rank}.txt", lambda path: path.write_text(text, encoding="utf-8"))
        sys.exit(1)


def _write(path: Path, write) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial")
    write(partial)
    os.replace(partial, path)


def _die_with_parent(folder: str) -> None:
    wait([multiprocessing.parent_process().sentinel])
    shutil.rmtree(folder, ignore_errors=True)  # nobody else is left to do it
    os._exit(1)


def _join_group(rank: int, world_size: int, folder: str, timeout: float) -> None:
    loopback = [
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(address.address == "127.0.0.1" for address in addresses)
    ]
    if loopback and os.name == "posix":  # otherwise gloo resolves the machine's name, which may lead outside
        os.environ["GLOO_SOCKET_IFNAME"] = loopback[0]
    with _no_stdout():
        dist.init_process_group(
            "gloo",
            store=dist.FileStore(str(Path(folder) / "store"), world_size),
            rank=rank,
            world_size=world_size,
            timeout=datetime.timedelta(seconds=timeout),
        )


@contextmanager
def _no_stdout() -> Iterator[None]:
    """Some versions of gloo announce each connection on the standard output, from C++."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)
