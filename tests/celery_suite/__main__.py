"""`make celery-suite`: Celery's own tests on plain Celery and on us, and the table of both.

python -m tests.celery_suite                       # all
python -m tests.celery_suite -k stamp              # arguments of pytest, for fewer
python -m tests.celery_suite --write               # plain Celery alone; makes passing_on_plain_celery.txt anew
CELERY_SUITE_LOGS=/tmp/logs python -m tests.celery_suite    # keep the logs of the tests and of the workers
"""

import sys

from tests.celery_suite import passing
from tests.celery_suite.comparison import compare
from tests.celery_suite.sides import run, run_again

if sys.argv[1:] == ["--write"]:
    plain = run("plain")
    failed = [name for name, result in plain.items() if result.outcome == "failed"]
    passing.write(run_again("plain", plain, failed))
    sys.exit(0)
comparison = compare(sys.argv[1:])
print(comparison.table())
sys.exit(1 if comparison.worse else 0)
