"""The tables of customers and their stored cards, and what of them is searched."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from schedules.dunning.decisions import NEEDS_CARD
from worker.store.tables.base import INSTANT, by_prefix, metadata, one_of, row_id

# What is searched, as the indexes have it.
NAME = "lower(name)"
EMAIL = "lower(email)"
TEL_BACKWARDS = "reverse(regexp_replace(tel, '[^0-9]', '', 'g'))"  # digits, so that the last ones are a prefix
CUSTOMER_UID = "lower(customer_uid)"
LAST_DIGITS = "right(card_number, 4)"

customers = Table(
    "customers",
    metadata,
    row_id(),
    Column("reference", Text, nullable=False),
    Column("name", Text),
    Column("email", Text),
    Column("tel", Text),
    Column("created_at", INSTANT, nullable=False),
    UniqueConstraint("reference", name="one_customer_for_each_reference"),
    by_prefix("ix_customers_name", NAME),
    by_prefix("ix_customers_email", EMAIL),
    by_prefix("ix_customers_tel", TEL_BACKWARDS),
    comment="Who pays, by the shop's own reference.",
)

billing_keys = Table(
    "billing_keys",
    metadata,
    row_id(),
    Column("customer_id", BigInteger, ForeignKey("customers.id"), nullable=False, index=True),
    Column("customer_uid", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("pg_provider", Text),
    Column("pg_id", Text),
    Column("card_name", Text),
    Column("card_number", Text, comment="masked"),
    Column("created_at", INSTANT, nullable=False),
    Column("deleted_at", INSTANT),
    Column("changed_at", INSTANT, comment="when another card was last put behind the key, or the card was mended"),
    Column("stopped_as", Text, comment="the class of the decline after which the card is not tried any more"),
    CheckConstraint(one_of("stopped_as", sorted(NEEDS_CARD)), name="known_stop"),
    Column("seen_updated_at", INSTANT, comment="when the gateway last changed the key, as it told us"),
    Column("ask_at", INSTANT, comment="when the gateway is asked whether the card has changed; debts wait for it"),
    Index("ix_billing_keys_to_ask", "ask_at", postgresql_where=text("ask_at IS NOT NULL")),
    Column("unclear_since", INSTANT, comment="since when it is unclear whether a typed-in card is stored"),
    CheckConstraint("unclear_since IS NULL OR ask_at IS NOT NULL", name="unclear_is_asked_about"),
    Column("expires_on", Date, comment="the card's last day, where the shop has told it"),
    Column("tell_expiry_at", INSTANT, comment="when it is told that the card expires soon"),
    Index("ix_billing_keys_expiring", "tell_expiry_at", postgresql_where=text("tell_expiry_at IS NOT NULL")),
    CheckConstraint("char_length(customer_uid) BETWEEN 1 AND 80", name="customer_uid_fits"),
    CheckConstraint("card_number !~ '[0-9]{13}'", name="card_number_is_masked"),
    UniqueConstraint("customer_uid", name="one_billing_key_for_each_customer_uid"),
    by_prefix("ix_billing_keys_customer_uid", CUSTOMER_UID),
    Index("ix_billing_keys_last_digits", text(LAST_DIGITS)),
    comment="A stored card at a gateway account: masked facts only.",
)
