"""Add the indexes by which customers, cards, subscriptions and payments are found."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# text_pattern_ops compares bytes, so a prefix search does not depend on the collation of the database.
DIGITS = "regexp_replace(tel, '[^0-9]', '', 'g')"
INDEXES = {
    "ix_customers_name": "customers (lower(name) text_pattern_ops)",
    "ix_customers_email": "customers (lower(email) text_pattern_ops)",
    "ix_customers_tel": f"customers (reverse({DIGITS}) text_pattern_ops)",
    "ix_billing_keys_customer_uid": "billing_keys (lower(customer_uid) text_pattern_ops)",
    "ix_billing_keys_last_digits": "billing_keys (right(card_number, 4))",
    "ix_subscriptions_key": "subscriptions (key text_pattern_ops)",
    "ix_subscriptions_external_ref": (
        "subscriptions (lower(external_ref) text_pattern_ops) WHERE external_ref IS NOT NULL"
    ),
    "ix_attempts_imp_uid": "attempts (imp_uid) WHERE imp_uid IS NOT NULL",
    "ix_archived_attempts_imp_uid": "archived_attempts (imp_uid) WHERE imp_uid IS NOT NULL",
}
IS_BUILT = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    """Build them while the shop charges; one that an interrupted build left is built anew."""
    with op.get_context().autocommit_block():
        for name, rows in INDEXES.items():
            if op.get_bind().execute(IS_BUILT, {"name": name}).scalar():
                continue
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
        op.execute(
            "ANALYZE customers, billing_keys, subscriptions"
        )  # an index of an expression has no figures yet
