"""Read only: forecasts, reports, the history of a subscription or charge, and why it is charged or not.

May import: `worker.customers`, `worker.charging`, and what these may import.
"""
