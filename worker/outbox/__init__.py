"""Announce what is due soon, deliver events to the shop, and replay them.

May import: `worker.store`, `worker.webhooks`, `worker.services`.
"""
