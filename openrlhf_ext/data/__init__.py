"""From tasks to rows: prompts, and search traces as supervised records."""
