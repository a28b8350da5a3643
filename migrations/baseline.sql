-- The baseline: every table with its guards, as of the first release. Migrations after it are in versions/.

CREATE TABLE account_bindings (
    account TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    bound_at TIMESTAMPTZ NOT NULL,
    bound_by TEXT NOT NULL,
    CONSTRAINT pk_account_bindings PRIMARY KEY (account)
);
COMMENT ON TABLE account_bindings IS
    'The credentials that each further account may be charged with; installation has the main one''s.';
COMMENT ON COLUMN account_bindings.fingerprint IS 'of its key, address, tier and the environment';

CREATE TABLE allowances (
    account TEXT NOT NULL,
    day DATE NOT NULL,
    currency TEXT NOT NULL,
    taken BIGINT NOT NULL,
    CONSTRAINT pk_allowances PRIMARY KEY (account, day, currency),
    CONSTRAINT ck_allowances_taken_is_positive CHECK (taken > 0)
);
COMMENT ON TABLE allowances IS 'How much of an account''s daily limit of charges without a second person is used.';
COMMENT ON COLUMN allowances.day IS 'in Seoul';
COMMENT ON COLUMN allowances.taken IS 'minor units charged without a second person';

CREATE TABLE archived_attempt_events (
    id BIGINT NOT NULL,
    attempt_id BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT NOT NULL,
    words TEXT,
    CONSTRAINT pk_archived_attempt_events PRIMARY KEY (id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_archived_attempt_events_attempt_id ON archived_attempt_events (attempt_id);
COMMENT ON TABLE archived_attempt_events IS 'Everything that happened to archived attempts.';

CREATE TABLE archived_outbox (
    id BIGINT NOT NULL,
    dedupe_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    delivered_at TIMESTAMPTZ,
    version INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_try_at TIMESTAMPTZ,
    last_answer TEXT,
    dead_at TIMESTAMPTZ,
    CONSTRAINT pk_archived_outbox PRIMARY KEY (id),
    CONSTRAINT ck_archived_outbox_is_delivered CHECK (delivered_at IS NOT NULL),
    CONSTRAINT one_archived_notice_for_each_change UNIQUE (dedupe_key)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_archived_outbox_subject ON archived_outbox (subject);
COMMENT ON TABLE archived_outbox IS 'Notices of old months that were delivered.';
COMMENT ON COLUMN archived_outbox.version IS 'of the payload''s schema';
COMMENT ON COLUMN archived_outbox.tries IS 'answers so far, since the last replay';
COMMENT ON COLUMN archived_outbox.next_try_at IS 'while it waits; a delivery moves it forward, as a lease';
COMMENT ON COLUMN archived_outbox.dead_at IS 'when its tries ended';

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    verb TEXT NOT NULL,
    subject TEXT NOT NULL,
    why TEXT,
    details JSONB NOT NULL,
    CONSTRAINT pk_audit PRIMARY KEY (id)
);
CREATE INDEX ix_audit_subject ON audit (subject);
COMMENT ON TABLE audit IS 'Who did what to which, when and why; append only.';

CREATE TABLE batches (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    terms JSONB NOT NULL,
    state TEXT NOT NULL,
    lines INTEGER NOT NULL,
    sums JSONB NOT NULL,
    opened_to INTEGER DEFAULT 0 NOT NULL,
    opened INTEGER DEFAULT 0 NOT NULL,
    canary_passed BOOLEAN NOT NULL,
    words TEXT,
    created_by TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    approved_by TEXT,
    approved_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    created_os_user TEXT,
    approved_os_user TEXT,
    content TEXT,
    repeats TEXT DEFAULT '' NOT NULL,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT ck_batches_known_state CHECK (state IN ('draft', 'waiting', 'running', 'stopped', 'done', 'dropped')),
    CONSTRAINT ck_batches_running_was_approved CHECK (state NOT IN ('running', 'done') OR approved_by IS NOT NULL),
    CONSTRAINT one_batch_for_each_key UNIQUE (key)
);
CREATE INDEX ix_batches_running ON batches (id) WHERE state = 'running';
CREATE UNIQUE INDEX one_batch_for_each_content ON batches (content, repeats) WHERE state NOT IN ('draft', 'dropped');
COMMENT ON TABLE batches IS 'Charges that are asked for together.';
COMMENT ON COLUMN batches.fingerprint IS 'of all its lines and terms';
COMMENT ON COLUMN batches.sums IS 'minor units by currency';
COMMENT ON COLUMN batches.opened_to IS 'number of the last line opened';
COMMENT ON COLUMN batches.opened IS 'lines that were opened';
COMMENT ON COLUMN batches.words IS 'why it was stopped';
COMMENT ON COLUMN batches.created_os_user IS 'the operating system''s user of created_by';
COMMENT ON COLUMN batches.approved_os_user IS 'the operating system''s user of approved_by';
COMMENT ON COLUMN batches.content IS 'of its lines'' customers, amounts and own request keys, in any order';
COMMENT ON COLUMN batches.repeats IS 'key of the batch whose lines it repeats';

CREATE TABLE breakers (
    account TEXT NOT NULL,
    counted_from TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_breakers PRIMARY KEY (account)
);
COMMENT ON TABLE breakers IS
    'Since when an account''s refused calls are counted: a person has looked at those before.';

CREATE TABLE customers (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    reference TEXT NOT NULL,
    name TEXT,
    email TEXT,
    tel TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_customers PRIMARY KEY (id),
    CONSTRAINT one_customer_for_each_reference UNIQUE (reference)
);
COMMENT ON TABLE customers IS 'Who pays, by the shop''s own reference.';

CREATE TABLE dead_letters (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    digest TEXT NOT NULL,
    task TEXT,
    message_id TEXT,
    size BIGINT NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT pk_dead_letters PRIMARY KEY (id),
    CONSTRAINT one_row_for_each_dead_letter UNIQUE (queue, reason, digest)
);
CREATE INDEX ix_dead_letters_last_at ON dead_letters (last_at);
COMMENT ON TABLE dead_letters IS 'Messages from the broker that were refused, without their contents.';
COMMENT ON COLUMN dead_letters.digest IS 'SHA-256 of the body; empty for those that were summed up';
COMMENT ON COLUMN dead_letters.task IS 'what the sender asked for, if it has the form of a task name';
COMMENT ON COLUMN dead_letters.message_id IS 'the sender''s id of the newest one';
COMMENT ON COLUMN dead_letters.size IS 'bytes';

CREATE TABLE findings (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    merchant_uid TEXT NOT NULL,
    imp_uid TEXT DEFAULT '' NOT NULL,
    charge_key TEXT,
    amount BIGINT NOT NULL,
    balance BIGINT NOT NULL,
    currency TEXT NOT NULL,
    words TEXT NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    lease_until TIMESTAMPTZ,
    found_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    ended_by TEXT,
    ended_why TEXT,
    CONSTRAINT pk_findings PRIMARY KEY (id),
    CONSTRAINT ck_findings_known_kind
        CHECK (kind IN ('double', 'lost', 'ghost', 'amount', 'late_paid', 'orphan', 'refund_drift',
            'paid_after_end')),
    CONSTRAINT ck_findings_known_state
        CHECK (state IN ('open', 'approved', 'refunding', 'repaired', 'refunded', 'resolved')),
    CONSTRAINT one_finding_for_each_payment UNIQUE (kind, account, merchant_uid, imp_uid),
    CONSTRAINT ck_findings_refunding_has_a_lease CHECK ((state = 'refunding') = (lease_until IS NOT NULL)),
    CONSTRAINT ck_findings_ended_says_when
        CHECK ((state IN ('repaired', 'refunded', 'resolved')) = (ended_at IS NOT NULL))
);
CREATE INDEX ix_findings_charge_key ON findings (charge_key);
CREATE INDEX ix_findings_open ON findings (id) WHERE ended_at IS NULL;
COMMENT ON TABLE findings IS 'Where the gateway''s records and our books do not agree, and what was done about it.';
COMMENT ON COLUMN findings.imp_uid IS 'empty when there is no payment';
COMMENT ON COLUMN findings.balance IS 'minor units that have not been given back';
COMMENT ON COLUMN findings.lease_until IS 'when a refund under way is looked at again';

CREATE TABLE gateway_tokens (
    account TEXT NOT NULL,
    sealed BYTEA,
    expires_at TIMESTAMPTZ,
    refresh_until TIMESTAMPTZ,
    CONSTRAINT pk_gateway_tokens PRIMARY KEY (account)
);
COMMENT ON TABLE gateway_tokens IS 'The access token that all processes share, sealed, and who may refresh it.';
COMMENT ON COLUMN gateway_tokens.sealed IS 'encrypted under a key made from the account''s secret';

CREATE TABLE installation (
    id INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    environment TEXT NOT NULL,
    bound_at TIMESTAMPTZ NOT NULL,
    bound_by TEXT NOT NULL,
    identity TEXT DEFAULT '' NOT NULL,
    hold_since TIMESTAMPTZ,
    hold_from TIMESTAMPTZ,
    hold_cursor BIGINT,
    restored_at TIMESTAMPTZ,
    asked_to BIGINT,
    mark_signed_at TIMESTAMPTZ,
    CONSTRAINT pk_installation PRIMARY KEY (id),
    CONSTRAINT ck_installation_one_row CHECK (id = 1),
    CONSTRAINT ck_installation_hold_is_whole
        CHECK ((hold_since IS NULL) = (hold_from IS NULL) AND (hold_since IS NULL) = (hold_cursor IS NULL))
);
COMMENT ON TABLE installation IS 'The environment that may send charges from this database.';
COMMENT ON COLUMN installation.identity IS 'which database it was bound in';
COMMENT ON COLUMN installation.hold_since IS 'nothing is sent since then, until the hold is over';
COMMENT ON COLUMN installation.hold_from IS 'what the gateway did from then on may be unknown here';
COMMENT ON COLUMN installation.hold_cursor IS 'owed charges up to this row have been asked for';
COMMENT ON COLUMN installation.restored_at IS 'when the last hold after a restore ended';
COMMENT ON COLUMN installation.asked_to IS 'charges up to this row were asked for by that hold';
COMMENT ON COLUMN installation.mark_signed_at IS
    'since when the restore mark is signed by a key that a new secret does not change';

CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_leases PRIMARY KEY (name)
);
COMMENT ON TABLE leases IS 'Leadership among beats; it saves work and carries no correctness.';

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    dedupe_key TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    delivered_at TIMESTAMPTZ,
    version INTEGER DEFAULT 1 NOT NULL,
    tries INTEGER DEFAULT 0 NOT NULL,
    next_try_at TIMESTAMPTZ,
    last_answer TEXT,
    dead_at TIMESTAMPTZ,
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT one_notice_for_each_change UNIQUE (dedupe_key),
    CONSTRAINT ck_outbox_waits_or_is_over CHECK (num_nonnulls(next_try_at, delivered_at, dead_at) <= 1)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_outbox_dead ON outbox (id) WHERE dead_at IS NOT NULL;
CREATE INDEX ix_outbox_subject ON outbox (subject);
CREATE INDEX ix_outbox_waiting ON outbox (next_try_at) WHERE next_try_at IS NOT NULL;
COMMENT ON TABLE outbox IS 'Notices owed to the outside, written with their cause; what they say is append only.';
COMMENT ON COLUMN outbox.version IS 'of the payload''s schema';
COMMENT ON COLUMN outbox.tries IS 'answers so far, since the last replay';
COMMENT ON COLUMN outbox.next_try_at IS 'while it waits; a delivery moves it forward, as a lease';
COMMENT ON COLUMN outbox.dead_at IS 'when its tries ended';

CREATE TABLE plan_revision (
    id INTEGER NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT pk_plan_revision PRIMARY KEY (id),
    CONSTRAINT ck_plan_revision_one_row CHECK (id = 1)
);
COMMENT ON TABLE plan_revision IS 'Counts the changes of plans, so that beat sees one by reading one row.';

CREATE TABLE plans (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    code TEXT NOT NULL,
    version INTEGER NOT NULL,
    price BIGINT NOT NULL,
    currency TEXT NOT NULL,
    every INTEGER,
    unit TEXT,
    cron TEXT,
    zone TEXT NOT NULL,
    billing_time TIME NOT NULL,
    trial_days INTEGER NOT NULL,
    statement_name TEXT NOT NULL,
    catch_up TEXT NOT NULL,
    catch_up_cap INTEGER NOT NULL,
    shift TEXT NOT NULL,
    holidays TEXT,
    allow_short_months BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    archived_at TIMESTAMPTZ,
    policy TEXT NOT NULL,
    CONSTRAINT pk_plans PRIMARY KEY (id),
    CONSTRAINT ck_plans_price_is_positive CHECK (price > 0),
    CONSTRAINT ck_plans_one_cadence CHECK ((every IS NULL) = (unit IS NULL) AND (every IS NULL) <> (cron IS NULL)),
    CONSTRAINT ck_plans_statement_name_fits CHECK (char_length(statement_name) BETWEEN 1 AND 40),
    CONSTRAINT one_plan_for_each_code_and_version UNIQUE (code, version)
);
COMMENT ON TABLE plans IS
    'What is sold: immutable versions, so that a price change leaves running subscriptions alone.';
COMMENT ON COLUMN plans.policy IS 'code of the policy whose newest version its new debts get';

CREATE TABLE policies (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    code TEXT NOT NULL,
    version INTEGER NOT NULL,
    document JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_policies PRIMARY KEY (id),
    CONSTRAINT one_policy_for_each_code_and_version UNIQUE (code, version)
);
COMMENT ON TABLE policies IS
    'What is done about declines: immutable versions; a debt keeps the one under which it was opened.';

CREATE TABLE processes (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    queues TEXT[] NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    progress_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    leads BOOLEAN DEFAULT false NOT NULL,
    plans INTEGER DEFAULT 0 NOT NULL,
    clock_ahead DOUBLE PRECISION NOT NULL,
    check_seconds DOUBLE PRECISION NOT NULL,
    obstacle TEXT,
    CONSTRAINT pk_processes PRIMARY KEY (id),
    CONSTRAINT ck_processes_ck_processes_known_kind CHECK (kind IN ('beat', 'listener', 'worker'))
);
CREATE INDEX ix_processes_seen_at ON processes (seen_at);
COMMENT ON TABLE processes IS
    'Starts of workers, beats and listeners with their heartbeats; by the database''s own clock.';
COMMENT ON COLUMN processes.id IS 'of one start; a process that starts again has another';
COMMENT ON COLUMN processes.queues IS 'that a worker takes messages from';
COMMENT ON COLUMN processes.progress_at IS 'when it last finished a message, check or tick';
COMMENT ON COLUMN processes.ended_at IS 'when it stopped in good order';
COMMENT ON COLUMN processes.plans IS 'that a beat rings for';
COMMENT ON COLUMN processes.clock_ahead IS 'seconds that its clock is ahead of the database''s';
COMMENT ON COLUMN processes.check_seconds IS 'that a pre-send check takes; 0 without recent ones';
COMMENT ON COLUMN processes.obstacle IS 'why it does not act on this database';

CREATE TABLE rate_buckets (
    account TEXT NOT NULL,
    next_free_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_rate_buckets PRIMARY KEY (account)
);
COMMENT ON TABLE rate_buckets IS 'When the next call of an account may leave; by the database''s own clock.';

CREATE TABLE reconciliations (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    until TIMESTAMPTZ NOT NULL,
    done_until TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    fence BIGINT NOT NULL,
    lease_until TIMESTAMPTZ NOT NULL,
    calls BIGINT NOT NULL,
    payments BIGINT NOT NULL,
    findings BIGINT NOT NULL,
    words TEXT,
    CONSTRAINT pk_reconciliations PRIMARY KEY (id),
    CONSTRAINT ck_reconciliations_known_kind CHECK (kind IN ('hourly', 'daily', 'asked', 'restore')),
    CONSTRAINT ck_reconciliations_goes_forward CHECK (since < until)
);
CREATE INDEX ix_reconciliations_newest ON reconciliations (account, kind, id);
CREATE UNIQUE INDEX one_reconciliation_at_a_time ON reconciliations (account, kind) WHERE ended_at IS NULL;
COMMENT ON TABLE reconciliations IS 'Runs of the reconciler, each with how far it has come.';
COMMENT ON COLUMN reconciliations.done_until IS 'everything before is compared';
COMMENT ON COLUMN reconciliations.words IS 'what kept it from going on, the last time it was kept';

CREATE TABLE requests (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    request_key TEXT NOT NULL,
    verb TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_requests PRIMARY KEY (id),
    CONSTRAINT one_request_for_each_request_key UNIQUE (request_key)
);
COMMENT ON TABLE requests IS
    'Verbs that were carried out under a request key. Charges and refunds keep the key in their own rows.';
COMMENT ON COLUMN requests.fingerprint IS 'of the verb and its arguments, without the actor';
COMMENT ON COLUMN requests.answer IS 'what the verb answered; written in the transaction that did the work';

CREATE TABLE served_code (
    id INTEGER NOT NULL,
    oldest_revision TEXT NOT NULL,
    CONSTRAINT pk_served_code PRIMARY KEY (id),
    CONSTRAINT ck_served_code_one_row CHECK (id = 1)
);
COMMENT ON TABLE served_code IS 'The oldest revision of the schema whose code may still run on this one.';
COMMENT ON COLUMN served_code.oldest_revision IS 'raised by a migration that breaks older code';

CREATE TABLE stops (
    account TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    actor TEXT NOT NULL,
    why TEXT NOT NULL,
    CONSTRAINT pk_stops PRIMARY KEY (account)
);
COMMENT ON TABLE stops IS 'The kill switch: a row stops charging for its account, ''*'' for all.';

CREATE UNLOGGED TABLE write_probe (
    filler TEXT NOT NULL
);
-- Uncompressed and in the row: one row takes one block.
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE PLAIN;
COMMENT ON TABLE write_probe IS
    'Emptied and filled by each `again status`: proof that the database still takes new blocks.';

CREATE TABLE billing_keys (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    customer_id BIGINT NOT NULL,
    customer_uid TEXT NOT NULL,
    account TEXT NOT NULL,
    pg_provider TEXT,
    pg_id TEXT,
    card_name TEXT,
    card_number TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ,
    changed_at TIMESTAMPTZ,
    stopped_as TEXT,
    seen_updated_at TIMESTAMPTZ,
    ask_at TIMESTAMPTZ,
    expires_on DATE,
    tell_expiry_at TIMESTAMPTZ,
    unclear_since TIMESTAMPTZ,
    CONSTRAINT pk_billing_keys PRIMARY KEY (id),
    CONSTRAINT ck_billing_keys_known_stop CHECK (stopped_as IN ('customer_must_act', 'never_again')),
    CONSTRAINT ck_billing_keys_unclear_is_asked_about CHECK (unclear_since IS NULL OR ask_at IS NOT NULL),
    CONSTRAINT ck_billing_keys_customer_uid_fits CHECK (char_length(customer_uid) BETWEEN 1 AND 80),
    CONSTRAINT ck_billing_keys_card_number_is_masked CHECK (card_number !~ '[0-9]{13}'),
    CONSTRAINT one_billing_key_for_each_customer_uid UNIQUE (customer_uid),
    CONSTRAINT fk_billing_keys_customer_id FOREIGN KEY (customer_id) REFERENCES customers (id)
);
CREATE INDEX ix_billing_keys_customer_id ON billing_keys (customer_id);
CREATE INDEX ix_billing_keys_expiring ON billing_keys (tell_expiry_at) WHERE tell_expiry_at IS NOT NULL;
CREATE INDEX ix_billing_keys_to_ask ON billing_keys (ask_at) WHERE ask_at IS NOT NULL;
COMMENT ON TABLE billing_keys IS 'A stored card at a gateway account: masked facts only.';
COMMENT ON COLUMN billing_keys.card_number IS 'masked';
COMMENT ON COLUMN billing_keys.changed_at IS 'when another card was last put behind the key, or the card was mended';
COMMENT ON COLUMN billing_keys.stopped_as IS 'the class of the decline after which the card is not tried any more';
COMMENT ON COLUMN billing_keys.seen_updated_at IS 'when the gateway last changed the key, as it told us';
COMMENT ON COLUMN billing_keys.ask_at IS 'when the gateway is asked whether the card has changed; debts wait for it';
COMMENT ON COLUMN billing_keys.expires_on IS 'the card''s last day, where the shop has told it';
COMMENT ON COLUMN billing_keys.tell_expiry_at IS 'when it is told that the card expires soon';
COMMENT ON COLUMN billing_keys.unclear_since IS 'since when it is unclear whether a typed-in card is stored';

CREATE TABLE subscriptions (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    key TEXT NOT NULL,
    customer_id BIGINT NOT NULL,
    billing_key_id BIGINT NOT NULL,
    plan_id BIGINT NOT NULL,
    anchor DATE NOT NULL,
    status TEXT NOT NULL,
    next_period_no INTEGER NOT NULL,
    next_period_date DATE NOT NULL,
    next_due_at TIMESTAMPTZ NOT NULL,
    open_at TIMESTAMPTZ,
    ends_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    held_why TEXT,
    tell_at TIMESTAMPTZ,
    anchor_no INTEGER DEFAULT 0 NOT NULL,
    billing_time TIME,
    skip_to INTEGER,
    external_ref TEXT,
    anchor_day INTEGER,
    told_as TEXT,
    plan_code TEXT NOT NULL,
    another BOOLEAN DEFAULT 'false' NOT NULL,
    trial_of TEXT,
    CONSTRAINT pk_subscriptions PRIMARY KEY (id),
    CONSTRAINT ck_subscriptions_known_status CHECK (status IN ('active', 'paused', 'canceled')),
    CONSTRAINT one_subscription_for_each_external_ref UNIQUE (external_ref),
    CONSTRAINT ck_subscriptions_anchor_is_behind CHECK (anchor_no BETWEEN 0 AND next_period_no),
    CONSTRAINT ck_subscriptions_anchor_day_is_beyond_the_anchor
        CHECK (anchor_day > date_part('day', anchor) AND anchor_day <= 31),
    CONSTRAINT one_subscription_for_each_key UNIQUE (key),
    CONSTRAINT ck_subscriptions_period_number_counts_up CHECK (next_period_no >= 0),
    CONSTRAINT ck_subscriptions_active_has_a_next_look
        CHECK (status <> 'active' OR open_at IS NOT NULL OR ends_at IS NOT NULL OR held_why IS NOT NULL),
    CONSTRAINT fk_subscriptions_customer_id FOREIGN KEY (customer_id) REFERENCES customers (id),
    CONSTRAINT fk_subscriptions_billing_key_id FOREIGN KEY (billing_key_id) REFERENCES billing_keys (id),
    CONSTRAINT fk_subscriptions_plan_id FOREIGN KEY (plan_id) REFERENCES plans (id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_subscriptions_billing_key_id ON subscriptions (billing_key_id);
CREATE INDEX ix_subscriptions_customer_id ON subscriptions (customer_id);
CREATE INDEX ix_subscriptions_due ON subscriptions (open_at) WHERE status = 'active';
CREATE INDEX ix_subscriptions_due_by_plan ON subscriptions (plan_id, open_at) WHERE status = 'active';
CREATE INDEX ix_subscriptions_held ON subscriptions (id) WHERE held_why IS NOT NULL;
CREATE INDEX ix_subscriptions_to_tell ON subscriptions (tell_at) WHERE tell_at IS NOT NULL;
CREATE UNIQUE INDEX one_live_subscription_for_each_customer_and_plan ON subscriptions (customer_id, plan_code)
    WHERE status <> 'canceled' AND ends_at IS NULL AND NOT another;
COMMENT ON TABLE subscriptions IS 'A customer on a plan: anchor and cursor by period number.';
COMMENT ON COLUMN subscriptions.open_at IS 'when opening looks at it next; null when it never will';
COMMENT ON COLUMN subscriptions.held_why IS 'why opening has set it aside until an operator looks';
COMMENT ON COLUMN subscriptions.tell_at IS 'when the next charge is announced; null when it is, or never will be';
COMMENT ON COLUMN subscriptions.anchor_no IS 'number of the period at the anchor';
COMMENT ON COLUMN subscriptions.billing_time IS 'its own time of day, instead of the plan''s';
COMMENT ON COLUMN subscriptions.skip_to IS 'periods below this number are not charged';
COMMENT ON COLUMN subscriptions.external_ref IS 'what the system before called it';
COMMENT ON COLUMN subscriptions.anchor_day IS
    'day of the month asked for, if the anchor''s month is too short for it';
COMMENT ON COLUMN subscriptions.told_as IS 'what the last notice of the next charge said; null when none stands';
COMMENT ON COLUMN subscriptions.plan_code IS 'code of the plan of plan_id, kept by a trigger';
COMMENT ON COLUMN subscriptions.another IS 'asked for beside another one of the same customer and plan';
COMMENT ON COLUMN subscriptions.trial_of IS 'code of the plan whose trial it began with';

CREATE TABLE takeovers (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    billing_key_id BIGINT NOT NULL,
    plan_id BIGINT NOT NULL,
    plan TEXT NOT NULL,
    subscription_key TEXT NOT NULL,
    entries JSONB NOT NULL,
    billing_time TIME NOT NULL,
    actor TEXT NOT NULL,
    why TEXT NOT NULL,
    words TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    taken_at TIMESTAMPTZ,
    another BOOLEAN DEFAULT 'false' NOT NULL,
    CONSTRAINT pk_takeovers PRIMARY KEY (id),
    CONSTRAINT one_takeover_for_each_card_and_plan UNIQUE (billing_key_id, plan),
    CONSTRAINT one_takeover_for_each_subscription UNIQUE (subscription_key),
    CONSTRAINT fk_takeovers_billing_key_id FOREIGN KEY (billing_key_id) REFERENCES billing_keys (id),
    CONSTRAINT fk_takeovers_plan_id FOREIGN KEY (plan_id) REFERENCES plans (id)
);
CREATE INDEX ix_takeovers_open ON takeovers (id) WHERE taken_at IS NULL;
COMMENT ON TABLE takeovers IS 'A subscription that another timer charged until now.';
COMMENT ON COLUMN takeovers.plan IS 'the plan''s code';
COMMENT ON COLUMN takeovers.entries IS 'what the timer was to charge: uid and date of each';
COMMENT ON COLUMN takeovers.words IS 'why it is not taken over yet';
COMMENT ON COLUMN takeovers.taken_at IS 'when the subscription began here';
COMMENT ON COLUMN takeovers.another IS 'asked for beside another one of the same customer and plan';

CREATE TABLE charges (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    subscription_id BIGINT,
    period_no INTEGER NOT NULL,
    request_key TEXT,
    request_fingerprint TEXT,
    billing_key_id BIGINT NOT NULL,
    account TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    next_attempt_at TIMESTAMPTZ,
    queued_until TIMESTAMPTZ,
    held_why TEXT,
    attempts INTEGER DEFAULT 0 NOT NULL,
    declines INTEGER DEFAULT 0 NOT NULL,
    technical_tries INTEGER DEFAULT 0 NOT NULL,
    refusals INTEGER DEFAULT 0 NOT NULL,
    first_declined_at TIMESTAMPTZ,
    refunded BIGINT DEFAULT '0' NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ,
    closed_why TEXT,
    policy_id BIGINT NOT NULL,
    ladder_began_at TIMESTAMPTZ,
    waits TEXT,
    tried_by TEXT,
    planned_at TIMESTAMPTZ,
    look_at TIMESTAMPTZ,
    given_up TEXT,
    manual_tries INTEGER DEFAULT 0 NOT NULL,
    keyed_in TEXT,
    archived_at TIMESTAMPTZ,
    unapproved_actor TEXT,
    unapproved_os_user TEXT,
    card_since TIMESTAMPTZ,
    asked_at TIMESTAMPTZ,
    unanswered_tries INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT pk_charges PRIMARY KEY (id),
    CONSTRAINT ck_charges_known_kind CHECK (kind IN ('renewal', 'adhoc')),
    CONSTRAINT ck_charges_known_keying CHECK (keyed_in IN ('keep', 'once')),
    CONSTRAINT ck_charges_amount_is_positive CHECK (amount > 0),
    CONSTRAINT ck_charges_known_status
        CHECK (status IN ('open', 'past_due', 'paid', 'uncollectible', 'waived', 'canceled', 'refunded')),
    CONSTRAINT ck_charges_known_wait CHECK (waits = 'card'),
    CONSTRAINT ck_charges_known_trier CHECK (tried_by IN ('person', 'card')),
    CONSTRAINT ck_charges_known_final_action CHECK (given_up IN ('cancel', 'pause', 'unpaid', 'keep', 'write_off')),
    CONSTRAINT ck_charges_never_more_than_was_paid CHECK (refunded BETWEEN 0 AND amount),
    CONSTRAINT ck_charges_archived_is_closed CHECK (archived_at IS NULL OR closed_at IS NOT NULL),
    CONSTRAINT ck_charges_unapproved_waits
        CHECK (unapproved_actor IS NULL OR held_why IS NOT NULL OR closed_at IS NOT NULL),
    CONSTRAINT one_charge_for_each_key UNIQUE (key),
    CONSTRAINT one_charge_for_each_period UNIQUE (subscription_id, period_no, kind),
    CONSTRAINT one_charge_for_each_request_key UNIQUE (request_key),
    CONSTRAINT ck_charges_adhoc_has_a_request_key CHECK ((kind = 'adhoc') = (request_key IS NOT NULL)),
    CONSTRAINT ck_charges_renewal_has_a_subscription CHECK ((kind = 'renewal') = (subscription_id IS NOT NULL)),
    CONSTRAINT ck_charges_closed_has_no_next_attempt
        CHECK (status IN ('open', 'past_due') OR next_attempt_at IS NULL),
    CONSTRAINT ck_charges_closed_says_when CHECK ((status IN ('open', 'past_due')) = (closed_at IS NULL)),
    CONSTRAINT ck_charges_waiting_has_no_next_attempt CHECK (waits IS NULL OR next_attempt_at IS NULL),
    CONSTRAINT ck_charges_waiting_is_looked_at
        CHECK (waits IS NULL OR look_at IS NOT NULL OR given_up IS NOT NULL OR held_why IS NOT NULL),
    CONSTRAINT ck_charges_closed_waits_for_nothing
        CHECK (status IN ('open', 'past_due') OR (waits IS NULL AND look_at IS NULL)),
    CONSTRAINT fk_charges_subscription_id FOREIGN KEY (subscription_id) REFERENCES subscriptions (id),
    CONSTRAINT fk_charges_billing_key_id FOREIGN KEY (billing_key_id) REFERENCES billing_keys (id),
    CONSTRAINT fk_charges_policy_id_policies FOREIGN KEY (policy_id) REFERENCES policies (id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_charges_billing_key_id ON charges (billing_key_id);
CREATE INDEX ix_charges_due ON charges (account, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL AND held_why IS NULL;
CREATE INDEX ix_charges_due_adhoc ON charges (account, next_attempt_at)
    WHERE kind = 'adhoc' AND next_attempt_at IS NOT NULL AND held_why IS NULL;
CREATE INDEX ix_charges_due_again ON charges (account, next_attempt_at)
    WHERE kind = 'renewal' AND attempts > 0 AND next_attempt_at IS NOT NULL AND held_why IS NULL;
CREATE INDEX ix_charges_first_declined ON charges (first_declined_at) WHERE first_declined_at IS NOT NULL;
CREATE INDEX ix_charges_held ON charges (id) WHERE held_why IS NOT NULL;
CREATE INDEX ix_charges_in_flight ON charges (id)
    WHERE status IN ('open', 'past_due') AND next_attempt_at IS NULL AND held_why IS NULL AND waits IS NULL;
CREATE INDEX ix_charges_owed ON charges (id) WHERE closed_at IS NULL;
CREATE INDEX ix_charges_owed_by_card ON charges (billing_key_id, due_at) WHERE status IN ('open', 'past_due');
CREATE INDEX ix_charges_queued ON charges (account, queued_until) WHERE queued_until IS NOT NULL;
CREATE INDEX ix_charges_to_archive ON charges (id)
    WHERE kind = 'renewal' AND closed_at IS NOT NULL AND archived_at IS NULL;
CREATE INDEX ix_charges_to_look ON charges (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX ix_charges_waiting ON charges (id) WHERE waits IS NOT NULL;
COMMENT ON TABLE charges IS 'A debt: one row for each period of a subscription, or for each ad-hoc request key.';
COMMENT ON COLUMN charges.queued_until IS 'a message is thought to wait in the broker until then';
COMMENT ON COLUMN charges.held_why IS 'why it waits for an operator';
COMMENT ON COLUMN charges.ladder_began_at IS 'the first decline, or the first one of a new card';
COMMENT ON COLUMN charges.waits IS 'card: nothing is tried until the card changes or a person says so';
COMMENT ON COLUMN charges.tried_by IS 'who wants the next attempt, when it is not the ladder';
COMMENT ON COLUMN charges.planned_at IS 'when the ladder goes on after a person''s try';
COMMENT ON COLUMN charges.look_at IS 'when the passing of time alone changes something next';
COMMENT ON COLUMN charges.given_up IS 'the final action that was taken, while the debt is still owed';
COMMENT ON COLUMN charges.keyed_in IS 'the card was typed in: once, or to be kept; no worker sends it';
COMMENT ON COLUMN charges.archived_at IS 'when its attempts went to the archive; nothing may be tried any more';
COMMENT ON COLUMN charges.unapproved_actor IS 'who asked for it, while a second person must release it';
COMMENT ON COLUMN charges.unapproved_os_user IS 'the operating system''s user of unapproved_actor';
COMMENT ON COLUMN charges.card_since IS 'when it was moved to its present card from another one';
COMMENT ON COLUMN charges.asked_at IS
    'when the gateway was asked for attempts under its key, before it was first sent';
COMMENT ON COLUMN charges.unanswered_tries IS 'answers in a row that said nothing of the card';

CREATE TABLE archived_attempts (
    id BIGINT NOT NULL,
    charge_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    merchant_uid TEXT NOT NULL,
    state TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    fence BIGINT NOT NULL,
    lease_until TIMESTAMPTZ,
    sends INTEGER NOT NULL,
    last_sent_at TIMESTAMPTZ NOT NULL,
    unknown_since TIMESTAMPTZ,
    next_ask_at TIMESTAMPTZ,
    asks INTEGER NOT NULL,
    quiet_answers INTEGER NOT NULL,
    imp_uid TEXT,
    pg_provider TEXT,
    pg_code TEXT,
    reason TEXT,
    answer JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    settled_at TIMESTAMPTZ,
    decline_class TEXT,
    decline_rule TEXT,
    tried_by TEXT,
    billing_key_id BIGINT,
    CONSTRAINT pk_archived_attempts PRIMARY KEY (id),
    CONSTRAINT fk_archived_attempts_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id),
    CONSTRAINT ck_archived_attempts_is_settled
        CHECK (state IN ('declined', 'paid', 'refused') AND settled_at IS NOT NULL AND lease_until IS NULL
            AND next_ask_at IS NULL),
    CONSTRAINT one_archived_attempt_for_each_merchant_uid UNIQUE (merchant_uid),
    CONSTRAINT one_archived_attempt_for_each_number UNIQUE (charge_id, number)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_archived_attempts_declined ON archived_attempts (settled_at) WHERE state = 'declined';
CREATE INDEX ix_archived_attempts_paid ON archived_attempts (last_sent_at) WHERE state = 'paid';
CREATE UNIQUE INDEX one_archived_payment_for_each_charge ON archived_attempts (charge_id) WHERE state = 'paid';
COMMENT ON TABLE archived_attempts IS 'Attempts of old months: no worker looks here, and nothing here is changed.';
COMMENT ON COLUMN archived_attempts.answer IS 'the outcome as it was read, without anything secret';
COMMENT ON COLUMN archived_attempts.decline_class IS 'what the words of a decline mean';
COMMENT ON COLUMN archived_attempts.decline_rule IS 'the rule that says so, with its version';
COMMENT ON COLUMN archived_attempts.tried_by IS 'who wanted it, when it was not the ladder';
COMMENT ON COLUMN archived_attempts.billing_key_id IS 'the stored card that it was last claimed for';

CREATE TABLE attempts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    charge_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    merchant_uid TEXT NOT NULL,
    state TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    fence BIGINT NOT NULL,
    lease_until TIMESTAMPTZ,
    sends INTEGER NOT NULL,
    last_sent_at TIMESTAMPTZ NOT NULL,
    unknown_since TIMESTAMPTZ,
    next_ask_at TIMESTAMPTZ,
    asks INTEGER DEFAULT 0 NOT NULL,
    quiet_answers INTEGER DEFAULT 0 NOT NULL,
    imp_uid TEXT,
    pg_provider TEXT,
    pg_code TEXT,
    reason TEXT,
    answer JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    settled_at TIMESTAMPTZ,
    decline_class TEXT,
    decline_rule TEXT,
    tried_by TEXT,
    billing_key_id BIGINT,
    CONSTRAINT pk_attempts PRIMARY KEY (id),
    CONSTRAINT ck_attempts_known_state
        CHECK (state IN ('ready', 'sending', 'paid', 'declined', 'refused', 'not_sent', 'unknown')),
    CONSTRAINT ck_attempts_known_trier CHECK (tried_by IN ('person', 'card')),
    CONSTRAINT one_attempt_for_each_merchant_uid UNIQUE (merchant_uid),
    CONSTRAINT one_attempt_for_each_number UNIQUE (charge_id, number),
    CONSTRAINT ck_attempts_sending_has_a_lease CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CONSTRAINT ck_attempts_unknown_is_asked_about CHECK (state <> 'unknown' OR next_ask_at IS NOT NULL),
    CONSTRAINT ck_attempts_merchant_uid_fits CHECK (char_length(merchant_uid) <= 40),
    CONSTRAINT ck_attempts_known_decline_class
        CHECK (decline_class IN ('never_again', 'customer_must_act', 'money_short', 'limit', 'later',
            'unknown_word', 'unknown_outcome', 'setup_fault', 'not_a_decline')),
    CONSTRAINT ck_attempts_decline_class_has_a_rule CHECK ((decline_class IS NULL) = (decline_rule IS NULL)),
    CONSTRAINT fk_attempts_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX ix_attempts_declined ON attempts (settled_at) WHERE state = 'declined';
CREATE INDEX ix_attempts_leased ON attempts (lease_until) WHERE state = 'sending';
CREATE INDEX ix_attempts_paid ON attempts (last_sent_at) WHERE state = 'paid';
CREATE INDEX ix_attempts_refused ON attempts (settled_at) WHERE (state = 'refused' OR decline_class = 'setup_fault');
CREATE INDEX ix_attempts_to_ask ON attempts (next_ask_at) WHERE state = 'unknown';
CREATE UNIQUE INDEX one_call_at_a_time_for_each_card ON attempts (billing_key_id) WHERE state = 'sending';
CREATE UNIQUE INDEX one_paid_attempt_for_each_charge ON attempts (charge_id) WHERE state = 'paid';
CREATE UNIQUE INDEX one_unresolved_attempt_for_each_charge ON attempts (charge_id)
    WHERE state IN ('not_sent', 'ready', 'sending', 'unknown');
COMMENT ON TABLE attempts IS 'One merchant_uid at the gateway: what was asked and what came of it.';
COMMENT ON COLUMN attempts.answer IS 'the outcome as it was read, without anything secret';
COMMENT ON COLUMN attempts.decline_class IS 'what the words of a decline mean';
COMMENT ON COLUMN attempts.decline_rule IS 'the rule that says so, with its version';
COMMENT ON COLUMN attempts.tried_by IS 'who wanted it, when it was not the ladder';
COMMENT ON COLUMN attempts.billing_key_id IS 'the stored card that it was last claimed for';

CREATE TABLE batch_lines (
    batch_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    customer_uid TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    name TEXT NOT NULL,
    request_key TEXT NOT NULL,
    charge_id BIGINT,
    words TEXT,
    CONSTRAINT pk_batch_lines PRIMARY KEY (batch_id, number),
    CONSTRAINT one_line_for_each_request_key UNIQUE (batch_id, request_key),
    CONSTRAINT fk_batch_lines_batch_id FOREIGN KEY (batch_id) REFERENCES batches (id),
    CONSTRAINT fk_batch_lines_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id)
);
COMMENT ON TABLE batch_lines IS 'A line of a batch, and the charge that was made of it.';
COMMENT ON COLUMN batch_lines.words IS 'why it has no charge';

CREATE TABLE refunds (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    request_key TEXT NOT NULL,
    request_fingerprint TEXT NOT NULL,
    charge_id BIGINT NOT NULL,
    account TEXT NOT NULL,
    merchant_uid TEXT NOT NULL,
    imp_uid TEXT NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT NOT NULL,
    balance BIGINT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    sends INTEGER DEFAULT 0 NOT NULL,
    lease_until TIMESTAMPTZ,
    words TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    CONSTRAINT pk_refunds PRIMARY KEY (id),
    CONSTRAINT ck_refunds_known_state CHECK (state IN ('asked', 'sending', 'made', 'refused')),
    CONSTRAINT ck_refunds_never_more_than_is_left CHECK (amount BETWEEN 1 AND balance),
    CONSTRAINT ck_refunds_sending_has_a_lease CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CONSTRAINT ck_refunds_ended_says_when CHECK ((state IN ('asked', 'sending')) = (ended_at IS NULL)),
    CONSTRAINT one_refund_for_each_request_key UNIQUE (request_key),
    CONSTRAINT fk_refunds_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id)
);
CREATE INDEX ix_refunds_charge_id ON refunds (charge_id);
CREATE INDEX ix_refunds_open ON refunds (id) WHERE state IN ('asked', 'sending');
CREATE UNIQUE INDEX one_refund_at_a_time ON refunds (charge_id) WHERE state IN ('asked', 'sending');
COMMENT ON TABLE refunds IS 'What is given back of a payment: a request, and what came of it.';
COMMENT ON COLUMN refunds.balance IS 'minor units left before it, as our books say';
COMMENT ON COLUMN refunds.reason IS 'shown in the gateway''s console';
COMMENT ON COLUMN refunds.lease_until IS 'when one under way is looked at again';
COMMENT ON COLUMN refunds.words IS 'what came of it last';

CREATE TABLE signups (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    charge_id BIGINT NOT NULL,
    customer_id BIGINT NOT NULL,
    billing_key_id BIGINT NOT NULL,
    plan_id BIGINT NOT NULL,
    plan TEXT NOT NULL,
    subscription_key TEXT NOT NULL,
    anchor DATE NOT NULL,
    begun_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT pk_signups PRIMARY KEY (id),
    CONSTRAINT one_signup_for_each_charge UNIQUE (charge_id),
    CONSTRAINT one_signup_for_each_subscription UNIQUE (subscription_key),
    CONSTRAINT fk_signups_charge_id FOREIGN KEY (charge_id) REFERENCES charges (id),
    CONSTRAINT fk_signups_customer_id FOREIGN KEY (customer_id) REFERENCES customers (id),
    CONSTRAINT fk_signups_billing_key_id FOREIGN KEY (billing_key_id) REFERENCES billing_keys (id),
    CONSTRAINT fk_signups_plan_id FOREIGN KEY (plan_id) REFERENCES plans (id)
);
CREATE INDEX ix_signups_billing_key_id_plan ON signups (billing_key_id, plan);
COMMENT ON TABLE signups IS 'A subscription that begins when its first payment is there.';
COMMENT ON COLUMN signups.plan IS 'the plan''s code';
COMMENT ON COLUMN signups.begun_at IS 'when the payment was there, and it began';

CREATE TABLE attempt_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    attempt_id BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    state TEXT NOT NULL,
    fence BIGINT NOT NULL,
    words TEXT,
    CONSTRAINT pk_attempt_events PRIMARY KEY (id),
    CONSTRAINT fk_attempt_events_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX ix_attempt_events_attempt_id ON attempt_events (attempt_id);
COMMENT ON TABLE attempt_events IS 'Everything that happened to an attempt, in order; append only.';

-- Beat reads the plans again when this number changes.
CREATE FUNCTION count_plan_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO plan_revision AS counted (id, revision) VALUES (1, 1)
        ON CONFLICT (id) DO UPDATE SET revision = counted.revision + 1;
    RETURN NULL;
END $$;

-- The index for one live subscription of a customer and plan needs the plan's code in the row.
CREATE FUNCTION keep_plan_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT code INTO STRICT NEW.plan_code FROM plans WHERE id = NEW.plan_id;
    RETURN NEW;
END $$;

-- An attempt beside archived ones could be a second charge.
CREATE FUNCTION refuse_archived() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz;
BEGIN
    SELECT archived_at INTO since FROM charges WHERE id = NEW.charge_id FOR KEY SHARE;
    IF since IS NOT NULL THEN
        RAISE EXCEPTION 'the attempts of charge % are archived; no other may stand beside them',
            NEW.charge_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

-- What is append only refuses change.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- A row may leave its table only for the other one. It is looked for by its number: the archive may hold years.
CREATE FUNCTION refuse_loss() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    is_lost boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM gone g WHERE NOT EXISTS '
                   '(SELECT FROM %I k WHERE k.id = g.id AND to_jsonb(k) = to_jsonb(g)))', TG_ARGV[0])
        INTO is_lost;
    IF is_lost THEN
        RAISE EXCEPTION 'table % is append only: a row may leave it only for table %',
            TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

-- Versions of plans are immutable.
CREATE FUNCTION refuse_new_terms() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF to_jsonb(NEW) - 'archived_at' <> to_jsonb(OLD) - 'archived_at' THEN
        RAISE EXCEPTION 'plan % version % is immutable; add a new version', OLD.code, OLD.version
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON archived_attempt_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON archived_attempts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON archived_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON attempt_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OF dedupe_key, kind, subject, payload, version, created_at OR TRUNCATE ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE ON plans
    FOR EACH ROW EXECUTE FUNCTION refuse_new_terms();
CREATE TRIGGER none_beside_archived BEFORE INSERT ON attempts
    FOR EACH ROW EXECUTE FUNCTION refuse_archived();
CREATE TRIGGER nothing_lost AFTER DELETE ON archived_attempt_events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('attempt_events');
CREATE TRIGGER nothing_lost AFTER DELETE ON archived_attempts
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('attempts');
CREATE TRIGGER nothing_lost AFTER DELETE ON archived_outbox
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('outbox');
CREATE TRIGGER nothing_lost AFTER DELETE ON attempt_events
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('archived_attempt_events');
CREATE TRIGGER nothing_lost AFTER DELETE ON attempts
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('archived_attempts');
CREATE TRIGGER nothing_lost AFTER DELETE ON outbox
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_loss('archived_outbox');
CREATE TRIGGER plan_code_is_the_plans BEFORE INSERT OR UPDATE OF plan_id, plan_code ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION keep_plan_code();
CREATE TRIGGER seen_by_beat AFTER INSERT OR DELETE OR UPDATE ON plans
    FOR EACH STATEMENT EXECUTE FUNCTION count_plan_change();

INSERT INTO plan_revision (id, revision) VALUES (1, 1);
INSERT INTO served_code (id, oldest_revision) VALUES (1, '0001');
