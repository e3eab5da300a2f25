"""Two clients in one process, each with a database of its own."""

import threading

import psycopg
import pytest
from sqlalchemy.orm import Session

from cgk_tasks import SendItem, create_job_client, get_job_client
from cgk_tasks.broker.envelope import NOTHING_WAITS
from cgk_tasks.broker.publisher import get_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, UnknownRunError, UnknownTenantError
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.sql.postgres import open_connections, transaction
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.tenancy import add_tenant
from tests.conftest import copied_database

pytestmark = pytest.mark.usefixtures("database")


def order(tenant="acme"):
    return {"tenantId": tenant, "orderId": "o-1", "totalAmount": 59.97}


@pytest.fixture(scope="module")
def other_database(services, template, database):
    return copied_database(services, template)


@pytest.fixture
def here():
    return get_job_client()


@pytest.fixture
def there(other_database):
    client = create_job_client("celery", database_url=other_database, broker_url=get_settings().broker)
    yield client
    client.close()


def is_in(client, handle):
    try:
        return client.get_run_status(handle.id).id == handle.id
    except UnknownRunError:
        return False


def where(handle, here, there):
    return [name for name, client in (("here", here), ("there", there)) if is_in(client, handle)]


def test_interleaved_sends_arrive_in_the_database_of_their_client(here, there):
    sent = [(name, client.send("order.created", order())) for _ in range(5) for name, client in
            (("here", here), ("there", there))]  # fmt: skip
    assert [where(handle, here, there) for _name, handle in sent] == [[name] for name, _handle in sent]


def test_sends_from_two_threads_arrive_in_the_database_of_their_client(here, there):
    sent, both = {"here": [], "there": []}, threading.Barrier(2)

    def send(name, client):
        both.wait(5)
        sent[name].extend(client.send("order.created", order()) for _ in range(20))

    threads = [threading.Thread(target=send, args=one) for one in (("here", here), ("there", there))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: [where(one, here, there) for one in handles] for name, handles in sent.items()} == {
        name: [[name]] * 20 for name in sent
    }


def test_a_batch_with_keys_arrives_in_the_database_of_its_client(here, there):
    item = SendItem("order.created", order())
    keyed = [SendItem("order.created", order(), item.options.__class__(idempotency_key=f"two-{n}")) for n in range(2)]
    handles = there.send_batch(keyed)
    assert [where(handle, here, there) for handle in handles] == [["there"]] * 2
    assert not any(handle.deduplicated for handle in here.send_batch(keyed))


def test_a_session_of_the_clients_database_decides_on_its_runs(here, there):
    with there.runtime.active(), Session(engine()) as session:
        committed = there.send("order.created", order(), session=session, queue="two-databases")
        before = where(committed, here, there)
        session.commit()
        rolled_back = there.send("order.created", order(), session=session)
        session.rollback()
    assert (before, where(committed, here, there), where(rolled_back, here, there)) == ([], ["there"], [])


def test_a_run_sent_in_a_session_is_published_by_its_client_after_the_commit(here, there):
    """Outside of the client's own block: the session's commit must know whose run it was."""
    with there.runtime.active():
        session = Session(engine())
    with session:
        there.send("order.created", order(), session=session, queue="two-databases-later")
        session.commit()
    assert get_publisher().oldest_waiting("two-databases-later", DEFAULT_PRIORITY) is not NOTHING_WAITS


def test_a_send_to_the_other_database_does_not_join_a_transaction_of_this_one(here, there):
    with transaction() as connection, unit_of_work(connection):
        elsewhere = there.send("order.created", order())
        joined = here.send("order.created", order())
        before = where(elsewhere, here, there), where(joined, here, there)
    assert (before, where(joined, here, there)) == ((["there"], []), ["here"])


def test_a_tenant_of_one_database_is_unknown_in_the_other(here, there):
    with there.runtime.active():
        add_tenant("only-there")
    assert where(there.send("order.created", order("only-there")), here, there) == ["there"]
    with pytest.raises(UnknownTenantError):
        here.send("order.created", order("only-there"))


def test_a_closed_client_leaves_no_connection_and_the_others_theirs(here, other_database):
    client = create_job_client("celery", database_url=other_database, broker_url=get_settings().broker)
    client.send("order.created", order())
    here.send("order.created", order())
    before = open_connections()
    client.close()
    with psycopg.connect(other_database) as connection:
        others = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        ).fetchone()
    assert (others, open_connections()) == ((0,), before)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"provider": "celery", "database_url": "postgresql://h/d"}, "needs both"),
        ({"provider": "local", "database_url": "postgresql://h/d", "broker_url": "redis://h/0"}, "takes none"),
    ],
)
def test_servers_that_a_client_cannot_have_are_refused(given, says):
    with pytest.raises(ConfigurationError, match=says):
        create_job_client(**given)
