"""Read only: forecasts, reports, and the history of one subscription or charge.

May import: `worker.charging`, and what that may import.
"""
