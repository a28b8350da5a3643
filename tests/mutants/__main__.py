"""`python -m tests.mutants`: take every guard away, one at a time, and print what noticed."""

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.by_account import BY_ACCOUNT
from tests.mutants.by_call import BY_CALL
from tests.mutants.by_customer import BY_CUSTOMER
from tests.mutants.by_database import BY_DATABASE
from tests.mutants.by_group import BY_GROUP
from tests.mutants.by_hand import BY_HAND
from tests.mutants.by_invariant import BY_INVARIANT
from tests.mutants.by_message import BY_MESSAGE
from tests.mutants.by_restore import BY_RESTORE
from tests.mutants.by_text import BY_TEXT
from tests.mutants.runner import RottenTable, try_without
from tests.mutants.table import MUTANTS, Mutant

AT_ONCE = 2


def tried(mutant: Mutant) -> str:
    """What came of a guard's removal, in a word."""
    with tempfile.TemporaryDirectory(prefix="again-mutant-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        try:
            noticed, _ = try_without(mutant, Path(folder))
        except RottenTable as error:
            return f"NOT TRIED: {error}"
    return "noticed" if noticed else "NOT NOTICED"


def main() -> int:
    """Try all, or those whose names contain the words given; 0 when every removal was noticed."""
    guards = (
        *MUTANTS, *BY_HAND, *BY_MESSAGE, *BY_GROUP, *BY_CUSTOMER, *BY_RESTORE, *BY_INVARIANT, *BY_ACCOUNT,
        *BY_TEXT, *BY_DATABASE, *BY_CALL,
    )  # fmt: skip
    wanted = [mutant for mutant in guards if all(word in mutant.guard for word in sys.argv[1:])]
    console = Console(width=200)
    table = Table("guard", "what noticed its removal", "", title="guards", title_justify="left")
    survived = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, (mutant, came) in enumerate(zip(wanted, pool.map(tried, wanted), strict=True), start=1):
            print(f"{number} of {len(wanted)}: {mutant.guard}: {came}", file=sys.stderr, flush=True)
            survived += came != "noticed"
            table.add_row(mutant.guard, mutant.noticed_by.rpartition("::")[2].replace("_", " "), came)
    console.print(table)
    console.print(f"{len(wanted) - survived} of {len(wanted)} removals were noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
