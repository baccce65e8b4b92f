"""Build the book: write the labs' student copies, execute what is stale, render every page, warnings being errors.

python book/build.py [--root FOLDER] [--execute-only] [--workers N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from execute import execute
from labs import write_copies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parent.parent, help="folder of _toc.yml"
    )
    parser.add_argument("--execute-only", action="store_true", help="fill the cache, render nothing")
    parser.add_argument("--workers", type=int, help="notebooks at a time (default: one a core)")
    args = parser.parse_args()
    root = args.root.resolve()

    write_copies(root)
    ran = execute(root, root / "_build" / ".jupyter_cache", workers=args.workers)
    print(f"{len(ran)} notebooks executed, the others taken from the cache", flush=True)
    if args.execute_only:
        return 0
    command = [Path(sys.executable).with_name("jupyter-book"), "build", str(root), "-W", "--keep-going", "-q"]
    status = subprocess.run(command, check=False).returncode
    first = root / "_build" / "html" / "index.html"
    if status or not first.is_file():
        print("the book was not built: the warnings above are errors here", file=sys.stderr)
        return status or 1
    print(f"\nThe book is built. Open {first.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
