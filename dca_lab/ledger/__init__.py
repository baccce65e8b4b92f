"""The ledger: what was measured, in one file that all notebooks share, and the claims that the prose rests on.

`record` appends a measurement, `entries` and `table` read them back, `say` hands numbers to the prose, `claim` raises
when an asserted sentence does not hold.
"""

from .claims import ClaimError, claim
from .prose import say
from .reader import entries
from .store import ledger_path, record
from .tables import Table, table

__all__ = ["ClaimError", "Table", "claim", "entries", "ledger_path", "record", "say", "table"]
