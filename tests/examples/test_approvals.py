"""The example of an approval by a person, in this process: the links in the messages, and the view behind them."""

import time
from datetime import timedelta

import pytest

from cgk_tasks import send_job
from cgk_tasks.events import CreatorRejected, SlackNotify
from tests.examples.approvals import CreatorSignedUp, app, links

DAY = timedelta(days=1)


@pytest.fixture
def browser(without_servers):
    app.config.update(SECRET_KEY="only for tests", SHOP_URL="https://shop.example")
    return app.test_client()


@pytest.fixture
def link(browser, local_jobs):
    """What the team was sent for a creator who has signed up."""
    send_job(CreatorSignedUp(tenant_id="acme", creator_id="ada"))
    local_jobs.wait_idle()
    return links_in(local_jobs)[0]


def links_in(local_jobs):
    return [event.message.split()[-1] for event in local_jobs.sent if isinstance(event, SlackNotify)]


def answers(local_jobs):
    return [event.reason for event in local_jobs.sent if isinstance(event, CreatorRejected)]


def test_who_follows_the_link_and_accepts_lets_the_creator_begin(browser, link, local_jobs):
    assert "Accept" in browser.get(link).text
    assert browser.post(link, data={"accepted": "yes", "by": "grace"}).text == "Thank you."
    assert local_jobs.wait_idle()[0].result == "grace has accepted"


def test_a_program_that_follows_the_link_decides_nothing(browser, link, local_jobs):
    browser.get(link)
    assert local_jobs.advance(DAY)[0].state == "scheduled"


def test_a_creator_who_is_declined_is_told(browser, link, local_jobs):
    browser.post(link, data={"accepted": "no", "by": "grace"})
    local_jobs.wait_idle()
    assert answers(local_jobs) == ["grace has declined"]


def test_the_team_is_reminded_once_after_three_days_and_may_still_decide(browser, link, local_jobs):
    local_jobs.advance(2.9 * DAY)
    assert len(links_in(local_jobs)) == 1
    local_jobs.advance(5 * DAY)
    _first, second = links_in(local_jobs)
    browser.post(second, data={"accepted": "yes", "by": "grace"})
    assert local_jobs.wait_idle()[0].result == "grace has accepted"


def test_a_creator_about_whom_nobody_decides_is_declined_after_two_weeks(browser, link, local_jobs):
    local_jobs.advance(13.9 * DAY)
    assert answers(local_jobs) == []
    local_jobs.advance(0.2 * DAY)
    assert answers(local_jobs) == ["nobody has decided"]
    assert browser.post(link, data={"accepted": "yes", "by": "grace"}).status_code == 409


def test_the_first_decision_counts(browser, link, local_jobs):
    decided = [browser.post(link, data={"accepted": answer, "by": "grace"}) for answer in ("no", "yes")]
    assert [answer.status_code for answer in decided] == [200, 409]
    assert local_jobs.wait_idle()[0].result == "grace has declined"


def test_a_message_that_is_sent_again_later_has_the_same_link(browser, link, monkeypatch):
    """Else the key of the send would be refused with it."""
    token, later = link.rpartition("/")[2], time.time() + 60
    run_id = links().loads(token)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        again = links().dumps(run_id)
    assert again == token


def test_a_link_that_nobody_was_sent_leads_nowhere(browser, link):
    assert browser.post(f"{link}x", data={"accepted": "yes", "by": "mallory"}).status_code == 404
