"""`make celery-suite`: Celery's own tests on plain Celery and on us, and the table of both.

python -m tests.celery_suite                       # all
python -m tests.celery_suite -k stamp              # arguments of pytest, for fewer
CELERY_SUITE_LOGS=/tmp/logs python -m tests.celery_suite    # keep the logs of the tests and of the worker
"""

import sys

from tests.celery_suite.comparison import compare

comparison = compare(sys.argv[1:])
print(comparison.table())
sys.exit(1 if comparison.worse else 0)
