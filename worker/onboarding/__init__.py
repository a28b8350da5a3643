"""Import subscriptions of another system, and take over those that the gateway's timer charges.

May import: `worker.batches`, `worker.customers`, and what those may import.
"""
