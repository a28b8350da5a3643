"""Events that wait for delivery, and the audit, as rows.

May import: `worker.store.tables`.
"""
