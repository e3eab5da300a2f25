import os

from psycopg.conninfo import conninfo_to_dict

SECRET_KEY = "only for tests"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_celery_beat",
    "orders",
]
MIDDLEWARE = ["config.middleware.ShopOfRequest"]
ROOT_URLCONF = "config.urls"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_place = conninfo_to_dict(os.environ["SHOP_DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _place.pop("dbname"),
        "USER": _place.pop("user", ""),
        "PASSWORD": _place.pop("password", ""),
        "HOST": _place.pop("host", ""),
        "PORT": _place.pop("port", ""),
        "OPTIONS": _place,
    }
}

CELERY_BROKER_URL = os.environ["SHOP_BROKER_URL"]
CELERY_RESULT_BACKEND = os.environ["SHOP_BROKER_URL"]
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
CELERY_TASK_ALWAYS_EAGER = os.environ.get("SHOP_EAGER") == "1"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "count-orders": {
        "task": "orders.tasks.count_orders",
        "schedule": 1.0,
        "kwargs": {"note": "nightly"},
        "options": {"headers": {"tenant": "acme"}},
    },
}
