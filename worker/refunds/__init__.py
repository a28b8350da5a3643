"""Refund a payment on request, and refund duplicate payments that were approved.

May import: `worker.operations`, `worker.customers`, `worker.charging`, and what those may import.
"""
