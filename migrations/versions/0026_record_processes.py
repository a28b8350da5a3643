"""Record the starts and heartbeats of all processes, and probe that the database takes writes."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Replace the heartbeats of beats by a table for all processes, and create the probe's table."""
    op.drop_table("heartbeats")
    op.create_table(
        "processes",
        sa.Column("id", sa.Text, nullable=False, comment="of one start; a process that starts again has another"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.CheckConstraint("kind IN ('beat', 'listener', 'worker')", name="ck_processes_known_kind"),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("queues", sa.ARRAY(sa.Text), nullable=False, comment="that a worker takes messages from"),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("progress_at", INSTANT, nullable=False, comment="when it last finished a message, check or tick"),
        sa.Column("ended_at", INSTANT, comment="when it stopped in good order"),
        sa.Column("leads", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("plans", sa.Integer, nullable=False, server_default=sa.text("0"), comment="that a beat rings for"),
        sa.Column(
            "clock_ahead", sa.Double, nullable=False,
            comment="seconds that its clock is ahead of the database's",
        ),
        sa.Column(
            "check_seconds", sa.Double, nullable=False,
            comment="that a pre-send check takes; 0 without recent ones",
        ),
        sa.Column("obstacle", sa.Text, comment="why it does not act on this database"),
        sa.PrimaryKeyConstraint("id", name="pk_processes"),
        comment="Starts of workers, beats and listeners with their heartbeats; by the database's own clock.",
    )  # fmt: skip
    op.create_index("ix_processes_seen_at", "processes", ["seen_at"])
    op.create_table(
        "write_probe",
        sa.Column("filler", sa.Text, nullable=False),
        comment="Emptied and filled by each `again status`: proof that the database still takes new blocks.",
        prefixes=["UNLOGGED"],
    )
    # Uncompressed and in the row: one row takes one block.
    op.execute("ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE PLAIN")


def downgrade() -> None:
    """Drop both, and create the heartbeats of beats again."""
    op.drop_table("write_probe")
    op.drop_table("processes")
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.Column("leads", sa.Boolean, nullable=False),
        sa.Column("plans", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_heartbeats"),
        comment="Which beats are alive, and which of them leads; by the database's own clock.",
    )
