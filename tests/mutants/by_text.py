"""The guards of text from outside: control characters, normal forms and encodings."""

from tests.mutants.table import Mutant

TEXTS = "workflows/test_texts.py::"

BY_TEXT: tuple[Mutant, ...] = (
    Mutant(
        "text: a control character is refused before anything is written",
        TEXTS + "test_an_import_refuses_a_control_character_in_every_column_before_it_writes",
        "schedules/texts.py",
        "        if unicodedata.category(character) in _REFUSED:\n",
        "        if False:\n",
    ),
    Mutant(
        "text: a task's fields are looked at for control characters",
        TEXTS + "test_a_task_refuses_a_control_character_in_a_field",
        "worker/task_api/answers.py",
        "cleaned(name, value) if isinstance(value, str) else value",
        "value",
    ),
    Mutant(
        "text: what comes in is in NFC",
        TEXTS + "test_hangul_in_nfd_is_normalized_in_files_plans_and_tasks",
        "schedules/texts.py",
        "    text = normalized(text)\n",
        "",
    ),
    Mutant(
        "text: CP949 is read as such",
        TEXTS + "test_a_file_of_any_common_encoding_is_read",
        "worker/textfiles.py",
        '    if _first_fault(stream, "cp949") is None:\n',
        "    if False:\n",
    ),
    Mutant(
        "text: a file is decoded to its end before its first line is used",
        TEXTS + "test_a_file_of_no_known_encoding_is_refused_with_its_line",
        "worker/textfiles.py",
        '    wrong = _first_fault(stream, "utf-8")\n',
        "    wrong = None\n",
    ),
    Mutant(
        "text: a request from before texts were normalized is the same request",
        TEXTS + "test_a_request_from_before_texts_were_normalized_is_the_same_request",
        "schedules/requests/adhoc.py",
        'frozenset((self.fingerprint, self._said_in("NFD")))',
        "frozenset((self.fingerprint,))",
    ),
    Mutant(
        "text: a customer_uid is found in the form in which it is stored",
        TEXTS + "test_a_customer_uid_that_the_gateway_has_in_nfd_is_sent_as_it_was_stored",
        "worker/store/customers/customers.py",
        "    query = query.where(c.customer_uid.in_(forms(customer_uid)))\n",
        "    query = query.where(c.customer_uid == customer_uid)\n",
    ),
    Mutant(
        "text: the gateway is asked for a card by the customer_uid that it was sent",
        TEXTS + "test_a_customer_uid_that_the_gateway_has_in_nfd_is_sent_as_it_was_stored",
        "worker/customers/cards.py",
        "    customer_uid = key.customer_uid\n",
        "",
    ),
    Mutant(
        "text: a new customer is stored under the customer_uid that the gateway has",
        TEXTS + "test_a_new_customer_whose_card_the_gateway_has_in_nfd_is_charged_under_it",
        "worker/customers/enrollment.py",
        "else key.customer_uid\n",
        "else customer_uid\n",
    ),
    Mutant(
        "text: an imported customer is stored under the customer_uid that the gateway has",
        TEXTS + "test_a_new_customer_whose_card_the_gateway_has_in_nfd_is_charged_under_it",
        "worker/onboarding/import_file.py",
        "    customers.add_key(db, customer_id, key.customer_uid, account, facts_of(key), now)\n",
        "    customers.add_key(db, customer_id, asked.customer_uid, account, facts_of(key), now)\n",
    ),
    Mutant(
        "text: a batch's line is charged to the customer_uid that is stored",
        TEXTS + "test_a_customer_uid_in_nfd_is_found_by_a_batch_and_an_import",
        "worker/batches/drafts.py",
        '"number": number, "customer_uid": stored_uid,',
        '"number": number, "customer_uid": request.customer_uid,',
    ),
)
