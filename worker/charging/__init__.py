"""Charge a debt once: claim, pre-send check, call, settle; look up unknown outcomes; apply the dunning policy.

May import: `worker.renewals`, and what that may import.
"""
