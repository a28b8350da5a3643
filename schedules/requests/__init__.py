"""What people ask for outside the schedule: charges, batches, refunds, imports.

May import: every other folder of `schedules`.
"""
