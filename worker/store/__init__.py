"""SQL. Functions take an open connection; transactions open and close in the business folders.

May import: `schedules`, `worker.clock`. The tables are in `tables`; the queries have the folders of the business.
"""
