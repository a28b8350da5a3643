"""Ad-hoc charges: opened once for each request key, then charged like renewals."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from schedules.charging.charges import ChargeKind, ChargeStatus
from schedules.charging.identity import charge_key, subject_of_request
from schedules.dunning.policies import BUILT_IN
from schedules.errors import BadRequest, Code, OwnCode
from schedules.persons import Person
from schedules.requests.adhoc import ChargeRequest
from worker.charging.approval_limits import above_limit
from worker.charging.close import set_aside
from worker.services import CANNOT_DECIDE, Services, may_decide
from worker.store.charging import adhoc_charges, allowances
from worker.store.charging.columns import NewCharge
from worker.store.customers import customers, policies
from worker.store.customers.customers import StoredKey
from worker.store.customers.policies import StoredPolicy
from worker.store.outbox import event_log

NO_PERIOD = 0


class CannotRequest(OwnCode):
    """The request cannot be carried out now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The one charge of a request key."""

    id: int
    key: str
    status: ChargeStatus
    is_new: bool
    held_why: str | None  # why it waits for a person, such as a second one above a limit


def charge(services: Services, request: ChargeRequest, actor: str, os_user: str | None = None) -> Requested:
    """Open the requested charge, or return the charge of the same earlier request.

    Above AGAIN_CHARGE_LIMIT or AGAIN_CHARGE_DAY_LIMIT it is held until another person releases it.
    A different request under the same key is refused, because its sender takes it for another debt.
    """
    with services.act() as db:
        known = adhoc_charges.by_request(db, request.request_key)
        if known is None:
            is_new = _open(services, db, request, Person(actor, os_user))
            known = adhoc_charges.by_request(db, request.request_key)
            if known is None:
                raise LookupError(f"charge of request {request.request_key!r} is neither written nor there")
        else:
            is_new = False
        if known.fingerprint not in request.fingerprints():
            raise BadRequest(
                Code.CONFLICT,
                "request_key",
                f"{request.request_key!r} is charge {known.key}, asked for with other arguments; "
                "ask for the same, or take a new key for another debt",
            )
    return Requested(known.id, known.key, known.status, is_new, known.held_why)


def _open(services: Services, db: Connection, request: ChargeRequest, asked_by: Person) -> bool:
    now = services.clock.now()
    if not may_decide(services, db):
        raise CannotRequest(Code.HELD, f"nothing is opened: {CANNOT_DECIDE}")
    key = usable_key(db, request.customer_uid)
    row = row_of(request, key.id, key.account, known_policy(services, db, request.policy), now)
    is_new = adhoc_charges.open_one(db, row)
    if is_new:
        event_log.record(db, asked_by.actor, "charge", row["key"], request.reason, now, os_user=asked_by.os_user,
                     request_key=request.request_key, customer_uid=request.customer_uid,
                     amount=str(request.money))  # fmt: skip
        above = above_limit(services, db, key.account, request.money, now)
        if above is not None:
            set_aside(db, row["key"], f"{above}; another person must release it", now)
            allowances.wait_for_second_person(db, row["key"], asked_by)
    return is_new


def row_of(request: ChargeRequest, key_id: int, account: str, policy: StoredPolicy, now: datetime) -> NewCharge:
    """The charge of a request as it is written: due at once."""
    return {
        "key": charge_key(ChargeKind.ADHOC, subject_of_request(request.request_key), NO_PERIOD),
        "kind": ChargeKind.ADHOC.value,
        "period_no": NO_PERIOD,
        "request_key": request.request_key,
        "request_fingerprint": request.fingerprint,
        "billing_key_id": key_id,
        "account": account,
        "amount": request.money.amount,
        "currency": request.money.currency,
        "name": request.name,
        "policy_id": policy.id,
        "status": ChargeStatus.OPEN.value,
        "due_at": now,
        "next_attempt_at": now,
        "created_at": now,
    }


def usable_key(db: Connection, customer_uid: str) -> StoredKey:
    """The billing key of a customer who can be charged; BadRequest names the field of one who cannot."""
    key = customers.key_by_uid(db, customer_uid)
    if key is None:
        raise BadRequest(
            Code.NOT_FOUND,
            "customer_uid",
            f"customer {customer_uid!r} is not known; `again customer add` makes it known",
        )
    if key.deleted_at is not None:
        raise BadRequest(
            Code.NOT_FOUND, "customer_uid", f"the billing key of customer {customer_uid!r} was deleted"
        )
    return key


def known_policy(services: Services, db: Connection, code: str) -> StoredPolicy:
    """The newest version of a policy; BadRequest when there is none."""
    policy = policies.known(db, code, services.clock.now())
    if policy is None:
        known = sorted({stored.policy.code for stored in policies.listed(db)} | set(BUILT_IN))
        raise BadRequest(Code.NOT_FOUND, "policy", f"policy {code!r} is not known; there are: {', '.join(known)}")
    return policy
