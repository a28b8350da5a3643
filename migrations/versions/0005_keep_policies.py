"""Keep policies: versions of them, the debts that wait for a card, and what the passing of time brings."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
OWED = "status IN ('open', 'past_due')"
IN_FLIGHT = f"{OWED} AND next_attempt_at IS NULL AND held_why IS NULL"
REFUSED = "state = 'refused'"
CHARGE_COLUMNS: tuple[tuple[str, Any, str], ...] = (
    ("ladder_began_at", INSTANT, "the first decline, or the first one of a new card"),
    ("waits", sa.Text(), "card: nothing is tried until the card changes or a person says so"),
    ("tried_by", sa.Text(), "who wants the next attempt, when it is not the ladder"),
    ("planned_at", INSTANT, "when the ladder goes on after a person's try"),
    ("look_at", INSTANT, "when the passing of time alone changes something next"),
    ("given_up", sa.Text(), "the final action that was taken, while the debt is still owed"),
)
CARD_COLUMNS: tuple[tuple[str, Any, str], ...] = (
    ("changed_at", INSTANT, "when another card was last put behind the key, or the card was mended"),
    ("stopped_as", sa.Text(), "the class of the decline after which the card is not tried any more"),
    ("seen_updated_at", INSTANT, "when the gateway last changed the key, as it told us"),
    ("ask_at", INSTANT, "when the gateway is asked whether the card has changed; debts wait for it"),
    ("expires_on", sa.Date(), "the card's last day, where the shop has told it"),
    ("tell_expiry_at", INSTANT, "when it is told that the card expires soon"),
)
CHARGE_CHECKS = (
    ("known_wait", "waits = 'card'"),
    ("known_trier", "tried_by IN ('person', 'card')"),
    ("known_final_action", "given_up IN ('cancel', 'pause', 'unpaid', 'keep', 'write_off')"),
    (
        "waiting_is_looked_at",
        "waits IS NULL OR look_at IS NOT NULL OR given_up IS NOT NULL OR held_why IS NOT NULL",
    ),
    ("waiting_has_no_next_attempt", "waits IS NULL OR next_attempt_at IS NULL"),
    ("closed_waits_for_nothing", f"{OWED} OR (waits IS NULL AND look_at IS NULL)"),
)


def upgrade() -> None:
    """Give each policy that plans and debts carried with them a row, and let them name it instead."""
    op.create_table(
        "policies",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("code", "version", name="one_policy_for_each_code_and_version"),
        comment="What is done about declines: immutable versions; a debt keeps the one under which it was opened.",
    )
    op.execute("CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON policies "
               "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()")  # fmt: skip
    _move_policies()
    for name, kind, comment in CHARGE_COLUMNS:
        op.add_column("charges", sa.Column(name, kind, comment=comment))
    op.add_column("charges", sa.Column("manual_tries", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE charges SET ladder_began_at = first_declined_at WHERE first_declined_at IS NOT NULL")
    for name, rule in CHARGE_CHECKS:
        op.create_check_constraint(op.f(f"ck_charges_{name}"), "charges", rule)
    for name, kind, comment in CARD_COLUMNS:
        op.add_column("billing_keys", sa.Column(name, kind, comment=comment))
    op.create_check_constraint(
        op.f("ck_billing_keys_known_stop"), "billing_keys", "stopped_as IN ('customer_must_act', 'never_again')"
    )
    told = "when the next charge is announced; null when it is, or never will be"
    op.add_column("subscriptions", sa.Column("tell_at", INSTANT, comment=told))
    op.add_column(
        "attempts", sa.Column("tried_by", sa.Text(), comment="who wanted it, when it was not the ladder")
    )
    op.create_check_constraint(op.f("ck_attempts_known_trier"), "attempts", "tried_by IN ('person', 'card')")
    _index(f"{IN_FLIGHT} AND waits IS NULL", "(state = 'refused' OR decline_class = 'setup_fault')")
    for name, table, columns, where in _new_indexes():
        op.create_index(name, table, columns, postgresql_where=sa.text(where))


def _new_indexes() -> tuple[tuple[str, str, list[str], str], ...]:
    return (
        ("ix_charges_owed_by_card", "charges", ["billing_key_id", "due_at"], OWED),
        ("ix_charges_waiting", "charges", ["id"], "waits IS NOT NULL"),
        ("ix_charges_to_look", "charges", ["look_at"], "look_at IS NOT NULL"),
        ("ix_subscriptions_to_tell", "subscriptions", ["tell_at"], "tell_at IS NOT NULL"),
        ("ix_billing_keys_to_ask", "billing_keys", ["ask_at"], "ask_at IS NOT NULL"),
        ("ix_billing_keys_expiring", "billing_keys", ["tell_expiry_at"], "tell_expiry_at IS NOT NULL"),
    )


def _index(in_flight: str, refused: str) -> None:
    op.drop_index("ix_charges_in_flight", "charges")
    op.create_index("ix_charges_in_flight", "charges", ["id"], postgresql_where=sa.text(in_flight))
    op.drop_index("ix_attempts_refused", "attempts")
    op.create_index("ix_attempts_refused", "attempts", ["settled_at"], postgresql_where=sa.text(refused))


def _move_policies() -> None:
    op.execute(
        """
        INSERT INTO policies (code, version, document, created_at)
        SELECT 'plain-' || row_number() OVER (ORDER BY dunning::text), 1,
               dunning || '{"ways": {}, "hours": "00:00-24:00", "payday_time": "11:00", "holidays": null,
                            "wait": null, "grace": null, "upcoming": null, "last_warning": null,
                            "cap": {"declines": 15, "within": 2592000}}'
                       || CASE WHEN dunning->>'final' = 'keep' THEN '{"final": "write_off"}' ELSE '{}' END::jsonb,
               now()
        FROM (SELECT dunning FROM plans UNION SELECT dunning FROM charges) AS carried
        """
    )
    op.add_column(
        "plans",
        sa.Column("policy", sa.Text(), comment="code of the policy whose newest version its new debts get"),
    )
    op.add_column("charges", sa.Column("policy_id", sa.BigInteger()))
    same = """p.document->'ladder' = t.dunning->'ladder' AND p.document->>'final'
              = CASE WHEN t.dunning->>'final' = 'keep' THEN 'write_off' ELSE t.dunning->>'final' END"""
    op.execute("ALTER TABLE plans DISABLE TRIGGER immutable")
    op.execute(f"UPDATE plans t SET policy = p.code FROM policies p WHERE {same}")  # noqa: S608 # our own texts
    op.execute("ALTER TABLE plans ENABLE TRIGGER immutable")
    op.execute(f"UPDATE charges t SET policy_id = p.id FROM policies p WHERE {same}")  # noqa: S608 # as above
    op.alter_column("plans", "policy", nullable=False)
    op.alter_column("charges", "policy_id", nullable=False)
    op.create_foreign_key(op.f("fk_charges_policy_id_policies"), "charges", "policies", ["policy_id"], ["id"])
    op.drop_column("plans", "dunning")
    op.drop_column("charges", "dunning")


def downgrade() -> None:
    """Give plans and debts their ladders back, as plain ones; what waits for a card is tried again."""
    for name, table, _, _ in _new_indexes():
        op.drop_index(name, table)
    _index(IN_FLIGHT, REFUSED)
    op.execute("UPDATE charges SET next_attempt_at = look_at WHERE waits IS NOT NULL")
    op.execute("UPDATE charges SET next_attempt_at = due_at WHERE waits IS NOT NULL AND next_attempt_at IS NULL")
    op.drop_column("attempts", "tried_by")
    op.drop_column("subscriptions", "tell_at")
    for name, _, _ in CARD_COLUMNS:
        op.drop_column("billing_keys", name)
    for name, _, _ in CHARGE_COLUMNS:
        op.drop_column("charges", name)
    op.drop_column("charges", "manual_tries")
    jsonb = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("plans", sa.Column("dunning", jsonb))
    op.add_column("charges", sa.Column("dunning", jsonb))
    plain = """jsonb_build_object('ladder', p.document->'ladder', 'final', CASE WHEN p.document->>'final' = 'cancel'
               THEN 'cancel' ELSE 'keep' END)"""
    newest = "p.version = (SELECT max(version) FROM policies q WHERE q.code = p.code)"
    op.execute("ALTER TABLE plans DISABLE TRIGGER immutable")
    op.execute(f"UPDATE plans t SET dunning = {plain} FROM policies p WHERE p.code = t.policy AND {newest}")  # noqa: S608 # our own texts
    op.execute("ALTER TABLE plans ENABLE TRIGGER immutable")
    op.execute(f"UPDATE charges t SET dunning = {plain} FROM policies p WHERE p.id = t.policy_id")  # noqa: S608 # as above
    op.alter_column("plans", "dunning", nullable=False)
    op.alter_column("charges", "dunning", nullable=False)
    op.drop_column("plans", "policy")
    op.drop_column("charges", "policy_id")
    op.drop_table("policies")
