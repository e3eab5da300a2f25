"""Redis loses everything, or goes away and comes back."""

import threading

import redis

from cgk_tasks import send_job
from tests.faults.journal import once, rows_written, wait_completed
from tests.support.waiting import wait_until


def test_a_thousand_waiting_runs_all_run_once_each_after_redis_was_flushed(worker, journal, services):
    worker.kill_group()
    runs = journal.send(1000)
    with redis.Redis.from_url(services.broker_url) as client:
        waiting = client.dbsize()
        client.flushall()
    worker.restart()
    wait_completed(runs, 40)
    assert waiting > 0
    assert journal.starts(runs) == once(runs)
    assert rows_written(runs) == once(runs)


def test_redis_flushed_under_load_loses_no_run(worker, journal, services):
    runs = journal.send(200, seconds=0.01)
    journal.wait_at_work(runs)
    with redis.Redis.from_url(services.broker_url) as client:
        client.flushall()
    wait_completed(runs)
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []


def test_redis_that_goes_away_under_load_stops_no_send_and_loses_no_run(worker, broker, journal):
    runs = journal.send(100, seconds=0.05, writes=False)
    long = journal.send(1, seconds=3.0, priority=9)  # holds its child over the whole outage
    journal.wait_at_work(long)
    broker.kill("SIGTERM")
    sent_meanwhile = [send_job(journal.work(number, 0.01)).id for number in range(20)]
    delayed = journal.send(5, delay=0.3)
    wait_until(lambda: "Trying again" in worker.logs() or "Connection to broker lost" in worker.logs(), 20)
    broker.start()
    everything = [*runs, *long, *sent_meanwhile, *delayed]
    wait_completed(everything, 60)
    assert journal.overlaps == []
    assert journal.starts(everything) == once(everything)


def test_sends_from_many_threads_while_redis_restarts_are_all_accepted(worker, broker, journal):
    accepted: list[str] = []
    stop = threading.Event()

    def send_all_the_time() -> None:
        while not stop.wait(0.01):
            accepted.append(send_job(journal.work(len(accepted))).id)

    threads = [threading.Thread(target=send_all_the_time) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(accepted) > 20)
    broker.restart()
    so_far = len(accepted)
    wait_until(lambda: len(accepted) > so_far + 20)
    stop.set()
    for thread in threads:
        thread.join()
    wait_completed(accepted, 40)
    assert rows_written(accepted) == once(accepted)


def test_runs_lost_again_and_again_start_within_seconds_of_the_last_loss(worker, broker, journal, services):
    runs = journal.send(100, seconds=0.02)
    for number in range(8):
        broker.kill()
        runs += [send_job(journal.work(number)).id for _ in range(3)]
        broker.start()
        with redis.Redis.from_url(services.broker_url) as client:
            client.flushall()
    wait_completed(runs, 30)
    assert rows_written(runs) == once(runs)
    assert journal.overlaps == []
