"""A standby of a test's PostgreSQL: made by pg_basebackup, streaming from its primary, and promoted."""

import subprocess
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from worker.clock import wait_until
from worker.embedded import PostgresServer
from worker.embedded.places import make_folder, unprivileged_owner
from worker.embedded.postgres import DATABASE, PORT, USER
from worker.embedded.programs import find_postgres
from worker.embedded.supervised import bare_environment

PATIENCE = 40.0  # seconds that anything may take on a busy machine


class Pair:
    """A primary that runs, and its standby."""

    def __init__(self, folder: Path) -> None:
        self.primary = PostgresServer(folder / "primary", durable=False)
        self.standby = PostgresServer(folder / "standby", durable=False)

    def start(self) -> None:
        """Start both, and wait until the standby streams."""
        self.primary.start()
        self._copy()
        self.standby.start()
        assert wait_until(lambda: self._replication("state") == "streaming", PATIENCE)

    def stop(self) -> None:
        """Stop both."""
        self.standby.stop()
        self.primary.stop()

    @property
    def url(self) -> str:
        """Where whichever of them takes writes is, as docs/how-to/databases.md says."""
        hosts = "&".join(f"host={quote(_socket(server))}" for server in (self.primary, self.standby))
        return f"postgresql+psycopg://{USER}@/{DATABASE}?{hosts}&target_session_attrs=read-write"

    def wait_for_the_standby(self) -> None:
        """Have every commit wait until the standby has it."""
        with self.primary.connect() as db:
            db.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            db.execute("SELECT pg_reload_conf()")
        assert wait_until(lambda: self._replication("sync_state") == "sync", PATIENCE)

    def stop_streaming(self) -> None:
        """Let the standby catch up, and receive nothing from then on: what is committed later is lost to it."""
        assert wait_until(self._has_caught_up, PATIENCE)
        with self.standby.connect() as db:
            db.execute("ALTER SYSTEM SET primary_conninfo = ''")
            db.execute("SELECT pg_reload_conf()")
        assert wait_until(lambda: self._replication("state") is None, PATIENCE)

    def fail_over(self) -> None:
        """Lose the primary as in a power cut, and promote the standby."""
        self.primary.crash()
        with self.standby.connect() as db:
            assert db.execute("SELECT pg_promote()").fetchone() == (True,)

    def _copy(self) -> None:
        owner = unprivileged_owner()
        data = self.standby.folder / "data"
        self.standby.folder.mkdir()
        self.standby.folder.chmod(0o711)
        make_folder(data, owner)
        conninfo = f"host={_socket(self.primary)} port={PORT} user={USER}"
        subprocess.run(
            [find_postgres(owner).folder / "pg_basebackup", "-d", conninfo, "-D", data, "--write-recovery-conf",
             "--checkpoint=fast", "--wal-method=stream", "--no-sync"],
            check=True, timeout=PATIENCE * 3, cwd=self.standby.folder, env=bare_environment(),
            user=owner.uid, group=owner.gid, extra_groups=owner.groups,
        )  # fmt: skip

    def _replication(self, column: str) -> object:
        with self.primary.connect() as db:
            found = db.execute("SELECT to_jsonb(r) FROM pg_stat_replication r").fetchone()
        return found[0][column] if found else None  # type: ignore[index]  # a row as JSON

    def _has_caught_up(self) -> bool:
        with self.primary.connect() as db:
            query = "SELECT replay_lsn >= pg_current_wal_lsn() FROM pg_stat_replication"
            return db.execute(query).fetchone() == (True,)


def _socket(server: PostgresServer) -> str:
    return parse_qs(urlsplit(server.url).query)["host"][0]
