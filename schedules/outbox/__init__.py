"""Events with their fields, and when a delivery is tried again.

May import: `schedules.operations`.
"""
