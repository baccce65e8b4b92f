"""The ledger: what was measured, in one file that all notebooks share, and the claims that the prose rests on
it.

`record` appends a measurement, `entries` and `table` read them back, `claim` raises when an asserted sentence
does not hold.
"""

from .claims import ClaimError, claim
from .reader import entries
from .store import ledger_path, record
from .tables import Table, table

__all__ = ["ClaimError", "Table", "claim", "entries", "ledger_path", "record", "table"]
