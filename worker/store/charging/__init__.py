"""Charges and attempts as rows: claims, leases, rates, holds, and what stops a charge.

May import: `worker.store.customers`, `worker.store.tables`.
"""
