"""The Celery settings of cgk_tasks, top to bottom.

An application may have its own `celeryconfig.py`: it starts from these and changes what it names. To begin with all of
them, write `from cgk_tasks.celeryconfig import *` on its first line.
"""

from kombu import Queue

from cgk_tasks.broker.amqp_publisher import amqp_queue as _amqp_queue
from cgk_tasks.config import get_settings as _get_settings
from cgk_tasks.config.amqp_tls import amqp_tls as _amqp_tls
from cgk_tasks.config.broker_url import celery_url as _celery_url
from cgk_tasks.config.broker_url import is_postgresql as _is_postgresql
from cgk_tasks.config.broker_url import is_redis as _is_redis

_settings = _get_settings()
_has_broker = _settings.broker_url is not None and not _is_postgresql(_settings.broker)
_redis = not _has_broker or _is_redis(_settings.broker)

# ---- broker ---------------------------------------------------------------------------------------------------------

# Redis 6.2+ or RabbitMQ 3.10+. It carries run ids only; losing it loses nothing. With CGK_BROKER_URL=postgresql there
# is none, and Celery needs no server.
broker_url = _celery_url(_settings.broker) if _has_broker else "memory://"

# TLS to RabbitMQ: the certificate is checked, and the name in it. Redis takes all of it from the URL.
broker_use_ssl = _amqp_tls(_settings.broker) if _has_broker else None

# Redis: our transport pops messages without acknowledging them, because PostgreSQL knows what was claimed, and
# survives the moment in which Redis goes away. RabbitMQ: Kombu's own.
broker_transport = "cgk_tasks.broker.transport:Transport" if _redis and _has_broker else None

broker_transport_options = (
    {
        "global_keyprefix": _settings.key_prefix,  # several deployments can share one Redis
        "priority_steps": [0, 3, 6, 9],  # four lists a queue; the senders write to the same ones
        "socket_timeout": 5,  # a frozen Redis or a half-open socket must not block a worker for ever
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,  # a BRPOP that is under way waits for Redis all the same
    }
    if _redis
    else {"confirm_publish": True}  # RabbitMQ may drop a message silently without it
)

# Workers wait for a broker that is not there yet, and come back when it returns.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# ---- messages -------------------------------------------------------------------------------------------------------

# JSON only, never pickle. Messages name runs that are on record. One that carries its payload itself, as anybody with
# access to the broker can write it, starts what CGK_EXTERNAL_EVENTS names and telemetry, nothing else.
task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]

# Times live in PostgreSQL, in UTC.
enable_utc = True
timezone = "UTC"

# ---- queues ---------------------------------------------------------------------------------------------------------

# CGK_DEFAULT_QUEUE and CGK_QUEUES; `-Q` picks some of them. On RabbitMQ they are quorum queues.
task_default_queue = _settings.default_queue
task_queues = [
    Queue(_name) if _redis else _amqp_queue(_name)
    for _name in dict.fromkeys((_settings.default_queue, *_settings.queues))
]

# A queue that `-Q` names and that is not listed above is made on the fly: the same kind of queue as the others.
task_create_missing_queues = True
task_create_missing_queue_type = "classic" if _redis else "quorum"

# ---- workers --------------------------------------------------------------------------------------------------------

# A message is acknowledged when it is received: the record of runs, not the broker, knows what was done.
task_acks_late = False

# Two messages wait in each child's pipe: enough to keep it busy, few enough that a long job does not hold others up.
worker_prefetch_multiplier = 2

# Nobody reads these; the record of runs has every start and end. `-E` turns them on for Flower.
worker_send_task_events = False
task_send_sent_event = False

# Celery's, except that what it cannot read is set aside: there such a message ends one worker after another.
worker_consumer = "cgk_tasks.celery_tasks.consumer:RunConsumer"

# Logs are set up by cgk_tasks, with tenant, event, run and attempt on each line.
worker_hijack_root_logger = False

# On SIGTERM and Ctrl-C running jobs have so many seconds. Then they are ended, and run elsewhere.
worker_soft_shutdown_timeout = _settings.stop_grace_seconds

# ---- results --------------------------------------------------------------------------------------------------------

# AsyncResult reads the record of runs; workers write no second copy of a result.
result_backend = "cgk_tasks.celery_tasks.result_backend:RunResultBackend"

# ---- schedules ------------------------------------------------------------------------------------------------------

# `celery -A cgk_tasks beat`: the table in beat_schedule.py, and what operators change in django-celery-beat's tables.
# Several beats may run; one leads.
beat_scheduler = "cgk_tasks.schedules.scheduler:CgkScheduler"
