"""Amounts in minor units, and limits of them.

May import: `schedules.errors`.
"""
