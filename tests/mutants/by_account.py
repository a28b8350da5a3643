"""The guards of an account's credentials: the text that is taken away, and the test that notices."""

from tests.mutants.table import Mutant

BINDINGS = "workflows/test_account_bindings.py::"
CHANGED = "workflows/test_changed_accounts.py::"
MARKS = "store/test_marks.py::"
PATHS = "workflows/test_gateway_paths.py::"
THREADS = "workflows/test_account_threads.py::"

BY_ACCOUNT: tuple[Mutant, ...] = (
    Mutant(
        "accounts: another merchant's credentials stop their account",
        BINDINGS + "test_another_merchants_credentials_stop_that_account_alone_until_adopted",
        "worker/store/charging/kill_switch.py",
        "        return identity.wrong_account(self.account, self.account_fingerprint)\n",
        "        return None\n",
    ),
    Mutant(
        "accounts: another merchant is not asked what became of an attempt",
        BINDINGS + "test_another_merchant_is_not_asked_about_an_unknown_attempt",
        "worker/services.py",
        "        if wrong is not None:\n            raise OtherCredentials(Code.HELD, wrong)\n",
        "",
    ),
    Mutant(
        "accounts: every path to a gateway compares the credentials",
        PATHS + "test_what_a_person_asks_for_is_refused_before_the_other_merchant_hears_of_it",
        "worker/services.py",
        "kill_switch.permission(db, account).other_credentials(self.identity)",
        "None",
    ),
    Mutant(
        "accounts: what runs by itself waits for the right credentials",
        PATHS + "test_what_runs_by_itself_waits_and_does_not_ask_the_other_merchant",
        "worker/services.py",
        "            return self.gateway(account)\n",
        "            return self.gateway_to_send(account)\n",
    ),
    Mutant(
        "accounts: the main account is compared too",
        PATHS + "test_the_main_account_is_not_asked_with_another_merchants_key_either",
        "worker/store/charging/kill_switch.py",
        "        if self.fingerprint != identity.fingerprint_in(self.database):\n",
        "        if False:\n",
    ),
    Mutant(
        "accounts: a new path to a gateway needs its test",
        "architecture/test_gateway_paths.py::test_only_what_is_claimed_takes_a_gateway_without_the_check",
        "worker/charging/resolve_unknown.py",
        "services.gateway_if_ours(account)",
        "services.gateway_to_send(account)",
    ),
    Mutant(
        "accounts: credentials are not adopted while outcomes are unknown",
        BINDINGS + "test_credentials_are_not_adopted_while_outcomes_are_unknown_unless_the_merchant_is_the_same",
        "worker/operations/operate.py",
        "        if in_doubt and not same_merchant:\n",
        "        if False:\n",
    ),
    Mutant(
        "accounts: a broken file changes nothing",
        CHANGED + "test_a_broken_file_is_refused_once_and_the_former_accounts_stay",
        "worker/wiring.py",
        "            return str(error)\n",
        "            return self._accounts[:1]\n",
    ),
    Mutant(
        "accounts: a file that is being written is not read",
        CHANGED + "test_a_file_that_is_being_written_is_not_read_half",
        "worker/wiring.py",
        "        if self._read() != read:\n            return  # it is being written\n",
        "",
    ),
    Mutant(
        "accounts: what was read since does not stand for the client that sends",
        CHANGED + "test_what_was_lined_up_is_compared_by_the_credentials_that_it_is_sent_with",
        "worker/charging/send_queue.py",
        "        match queued.decide(permit):\n",
        "        queued.services = self._services\n        match queued.decide(permit):\n",
    ),
    Mutant(
        "accounts: what is lined up leaves though its account was removed",
        "workflows/test_pacing.py::test_what_is_lined_up_leaves_though_its_account_was_removed_meanwhile",
        "worker/charging/send_queue.py",
        "            permits = request_permits(self._services, [queued.request() for queued in few], overruns)\n",
        "            for queued in few:\n                queued.services = self._services\n"
        "            permits = request_permits(self._services, [queued.request() for queued in few], overruns)\n",
    ),
    Mutant(
        "restore detector: a new secret keeps the mark",
        MARKS + "test_a_restore_is_noticed_at_the_first_start_after_the_secret_was_replaced",
        "worker/restore_detector.py",
        "    api_key = services.settings.portone_key.get_secret_value().encode()\n",
        "    api_key = services.settings.portone_secret.get_secret_value().encode()\n",
    ),
    Mutant(
        "restore detector: the mark of before the upgrade counts",
        MARKS + "test_a_restore_is_noticed_at_the_first_start_after_the_upgrade",
        "worker/restore_detector.py",
        "    former = _former(raw) if is_upgraded else None\n",
        "    former = None\n",
    ),
    Mutant(
        "restore detector: an unsigned mark counts until the first signature alone",
        MARKS + "test_a_mark_of_an_earlier_version_is_signed_and_counts_no_more",
        "worker/restore_detector.py",
        "    former = _former(raw) if is_upgraded else None\n",
        "    former = _former(raw)\n",
    ),
    Mutant(
        "account: refunds that hang take no thread of another account",
        THREADS + "test_refunds_of_an_account_are_made_while_those_of_another_one_hang",
        "worker/refunds/duplicates.py",
        '    return f"{account}/refunds"\n',
        '    return "refunds"\n',
    ),
    Mutant(
        "account: refunds that pile up hide those of no other account",
        THREADS + "test_refunds_that_pile_up_hide_those_of_no_other_account",
        "worker/store/refunds.py",
        ".where(placed.c.place <= limit)",
        ".limit(limit)",
    ),
    Mutant(
        "account: a request is refused while those before it hang",
        THREADS + "test_requests_of_an_account_are_refused_while_those_before_them_hang",
        "worker/task_api/request_places.py",
        "            while len(begun) >= most:\n",
        "            while False:\n",
    ),
    Mutant(
        "account: a request waits for a place while its account answers",
        THREADS + "test_a_request_waits_for_a_place_while_its_account_answers",
        "worker/charging/account_places.py",
        "HANGS = 3.0",
        "HANGS = 0.0",
    ),
    Mutant(
        "account: a request without a place calls no gateway",
        THREADS + "test_a_request_that_finds_no_place_does_nothing",
        "worker/services.py",
        "        self.before_calls(account)\n",
        "",
    ),
    Mutant(
        "card: those that were not looked at are looked at soon",
        THREADS + "test_cards_that_were_not_looked_at_are_looked_at_soon",
        "worker/customers/cards.py",
        "customers.ask_at_latest(db, customer_uids[place:]",
        "customers.ask_at_latest(db, []",
    ),
    Mutant(
        "card: a debt that ended while a change of card waited for it is not tried",
        "workflows/test_card_changes.py::"
        "test_a_debt_that_ends_while_a_change_of_card_waits_for_it_is_left_as_it_is",
        "worker/customers/cards.py",
        " if charge is not None and charge.status.is_owed]\n",
        " if charge is not None]\n",
    ),
)
