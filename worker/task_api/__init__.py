"""What other backends may ask for: one function for each task, and how its message is read and answered.

May import: the business folders, never Celery.
"""
