"""The guards that the model can take away one by one, to see that something notices."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guards:
    """Each is on, as in the product, unless a test takes it away."""

    fence: bool = True  # a write needs the fence that the writer was given
    settled_once: bool = True  # a write needs the state that the attempt was claimed in
    lease: bool = True  # the pre-send check sees that the lease outlasts the call
    pre_send_check: bool = True  # the pre-send check sees anything at all
    unresolved_first: bool = True  # the claim finds the attempt that is not over, and takes no other
    one_unresolved: bool = True  # one_unresolved_attempt_for_each_charge
    has_paid: bool = True  # settling looks for a paid attempt before it writes another
    one_paid: bool = True  # one_paid_attempt_for_each_charge
    one_uid: bool = True  # one_attempt_for_each_merchant_uid and one_attempt_for_each_number
    one_period: bool = True  # one_charge_for_each_period and one_charge_for_each_key
    claim_states: bool = True  # a claim takes only what has surely not been sent
    ask_turn: bool = True  # an ask is claimed, under the next fence, when its time has come
    cursor: bool = True  # the cursor moves in the transaction that opens the period
    quiet_time: bool = True  # "not found" counts only after a quiet time
    amount: bool = True  # the answer's amount is compared with what was asked
    no_attempt_in_doubt: bool = True  # a claimed charge has no next attempt until its answer is written
    until: bool = True  # a call that could not be waited for in full any more does not leave
    restore_hold: bool = True  # nothing is sent after a restore until all is known
    asks_in_doubt: bool = True  # an attempt that ended in doubt is asked about before the next call


ALL = Guards()
