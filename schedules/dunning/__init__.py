"""Declines and what follows them: classes, policies, decisions, standings, previews.

May import: `schedules.charging`, `schedules.calendar`.
"""
