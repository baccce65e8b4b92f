"""Settings of every test: figures without a screen, one computing thread, no progress bars, a ledger of their own."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DCA_QUIET", "1")
_folder = tempfile.mkdtemp(prefix="dca-test-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["DCA_LEDGER"] = str(Path(_folder) / "ledger.jsonl")
