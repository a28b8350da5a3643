"""Dates: cadences, numbered periods, shifts, time zones, and how long a day's calls take.

May import: `schedules.errors`.
"""
