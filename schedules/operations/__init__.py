"""Health rules and the kinds of findings.

May import: `schedules.charging`, `schedules.money`.
"""
