"""Settings of every test: figures without a screen, one computing thread, no progress bars, a ledger of their own."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DCA_QUIET", "1")
os.environ["DCA_LEDGER"] = str(Path(tempfile.mkdtemp(prefix="dca-test-")) / "ledger.jsonl")
