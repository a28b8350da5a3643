"""Customers, plans, policies and subscriptions as rows.

May import: `worker.store.tables`.
"""
