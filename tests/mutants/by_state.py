"""The guards of verbs: what a verb must look at before it changes a subscription."""

from tests.mutants.table import Mutant

ADJUSTING = "workflows/test_adjusting.py::"
MOVING = "workflows/test_moving_in.py::"

BY_STATE: tuple[Mutant, ...] = (
    Mutant(
        "by state: a plan change keeps the day of the month",
        ADJUSTING + "test_a_plan_change_keeps_the_day_of_the_month",
        "worker/workflows/adjusting.py",
        "anchor_no=number, anchor_day=month_day)",
        "anchor_no=number, anchor_day=None)",
    ),
    Mutant(
        "by state: opening counts from the day of the month that was asked for",
        ADJUSTING + "test_a_plan_change_keeps_the_day_of_the_month",
        "worker/store/subscriptions.py",
        "self.skip_to or 0, self.anchor_day)",
        "self.skip_to or 0, None)",
    ),
    Mutant(
        "by state: a moved anchor forgets the day of the month before",
        ADJUSTING + "test_another_day_is_another_day_after_a_plan_change",
        "worker/workflows/adjusting.py",
        'anchor_no=row["next_period_no"], anchor_day=None)',
        'anchor_no=row["next_period_no"])',
    ),
)
