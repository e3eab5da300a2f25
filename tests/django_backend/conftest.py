"""Django at the module's database, with our backend in the setting TASKS."""

from importlib import import_module

import pytest

from cgk_tasks import tenant_context


@pytest.fixture(scope="module")
def tasks(django_tables):
    """The project's tasks."""
    from django.db import connections
    from django.test import override_settings

    from tests.django_backend.settings import TASKS

    with override_settings(TASKS=TASKS):
        yield import_module("tests.django_backend.tasks")
    connections.close_all()


@pytest.fixture
def acme(tasks):
    with tenant_context("acme") as tenant:
        yield tenant
