"""What an operator decides: stop, resume, adopt, release; health, heartbeats and the archive.

May import: `worker.charging`, and what that may import.
"""
