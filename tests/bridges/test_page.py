"""What the page "Move from BullMQ" shows: its function, and what the command writes."""

from datetime import UTC, datetime

import pytest
import redis

from cgk_tasks.bridges.bullmq import BullMQJob
from tests.bridges.bullmq_support import HERE, NAME, load
from tests.cli.conftest import cgk  # noqa: F401 - a fixture
from tests.docs.pages import ROOT, blocks
from tests.support import jobs  # noqa: F401 - defines test.behave

PAGE = ROOT / "docs/how-to/move-from-bullmq.md"


@pytest.fixture
def event_of():
    (block,) = blocks(PAGE, "python")
    namespace = {}
    exec(compile(block.text, str(PAGE), "exec", dont_inherit=True), namespace)
    return namespace["event_of"]


def job(name, **data):
    return BullMQJob("1", "orders", name, "waiting", {"shop": "acme", "id": 7} | data, {}, datetime.now(UTC))


def test_the_function_of_the_page_makes_events(event_of):
    created, cancelled = event_of(job("created", total=59.97)), event_of(job("cancelled"))
    assert (created.event_name, created.order_id, float(created.total_amount)) == ("order.created", "7", 59.97)
    assert (cancelled.event_name, cancelled.tenant_id) == ("order.cancelled", "acme")
    assert event_of(job("other")) is None


def test_the_command_writes_what_the_page_shows(cgk, services, database, monkeypatch):  # noqa: F811 - the fixture
    url = f"{services.broker_url.rpartition('/')[0]}/9"
    monkeypatch.setenv("BULLMQ_REDIS_URL", url)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        client.flushdb()
        load(client, HERE / "bullmq-6.json")
        outcome = cgk("bridge", "bullmq", "--queue", NAME, "--event", "test.behave", "--dry-run")
        client.flushdb()
    dry_run = next(block.text for block in blocks(PAGE, "console") if "--dry-run" in block.text)
    shown = [line.split()[0] for line in dry_run.splitlines() if not line.startswith("$") and "left in" not in line]
    assert [line.split()[0] for line in outcome.out.splitlines() if line.strip()] == shown
    assert '1 left in BullMQ, like nobody: There is no tenant "nobody-there".' in outcome.err
