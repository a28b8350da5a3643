"""The fields of each command's answer with --json; a test compares them with the output."""

from collections.abc import Mapping

from worker.task_api.request_fields import ANSWERS

_PLAN = (
    "code, version, price, currency, cadence, zone, billing_time, trial_days, statement_name, catch_up, "
    "catch_up_cap, shift, holidays, policy, policy_version, created_at, archived_at"
)
_BATCH = (
    "key, state, lines, opened, created_by, created_os_user, created_at, approved_by, approved_os_user, words, "
    "canary_passed, sums"
)
_BATCH_RESULT = f"{_BATCH}, paid, failed, undecided, without_charge"
_EVENT = (
    "id, webhook_id, kind, subject, payload, version, created_at, standing, tries, next_try_at, last_answer, "
    "delivered_at, dead_at"
)
_DUE = "charge, customer_uid, subscription, amount, currency, day, due_at, at, why"


def _answer(verb: str) -> str:
    """The fields that the command of a verb prints."""
    return f"{ANSWERS[verb]}, is_new, dry_run"


JSON_FIELDS: Mapping[str, str] = {
    "migrate": "revision, environment, bound_now",
    "clock": "now, real_time, next_at, next, steps",
    "status": (
        "environment, may_send, why_not, wrong_accounts, beats, processes, queues, accounts, reconciled, stops, "
        "due, in_flight, waits_for_card, held, refused, unknown, dead_events, findings, dead_letters, hold, "
        "healthy, causes"
    ),
    "alive": "file, words",
    "find": "matches, more",
    "show": (
        "kind, key, period_no, amount, currency, status, due_at, next_attempt_at, held_why, closed_at, "
        "closed_why, subscription, customer_uid, account, name, policy, declines, technical_tries, "
        "refusals, manual_tries, first_declined_at, waits, given_up, look_at, request_key, refunded, "
        "keyed_in, archived_at, attempts, zone, history, has_older, why"
    ),
    "why": "list of kind, key, customer_uid, account, amount, currency, reason, at, sentence, checks",
    "customers": "customers, next",
    "subscriptions": "subscriptions, next",
    "charges": "charges, next",
    "attempts": "attempts, next",
    "due": f"list of {_DUE}",
    "forecast": _DUE,
    "held": "charges, subscriptions, waiting_for_card",
    "unknown": (
        "list of merchant_uid, amount, currency, unknown_since, next_ask_at, asks, reason, account, "
        "held_why, age_seconds"
    ),
    "dates": "list of n, date, at",
    "report recovery": "cohorts, all",
    "report failures": "list of decline_class, pg_provider, currency, declines, charges, money, share",
    "audit": "list of at, actor, verb, subject, why, details",
    "accounts": "list of name, portone_url, tier, sandbox, rate, reconcile_rate",
    "plan add": f"{_PLAN}, is_new",
    "plan list": f"list of {_PLAN}",
    "plan show": f"list of {_PLAN}",
    "plan archive": "code, versions",
    "policy add": "code, version, created_at, policy",
    "policy list": "list of code, version, created_at, policy",
    "policy show": "code, version, policy",
    "policy preview": "policy, version, class, coming",
    "customer add": _answer("add_customer"),
    "card issue": "customer_uid, card_name, card_number, is_new",
    "card pay": "charge, status, is_new, reason",
    "card show": "here, at_gateway, history",
    "card delete": "customer_uid, subscriptions_ended, deleted_at, at_gateway, is_new, dry_run",
    "card changed": _answer("card_changed"),
    "card expires": "customer_uid, good_until",
    "subscribe": (
        "subscription, version, anchor, period_no, next_due_at, amount, currency, trial_days, "
        "trial_used_by, key, customer_uid, plan, first_period, first_due_at, is_new"
    ),
    "unsubscribe": _answer("unsubscribe"),
    "pause": _answer("pause"),
    "resume": _answer("resume"),
    "skip": _answer("skip"),
    "undo": _answer("undo"),
    "move-anchor": _answer("move_anchor"),
    "move-time": _answer("move_time"),
    "change-plan": _answer("change_plan"),
    "change-card": _answer("change_card"),
    "charge": (
        "charge, customer_uid, subscription, amount, currency, status, held_why, closed_why, "
        "request_key, due_at, next_attempt_at, closed_at, attempts, merchant_uid, attempt_state, reason, "
        "decline_class, is_new, dry_run"
    ),
    "charge-batch": f"{_BATCH_RESULT}, dry_run",
    "batch list": f"list of {_BATCH}",
    "batch show": _BATCH_RESULT,
    "batch approve": _BATCH_RESULT,
    "batch drop": _BATCH_RESULT,
    "batch stop": _BATCH_RESULT,
    "batch resume": _BATCH_RESULT,
    "batch watch": _BATCH_RESULT,
    "batch export": "batch, rows, out",
    "refund": "request_key, merchant_uid, amount, currency, state, words, ended_at, is_new, dry_run",
    "refunds": "list of request_key, charge, amount, currency, state, actor, reason, created_at, words",
    "try": _answer("try_charge"),
    "release": _answer("release_refused"),
    "waive": _answer("waive"),
    "cancel-charge": _answer("cancel_charge"),
    "paid-elsewhere": _answer("paid_elsewhere"),
    "stop-charging": "account, charging",
    "resume-charging": "account, charging",
    "adopt": "environment, adopted, held",
    "reconcile": "runs, findings",
    "findings": (
        "list of id, kind, account, merchant_uid, imp_uid, charge_key, amount, balance, currency, words, "
        "state, found_at, ended_at, ended_by, ended_why"
    ),
    "findings resolve": "finding, kind, verdict",
    "findings refund": "finding, imp_uid, amount, currency",
    "declines classify": "pg, text, class, rule, version",
    "declines unplaced": "list of pg, text, count, last_at",
    "declines reclassify": "read, changed, left",
    "simulate-dunning": "caution, customers, seed, days, assume, policies",
    "events": f"list of {_EVENT}",
    "events show": _EVENT,
    "events replay": "events",
    "events skip": "events",
    "events schema": "description, properties, required, title, type, version",
    "dead-letters": "total, dead_letters",
    "dead-letters purge": "removed",
    "import subscriptions": "new, known, sums, first_charge_at, last_first_charge_at, written",
    "import schedules": "list of customer_uid, what",
    "export": "what, rows, out",
    "archive": "before, dry_run, looked_at, charges, attempts, events, notices, is_whole, months",
}
