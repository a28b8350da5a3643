"""Drafts of batches: all lines are checked together and stored; nothing is charged."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection

from schedules.errors import BadRequest, Code, OwnCode
from schedules.requests.adhoc import ChargeRequest
from schedules.requests.batches import (
    MOST_SHOWN,
    BadLine,
    BatchState,
    Line,
    Preview,
    Terms,
    line_digest,
    read_line,
)
from worker.charging.adhoc import known_policy
from worker.services import Services
from worker.store import batches
from worker.store.batches import Batch, NewLine
from worker.store.charging import adhoc_charges
from worker.store.customers import customers, subscriptions

CONTENTS = 2**256  # number of values of a digest
CHUNK = 500  # lines checked or opened at once


class CannotBatch(OwnCode):
    """The request does not fit the state of the batch; nothing was changed."""


class BadLines(CannotBatch):
    """Lines of a batch are wrong; nothing was charged."""

    def __init__(self, bad: Sequence[BadLine], count: int) -> None:
        lines = [f"line {line.number}, {line.column}: {line.words}" for line in bad]
        more = [f"and {count - len(bad)} more"] if count > len(bad) else []
        what = f"{count} {'line is' if count == 1 else 'lines are'} wrong, so nothing is done:"
        super().__init__(Code.INVALID, "\n  ".join((what, *lines, *more)))
        self.bad = bad


@dataclass(slots=True)
class _Draft:
    """A batch while its lines are read."""

    batch_id: int
    terms: Terms
    preview: Preview = field(default_factory=Preview)
    bad: list[BadLine] = field(default_factory=list)
    bad_count: int = 0
    fingerprint: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    content: int = 0  # sum of the digests of its lines, modulo CONTENTS: independent of their order

    def is_bad(self, number: int, column: str, words: str) -> None:
        """Record an error of a line; errors beyond MOST_SHOWN are only counted."""
        self.bad_count += 1
        if len(self.bad) < MOST_SHOWN:
            self.bad.append(BadLine(number, column, words))


def draft(services: Services, terms: Terms, lines: Iterable[Line], actor: str) -> tuple[Batch, Preview]:
    """Check all lines and store them as a draft, which charges nothing; raise BadLines with each wrong line.

    The same lines under the same key return the same batch in its present state. Other lines under the key are
    refused, and so are the lines of a batch that was begun under another key, unless `terms.repeats` names that
    batch.
    """
    now = services.clock.now()
    with services.act() as db:
        batch_id = batches.add(db, terms, actor, now)
        known = None if batch_id is not None else batches.by_key(db, terms.key, lock=True)
        if known is not None and known.state in (BatchState.DRAFT, BatchState.DROPPED):
            batches.draft_again(db, known.id, terms, actor)  # an earlier draft that was not begun
            batch_id = known.id
        read = _Draft(batch_id or 0, terms)
        known_policy(services, db, terms.policy)
        for chunk in _chunks(lines):
            _read_chunk(db, read, chunk, is_known=batch_id is None)
        fingerprint = read.fingerprint.hexdigest()
        if read.bad:
            raise BadLines(sorted(read.bad, key=lambda line: line.number), read.bad_count)
        if known is not None and batch_id is None:
            if known.fingerprint != fingerprint:
                raise CannotBatch(
                    Code.CONFLICT, f"batch {terms.key!r} is there with other lines or terms; take another key"
                )
            return known, read.preview
        if read.preview.count == 0:
            raise CannotBatch(Code.INVALID, "there is no line to charge")
        batches.change(
            db, read.batch_id, fingerprint=fingerprint, lines=read.preview.count, sums=read.preview.sums,
            content=f"{read.content:064x}", repeats=terms.repeats,
        )  # fmt: skip
        written = known_batch(db, terms.key)
        refuse_repeated(db, written)
    return written, read.preview


def segment(services: Services, code: str, status: str, amount: str) -> Iterator[Line]:
    """Yield a line for each subscription with this status on any version of a plan; rows are read page by page."""
    after, number = 0, 0
    while True:
        with services.engine.begin() as db:
            page = subscriptions.on_plan(db, code, status, after, CHUNK)
        for _, customer_uid in page:
            number += 1
            yield Line(number, {"customer_uid": customer_uid, "amount": amount})
        if len(page) < CHUNK:
            return
        after = page[-1][0]


def known_batch(db: Connection, key: str, *, lock: bool = True) -> Batch:
    """The batch with this key, locked unless `lock` is false; raises CannotBatch when there is none."""
    batch = batches.by_key(db, key, lock=lock)
    if batch is None:
        raise CannotBatch(Code.NOT_FOUND, f"batch {key!r} is not known; `again batch list` shows those that are")
    return batch


def refuse_repeated(db: Connection, batch: Batch) -> None:
    """Raise CannotBatch when a batch with the same lines was begun, unless `terms.repeats` names it."""
    earlier = batches.newest_with(db, batch.content, batch.id) if batch.content is not None else None
    if earlier is None:
        if batch.terms.repeats:
            raise CannotBatch(
                Code.CONFLICT, f"batch {batch.key!r} repeats {batch.terms.repeats!r}, which has not the same lines"
            )
        return
    if batch.terms.repeats != earlier.key:
        raise CannotBatch(
            Code.CONFLICT,
            f"batch {earlier.key!r}, begun by {earlier.created_by} on {earlier.created_at:%Y-%m-%d} and now "
            f"{earlier.state}, has the same customers and amounts; to charge all of them once more, say "
            f"--repeats {earlier.key}",
        )


def _chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    iterator = iter(lines)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _read_chunk(db: Connection, read: _Draft, chunk: list[Line], *, is_known: bool) -> None:
    """Check some lines and write the correct ones; nothing is written for a known batch."""
    requests: dict[int, ChargeRequest] = {}
    for line in chunk:
        try:
            requests[line.number] = request = read_line(line, read.terms)
        except BadRequest as error:
            read.is_bad(line.number, error.field, error.words)
        else:
            read.preview.count_line(line.number, request.customer_uid, request.money)
            read.content = (read.content + line_digest(line, request)) % CONTENTS
            read.fingerprint.update(json.dumps([line.number, request.fingerprint, request.request_key]).encode())
    if is_known or not requests:
        return
    usable = customers.usable(db, {request.customer_uid for request in requests.values()})
    taken = adhoc_charges.by_requests(db, [request.request_key for request in requests.values()])
    for number, request in list(requests.items()):
        if request.customer_uid not in usable:
            read.is_bad(number, "customer_uid", f"customer {request.customer_uid!r} is not known, or was deleted")
            del requests[number]
        elif (charge := taken.get(request.request_key)) and charge.fingerprint not in request.fingerprints():
            words = f"{request.request_key!r} is charge {charge.key}, asked for with other arguments"
            read.is_bad(number, "request_key", words)
            del requests[number]
    written = batches.add_lines(
        db,
        [
            _line_row(read.batch_id, number, request, usable[request.customer_uid])
            for number, request in requests.items()
        ],
    )
    for number in requests.keys() - written:
        read.is_bad(number, "request_key", f"{requests[number].request_key!r} is that of another line")


def _line_row(batch_id: int, number: int, request: ChargeRequest, stored_uid: str) -> NewLine:
    return {
        "batch_id": batch_id, "number": number, "customer_uid": stored_uid,
        "amount": request.money.amount, "currency": request.money.currency, "name": request.name,
        "request_key": request.request_key,
    }  # fmt: skip
