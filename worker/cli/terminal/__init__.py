"""Input and output of the commands: options, tables, prompts, JSON.

May import: `worker.task_api`, `worker.services`; no command.
"""
