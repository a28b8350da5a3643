"""Plans, the cursor of a subscription, and what each verb does in each state.

May import: `schedules.charging`, `schedules.calendar`, `schedules.money`.
"""
