"""Charges, attempts, outcomes, and the ids that the gateway knows them by.

May import: `schedules.money`, `schedules.calendar`.
"""
