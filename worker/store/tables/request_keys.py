"""Request keys: the verb of each, and the answer that a repeated request gets."""

from sqlalchemy import Column, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from worker.store.tables.base import INSTANT, metadata, row_id

requests = Table(
    "requests",
    metadata,
    row_id(),
    Column("request_key", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, comment="of the verb and its arguments, without the actor"),
    Column("answer", JSONB, comment="what the verb answered; written in the transaction that did the work"),
    Column("created_at", INSTANT, nullable=False),
    UniqueConstraint("request_key", name="one_request_for_each_request_key"),
    comment="Verbs that were carried out under a request key. Charges and refunds keep the key in their own rows.",
)
