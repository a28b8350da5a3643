"""Draft a batch of charges, and charge it a few at a time once it is approved.

May import: `worker.charging`, and what that may import.
"""
