"""No line of the log holds a login or a secret of the settings."""

import json
import logging
from urllib.parse import quote

import redis
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection

from cgk_tasks.config import Settings
from cgk_tasks.config.broker_url import celery_url, redis_py_url
from cgk_tasks.monitoring.log_secrets import MASK, SecretsMask

PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=40).filter(
    lambda text: not text.isalpha() and len(set(text)) > 4
)
SCHEMES = ["redis://ada:{}@redis:6379/0", "redis://:{}@127.0.0.1", "redis+socket://:{}@/run/redis.sock",
           "rediss://ada:{}@redis", "amqp://ada:{}@rabbit//", "amqps://ada:{}@rabbit:5671/v"]  # fmt: skip
SOME = "p@ss/w#rd:%41?&[x]+ =é\"'$HOME\\n"


def mask_for(broker_url="redis://localhost", **settings):
    return SecretsMask(Settings(_env_file=None, broker_url=broker_url, **settings))


@given(PASSWORDS, st.sampled_from(SCHEMES))
def test_a_login_is_masked_in_every_url_of_a_line(password, scheme):
    line = mask_for()(f"no answer from {scheme.format(quote(password, safe=''))}, and again {scheme.format('xyz')}")
    assert quote(password, safe="") not in line
    assert "xyz" not in line


@given(PASSWORDS, st.sampled_from(SCHEMES))
def test_the_password_of_a_setting_is_masked_in_every_form_that_a_renderer_gives_it(password, scheme):
    mask = mask_for(scheme.format(quote(password, safe="")))
    told = {"error": f"login with {password} failed", "repr": f"{{'password': {password!r}}}"}
    for line in (told["error"], told["repr"], json.dumps(told), json.dumps(told, ensure_ascii=False)):
        shown = mask(line)
        assert password not in shown
        assert json.dumps(password)[1:-1] not in shown
        assert MASK in shown


@given(PASSWORDS, st.sampled_from(SCHEMES))
def test_what_libraries_say_of_a_connection_has_no_password(password, scheme):
    url = scheme.format(quote(password, safe=""))
    transport = None if url.startswith("amqp") else "cgk_tasks.broker.transport:Transport"
    connection = Connection(celery_url(url), transport=transport)
    said = [connection.as_uri(), repr(connection)]
    if transport:
        said.append(repr(redis.Redis.from_url(redis_py_url(url))))
    assert not [text for text in said if password in text or quote(password, safe="") in text]


def test_other_settings_are_masked_too():
    mask = mask_for(alert_urls={"default": ("slack://TokenA/TokenB",)}, inngest_event_key="signkey-1234567")
    assert mask("refused: signkey-1234567") == f"refused: {MASK}"


def test_a_word_that_is_a_password_as_well_is_left_in_the_text():
    mask = mask_for("amqp://postgres:postgres@rabbit//")
    assert mask("postgres is away: amqp://postgres:postgres@rabbit//") == f"postgres is away: amqp://{MASK}@rabbit//"


def test_an_address_of_somebody_is_no_login():
    assert mask_for()("mail to ada@example.org, see https://example.org/@ada") == (
        "mail to ada@example.org, see https://example.org/@ada"
    )


def test_a_traceback_that_quotes_a_url_is_masked(capsys, monkeypatch):
    from cgk_tasks.config import use_settings
    from cgk_tasks.monitoring.logging import configure_logging

    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    use_settings(Settings(_env_file=None, broker_url=f"redis://:{quote(SOME, safe='')}@redis", log_format="json"))
    try:
        configure_logging()
        try:
            raise ValueError(f"cannot read redis://:{SOME}@redis or {SOME!r}")
        except ValueError:
            logging.getLogger("a.library").exception("it broke with %r", SOME)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        use_settings(None)
    written = capsys.readouterr().out
    assert "it broke" in written
    assert "w#rd" not in written
