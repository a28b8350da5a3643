"""Store request keys in NFC, so that a request from before texts were normalized is found again."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# By each of these a request, a line or a batch is known again. A customer_uid is not among them: it is what the
# gateway was sent, and stays.
KEYS = (
    ("charges", "request_key", "true"),
    ("refunds", "request_key", "true"),
    ("requests", "request_key", "true"),
    ("batches", "key", "true"),
    ("batch_lines", "request_key", "other.batch_id = this.batch_id"),
    ("subscriptions", "external_ref", "true"),
)


def upgrade() -> None:
    """Normalize them; of two that differ by their form alone the one that is in NFC already keeps the key."""
    encoding = op.get_bind().exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        return  # no other encoding can hold Hangul in NFD
    for table, column, beside in KEYS:
        op.execute(
            f"UPDATE {table} AS this SET {column} = normalize({column}, NFC) "  # noqa: S608 # constants of this file
            f"WHERE {column} IS NOT NFC NORMALIZED AND NOT EXISTS (SELECT FROM {table} AS other WHERE {beside} "
            f"AND other.{column} <> this.{column} "
            f"AND normalize(other.{column}, NFC) = normalize(this.{column}, NFC))"
        )


def downgrade() -> None:
    """Leave them: the release before finds a request that is sent in NFC."""
