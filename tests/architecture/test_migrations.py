"""The migrations form one line from the baseline, and none is taken back; no database is needed to see it."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from worker.store.operations import revisions


def test_the_files_names_are_the_revisions() -> None:
    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    named = revisions.newest_revision()
    assert named.newest == scripts.get_current_head()
    assert named.known == {script.revision for script in scripts.walk_revisions()}


def test_no_migration_can_be_taken_back() -> None:
    """The former version runs on the schema of the next one; see docs/decisions/."""
    files = (revisions.MIGRATIONS / "versions").glob("*.py")
    assert [file.name for file in files if "def downgrade" in file.read_text()] == []
