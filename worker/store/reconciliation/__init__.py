"""Findings and the reconciler's runs as rows.

May import: `worker.store.tables`.
"""
