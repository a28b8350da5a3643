"""Open the charge of each period that is due, and put due charges on the queue.

May import: the gateway's port, `worker.store`, `worker.services`.
"""
