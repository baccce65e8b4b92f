"""A class graded on several machines: `dca grade --scheduler ADDRESS`, on Dask distributed.

    dask scheduler                                   on one machine
    dask worker tcp://HOST:8786 --nthreads 1 ...     on each that helps, with this package installed
    dca grade LAB SUBMISSIONS --out RESULTS --scheduler tcp://HOST:8786

What travels is bytes: the lab's files and one notebook a task. A worker keeps a sandbox for each of its threads, so
student code never runs in its process, and what comes back is a record, which the caller writes at once. When a worker
dies, the scheduler gives its submissions to another; a submission that was lost with several workers becomes a
"grader error". Each submission is one task and gives one record, so nothing is counted twice. If all workers are gone,
grading waits for new ones; stop it, and `--resume` goes on. The sandbox level is chosen here and used everywhere.
What this is *not*: safe on an open network. Who reaches the scheduler can run code on the workers, and lab and seed
travel as they are: use a private network, or Dask's TLS.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dca_lab.grading.exercise import Lab, load_lab
from dca_lab.grading.grade import Record
from dca_lab.grading.job import Job, failed, grade_twice
from dca_lab.grading.lab_folder import FILES
from dca_lab.grading.notebook import Unreadable
from dca_lab.grading.records import RunError
from dca_lab.grading.sandbox import Sandbox
from dca_lab.grading.submissions import Submission

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 4  # tasks for each thread that are on their way; the notebooks of a whole class may be gigabytes
_own = threading.local()  # on a worker: the sandbox of this thread


@dataclass(frozen=True)
class Sent(Submission):
    """A submission that carries its bytes."""

    data: bytes = b""

    def read(self) -> bytes:
        """The bytes; Unreadable with the problem."""
        if self.problem:
            raise Unreadable(self.problem)
        return self.data


@dataclass(frozen=True)
class SentLab:
    """A lab as its files: (name, bytes) of each."""

    name: str
    digest: str
    files: tuple[tuple[str, bytes], ...]


def graded_there(
    lab: Lab, jobs: Sequence[Job], *, scheduler: str, seed: str, level: str, patience: float = 60
) -> Iterator[Record]:
    """Grade on the workers of a Dask scheduler; records come in the order in which they are ready.

    Parameters
    ----------
    lab : Lab
    jobs : list of Job
    scheduler : str
        Its address.
    seed : str
        The run's secret.
    level : str
        The sandbox, which every worker must have.
    patience : float
        Seconds to wait for the scheduler and for its first worker.

    Raises
    ------
    RunError
        If Dask is not installed, or nobody answers.
    """
    if not jobs:
        return
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise RunError("--scheduler needs Dask: pip install 'dca-lab[grade]'") from None
    parcel = SentLab(lab.name, lab.digest, tuple(_files(lab)))
    with _connected(Client, scheduler, patience) as client:
        threads = sum(client.nthreads().values())
        waiting, known = iter(jobs), {}

        def send() -> list[Future]:
            """The next submission on its way."""
            futures = []
            for job in islice(waiting, 1):
                future = client.submit(_work, parcel, sent(job), seed, level, pure=False)
                known[future.key] = job
                futures.append(future)
            return futures

        ready = as_completed([future for _ in range(AHEAD * threads) for future in send()])
        for future in ready:
            job = known.pop(future.key)
            try:
                yield future.result()
            except Exception as error:  # of the task, or because it was lost with several workers
                yield failed(lab, job, error, level=level)
            future.release()
            ready.update(send())


def sent(job: Job) -> Job:
    """The job with the bytes of its submission in it, or with the reason why there are none."""
    one = job.submission
    fields = {name: getattr(one, name) for name in one.__dataclass_fields__}
    try:
        return replace(job, submission=Sent(**fields, data=one.read()))
    except (Unreadable, OSError) as error:
        return replace(job, submission=Sent(**fields | {"problem": str(error)}))


def _files(lab: Lab) -> Iterator[tuple[str, bytes]]:
    for name in FILES:
        if (lab.folder / name).is_file():
            yield name, (lab.folder / name).read_bytes()


def _connected(client: type[Client], scheduler: str, patience: float) -> Client:
    try:
        found = client(scheduler, timeout=patience)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise RunError(
            f"no Dask scheduler answers at {scheduler} ({error}): start one with `dask scheduler`"
        ) from None
    try:
        found.wait_for_workers(1, timeout=patience)
    except OSError:
        found.close()
        raise RunError(
            f"the scheduler at {scheduler} has no workers: start some with `dask worker {scheduler}`"
        ) from None
    return found


def _work(parcel: SentLab, job: Job, seed: str, level: str) -> Record:
    """On a worker: one submission, tried twice, the second time with a new sandbox."""
    lab = _unpacked(parcel)

    def drop() -> None:
        if (sandbox := _sandboxes().pop((lab.digest, level), None)) is not None:
            sandbox.close()

    return grade_twice(lab, job, lambda: _sandbox(lab, level), drop, seed=seed, level=level)


def _sandboxes() -> dict[tuple[str, str], Sandbox]:
    if not hasattr(_own, "sandboxes"):
        _own.sandboxes = {}
    return _own.sandboxes


def _sandbox(lab: Lab, level: str) -> Sandbox:
    """This thread's sandbox; one for another lab or level is closed, since each holds a process with torch."""
    mine, name = _sandboxes(), (lab.digest, level)
    if name not in mine:
        while mine:
            mine.popitem()[1].close()
        mine[name] = Sandbox(level=level, **lab.sandbox)
    return mine[name]


@lru_cache(maxsize=8)
def _unpacked(parcel: SentLab) -> Lab:
    """The lab from its files, once for each worker process, which removes them when it ends."""
    top = tempfile.mkdtemp(prefix="dca-lab-")
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    folder = Path(top) / parcel.name
    folder.mkdir()
    for name, data in parcel.files:
        (folder / name).write_bytes(data)
    lab = load_lab(folder)
    if lab.digest != parcel.digest:
        raise RuntimeError("the lab was changed while its class was graded")
    return lab
