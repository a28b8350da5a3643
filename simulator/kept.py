"""Records in a SQLite file, by kind and id; they survive a restart or a kill of the simulator."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

FORMAT = 1  # of the documents; other formats are refused
FAULTS, WEBHOOKS = "faults", "webhooks"  # the ids of the settings


class Kind(StrEnum):
    """The kinds of records."""

    KEY = "key"  # by customer_uid
    PAYMENT = "payment"  # by imp_uid
    MOVEMENT = "movement"  # by its number in the ledger
    ENTRY = "entry"  # of a schedule, by merchant_uid
    PREPARED = "prepared"  # by merchant_uid
    SETTING = "setting"  # faults, webhooks


class BadFile(Exception):
    """The file cannot be used; the message gives the reason."""


class Records:
    """One SQLite file, for one process at a time.

    Written records survive a kill of the process. After a crash of the machine the last ones may be missing;
    earlier ones are complete.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            _make_private(file)
            self._db = sqlite3.connect(file, timeout=0, isolation_level=None)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS records (kind TEXT, id TEXT, document TEXT NOT NULL, "
                "PRIMARY KEY (kind, id)) WITHOUT ROWID"
            )
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            self._db.execute(f"PRAGMA user_version = {found or FORMAT}")  # takes the lock
        except (sqlite3.Error, OSError) as error:
            then = "is it in use by another simulator?" if "locked" in str(error) else "take another, or remove it"
            raise BadFile(f"{file} cannot be used: {error}; {then}") from None
        if found not in (0, FORMAT):
            raise BadFile(
                f"{file} has format {found}, and this simulator reads {FORMAT}; remove it, or take another"
            )

    def read(self, kind: Kind) -> Iterator[tuple[str, Any]]:
        """The ids and documents of a kind, ordered by id."""
        rows = self._db.execute("SELECT id, document FROM records WHERE kind = ? ORDER BY id", (kind,))
        return ((name, json.loads(text)) for name, text in rows)

    def write(self, changed: Iterable[tuple[Kind, str, Any]], *, afresh: bool) -> None:
        """Write these documents in one transaction. None removes a record; `afresh` removes all others first."""
        with self._db:  # commits, or rolls back
            self._db.execute("BEGIN")
            if afresh:
                self._db.execute("DELETE FROM records")
            for kind, name, document in changed:
                if document is None:
                    self._db.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, name))
                else:
                    text = json.dumps(document, ensure_ascii=False)
                    self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, text))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _make_private(file: Path) -> None:
    """Restrict the file to its owner: it contains names, e-mails, telephones and addresses of buyers."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # an existing file may have a wider mode
    finally:
        os.close(descriptor)
