"""Read-only queries for people: exports, forecasts, reports, timelines.

May import: `worker.store.tables`.
"""
