"""The command: ``python -m bench [NAME ...] [--seeds 3] [--quick] [--out FILE]``.

Runs the named comparisons (all without a name), prints their tables, and writes the rows with the versions
and the command that made them. It asserts nothing: a comparison reports, the tests hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: one computing thread, so that CPU times compare

import torch  # noqa: E402
from tqdm import tqdm  # noqa: E402

from bench import COMPARISONS, comparison  # noqa: E402
from bench.common import PEERS, installed, versions  # noqa: E402
from dca_lab.progress import hidden  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / "_build" / "bench.json"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure beside other libraries.")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"of: {', '.join(COMPARISONS)} (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of what is random (default: 3)")
    parser.add_argument("--quick", action="store_true", help="tiny networks: shows that it runs")
    parser.add_argument(
        "--out", type=Path, default=OUT, help="JSON file to write (default: _build/bench.json)"
    )
    chosen = parser.parse_args(argv)
    unknown = [name for name in chosen.names if name not in COMPARISONS]
    if unknown:
        parser.error(f"there is no comparison {unknown[0]!r}: choose of {', '.join(COMPARISONS)}")
    if chosen.seeds < 1:
        parser.error(f"--seeds {chosen.seeds}: give at least 1")
    return chosen


def _write(path: Path, content: dict) -> None:
    """The whole file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main(argv: list[str] | None = None) -> int:
    """Runs the comparisons; returns 0, whatever the figures are."""
    chosen = _arguments(argv)
    names = chosen.names or list(COMPARISONS)
    torch.set_num_threads(1)
    options = {"seeds": chosen.seeds, "quick": chosen.quick}
    if missing := [peer for peer in PEERS if not installed(peer)]:
        print(
            f"not installed (pip install '.[bench]'): {', '.join(missing)}: their rows say so",
            file=sys.stderr,
        )
    result = {
        "command": shlex.join(["python", "-m", "bench", *(sys.argv[1:] if argv is None else argv)]),
        "versions": {"python": platform.python_version(), **versions()},
        "threads": torch.get_num_threads(),
        **options,
        "rows": {},
    }
    for name in names:
        module, began = comparison(name), time.monotonic()
        with tqdm(total=module.steps(**options), desc=name, leave=False, disable=hidden()) as bar:

            def tick(text: str, bar: tqdm = bar) -> None:
                bar.set_postfix_str(text, refresh=False)
                bar.update()

            result["rows"][name] = module.run(**options, tick=tick)
        print(f"\n{module.TITLE}\n\n{module.report(result['rows'][name])}")
        print(f"({time.monotonic() - began:.0f} s)")
        _write(chosen.out, result)
    print(f"\nrows: {chosen.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
