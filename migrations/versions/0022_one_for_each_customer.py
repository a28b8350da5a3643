"""One live subscription for each customer and plan, unless another was asked for; and whose trial was used."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

LIVE = "status <> 'canceled' AND ends_at IS NULL"


def upgrade() -> None:
    """Write each subscription's plan code, allow the seconds that are there, and guard what comes."""
    op.add_column(
        "subscriptions",
        sa.Column("plan_code", sa.Text(), comment="code of the plan of plan_id, kept by a trigger"),
    )
    op.add_column(
        "subscriptions",
        sa.Column(
            "another",
            sa.Boolean(),
            nullable=False,
            server_default="false",
            comment="asked for beside another one of the same customer and plan",
        ),
    )
    op.add_column(
        "subscriptions", sa.Column("trial_of", sa.Text(), comment="code of the plan whose trial it began with")
    )
    op.add_column(
        "takeovers",
        sa.Column(
            "another",
            sa.Boolean(),
            nullable=False,
            server_default="false",
            comment="asked for beside another one of the same customer and plan",
        ),
    )
    op.execute("UPDATE subscriptions s SET plan_code = p.code FROM plans p WHERE p.id = s.plan_id")
    op.alter_column("subscriptions", "plan_code", nullable=False)
    # What was charged elsewhere before it came here has no trial any more; what a signup paid for had none.
    op.execute(
        "UPDATE subscriptions s SET trial_of = p.code FROM plans p WHERE p.id = s.plan_id AND ("
        "s.external_ref IS NOT NULL OR EXISTS (SELECT FROM takeovers t WHERE t.subscription_key = s.key) OR "
        "(p.trial_days > 0 AND NOT EXISTS (SELECT FROM signups g WHERE g.subscription_key = s.key)))"
    )
    op.execute(
        "UPDATE subscriptions s SET another = true FROM (SELECT id, row_number() OVER "
        "(PARTITION BY customer_id, plan_code ORDER BY id) AS place FROM subscriptions "
        "WHERE status <> 'canceled' AND ends_at IS NULL) numbered "
        "WHERE numbered.id = s.id AND numbered.place > 1"
    )
    op.execute(
        """
        CREATE FUNCTION keep_plan_code() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            SELECT code INTO STRICT NEW.plan_code FROM plans WHERE id = NEW.plan_id;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER plan_code_is_the_plans BEFORE INSERT OR UPDATE OF plan_id, plan_code ON subscriptions "
        "FOR EACH ROW EXECUTE FUNCTION keep_plan_code()"
    )
    op.create_index(
        "one_live_subscription_for_each_customer_and_plan",
        "subscriptions",
        ["customer_id", "plan_code"],
        unique=True,
        postgresql_where=sa.text(f"{LIVE} AND NOT another"),
    )


def downgrade() -> None:
    """Take it all away."""
    op.drop_index("one_live_subscription_for_each_customer_and_plan", "subscriptions")
    op.execute("DROP TRIGGER plan_code_is_the_plans ON subscriptions")
    op.execute("DROP FUNCTION keep_plan_code")
    op.drop_column("takeovers", "another")
    for column in ("trial_of", "another", "plan_code"):
        op.drop_column("subscriptions", column)
