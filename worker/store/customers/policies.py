"""Queries of policies: immutable versions, so that a change does not affect debts in dunning."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, Text, cast, select
from sqlalchemy.dialects.postgresql import insert

from schedules.dunning.policies import BUILT_IN, DunningPolicy
from worker.store.tables import policies

# A policy is read for every charge: as text, so that its parsed form can be cached by it.
DOCUMENT = cast(policies.c.document, Text).label("policy_document")


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A version of a policy, with its row id."""

    id: int
    policy: DunningPolicy
    created_at: datetime


def put(db: Connection, policy: DunningPolicy, now: datetime) -> StoredPolicy:
    """Insert a policy as its code's next version; return the newest version if it is equal."""
    before = newest(db, policy.code)
    version = before.policy.version + 1 if before else 1
    if before is not None and replace(policy, version=before.policy.version) == before.policy:
        return before
    row = {"code": policy.code, "version": version, "document": policy.to_json(), "created_at": now}
    statement = insert(policies).values(row)
    statement = statement.on_conflict_do_nothing(constraint="one_policy_for_each_code_and_version")
    policy_id = db.execute(statement.returning(policies.c.id)).scalar()
    if policy_id is None:
        return put(db, policy, now)  # another process inserted a version at the same time; it may be equal
    return StoredPolicy(policy_id, replace(policy, version=version), now)


def known(db: Connection, code: str, now: datetime) -> StoredPolicy | None:
    """Return the newest version of a policy; a built-in one is inserted on first use."""
    kept = newest(db, code)
    if kept is None and code in BUILT_IN:
        return put(db, BUILT_IN[code], now)
    return kept


def newest(db: Connection, code: str) -> StoredPolicy | None:
    """The newest version of a policy."""
    versions = by_code(db, code)
    return versions[-1] if versions else None


def by_code(db: Connection, code: str) -> Sequence[StoredPolicy]:
    """Every version of a policy, oldest first."""
    return [stored for stored in listed(db, every_version=True) if stored.policy.code == code]


def listed(db: Connection, *, every_version: bool = False) -> Sequence[StoredPolicy]:
    """The newest version of each policy, or all of them, by code and version."""
    p = policies.c
    query = select(p.id, p.code, p.version, DOCUMENT, p.created_at).order_by(p.code, p.version)
    found = [
        StoredPolicy(r.id, read(r.policy_document, r.code, r.version), r.created_at) for r in db.execute(query)
    ]
    if every_version:
        return found
    return list({stored.policy.code: stored for stored in found}.values())


@lru_cache(maxsize=256)
def read(document: str, code: str, version: int) -> DunningPolicy:
    """Parse a stored document as a policy."""
    return DunningPolicy.from_json(json.loads(document), code, version)
