"""Our techniques beside other libraries: the same model, data, epochs and seeds, in one process.

``python -m bench`` (or ``make bench``) runs every comparison and writes what it measured to
``_build/bench.json``. One file is one comparison: a ``TITLE``, ``run(...)`` that gives rows of plain
numbers, and ``report(rows)`` that makes tables of them. A library that fails in a row is a result: the row
holds the error. This is *not* part of the package and no chapter needs it; the peers are the optional
extra ``bench``.
"""

from bench import architectures, channel_pruning

COMPARISONS = {"architectures": architectures, "channel-pruning": channel_pruning}
