"""Customers, their cards and their subscriptions: enroll, sign up, change, cancel.

May import: `worker.charging`, `worker.renewals`, `worker.outbox`, and what those may import.
"""
