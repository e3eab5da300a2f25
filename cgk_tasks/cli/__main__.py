"""`python -m cgk_tasks.cli`, where the script `cgk-tasks` is not on PATH."""

from cgk_tasks.cli.program import main

main()
