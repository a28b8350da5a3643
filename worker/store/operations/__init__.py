"""Rows about the installation: processes, leads, dead letters, the archive, the schema's revision.

May import: `worker.store.tables`.
"""
