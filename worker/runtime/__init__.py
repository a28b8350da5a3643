"""What keeps a process running: background threads, stop signal, health file, outage log, clock checks.

May import: `worker.clock` and `schedules`.
"""
