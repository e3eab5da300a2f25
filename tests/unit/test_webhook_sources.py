"""`define_webhook`: what it refuses at import, and where a source's secrets come from."""

import pytest

from cgk_tasks import WebhookDelivery, define_webhook
from cgk_tasks.errors import ConfigurationError, UnknownEventError
from cgk_tasks.events import OrderCreated
from cgk_tasks.inbound.sources import all_sources, find_source, remove_source
from tests.support.tenancy_jobs import ProbeTelemetry


@pytest.fixture(autouse=True)
def only_these():
    before = {source.name for source in all_sources()}
    yield
    for source in all_sources():
        if source.name not in before:
            remove_source(source.name)


def defined(name="shop", **options):
    define_webhook(name, **{"scheme": "github", "secret": "SHOP_SECRET", "event": OrderCreated} | options)(ignore)
    return find_source(name)


def ignore(_delivery):
    return None


def test_a_source_is_known_by_its_name():
    source = defined(tenant="acme", tolerance=60)
    assert (source.name, source.scheme, source.event, source.tenant, source.tolerance) == (
        "shop", "github", "order.created", "acme", 60.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "a shop"}, "not a name"),
        ({"name": ""}, "not a name"),
        ({"scheme": "gitlab"}, "There are: 'standard'"),
        ({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "A secret does not belong into the code"),
        ({"secret": []}, "name of a variable"),
        ({"secret": None}, "name of a variable"),
        ({"tenant": 7}, "tenant must be"),
        ({"tenant": "Not A Tenant"}, "tenant must be"),
        ({"tolerance": 0}, "tolerance must be"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"tolerance": True}, "tolerance must be"),
        ({"tolerance": 100_000}, "tolerance must be"),
        ({"event": ProbeTelemetry}, "leaves no record"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_at_import(options, said):
    with pytest.raises(ConfigurationError, match=said):
        defined(**options)


def test_an_event_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(UnknownEventError, match=r"order\.created"):
        defined(event="order.craeted")


def test_a_function_that_waits_is_refused():
    async def later(delivery: WebhookDelivery) -> None: ...

    with pytest.raises(ConfigurationError, match="not async def"):
        define_webhook("shop", scheme="github", secret="SHOP_SECRET")(later)


def test_a_function_of_another_shape_is_refused():
    with pytest.raises(ConfigurationError, match="one argument"):
        define_webhook("shop", scheme="github", secret="SHOP_SECRET")(lambda: None)


def test_a_name_belongs_to_one_function():
    defined()
    with pytest.raises(ConfigurationError, match="defined twice"):
        define_webhook("shop", scheme="github", secret="SHOP_SECRET")(lambda delivery: None)


def test_a_module_that_is_imported_again_replaces_its_sources():
    defined()
    assert defined(tolerance=60).tolerance == 60


# Secrets


def test_a_secret_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SHOP_SECRET", "one, two")
    assert defined().secrets(None) == ("one", "two")


def test_a_secret_comes_from_a_file_and_counts_anew_when_the_file_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("SHOP_SECRET_FILE", str(tmp_path / "secret"))
    source = defined()
    for text in ("one\n", "two\n"):
        (tmp_path / "secret").write_text(text)
        assert source.secrets(None) == (text.strip(),)


def test_a_secret_comes_from_the_files_of_the_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SHOP_SECRET=old")
    (tmp_path / ".env.local").write_text("SHOP_SECRET=new")
    assert defined().secrets(None) == ("new",)


def test_several_variables_have_several_secrets(monkeypatch):
    monkeypatch.setenv("QSTASH_CURRENT_SIGNING_KEY", "one")
    monkeypatch.setenv("QSTASH_NEXT_SIGNING_KEY", "two")
    assert defined(secret=["QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY"]).secrets(None) == ("one", "two")


def test_a_secret_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="SHOP_SECRET, or SHOP_SECRET_FILE"):
        defined().check()


@pytest.mark.parametrize(("given", "expected"), [("one", ("one",)), (["one", "two"], ("one", "two"))])
def test_a_function_gets_the_tenant_and_returns_its_secrets(given, expected):
    assert defined(secret=lambda tenant: given if tenant == "acme" else "").secrets("acme") == expected


@pytest.mark.parametrize("given", ["", [], [""], [None], None])
def test_a_function_that_returns_no_secret_lets_nobody_in(given):
    with pytest.raises(ConfigurationError, match="has no secret"):
        defined(secret=lambda _tenant: given).secrets("acme")


def test_a_source_does_not_show_its_secrets():
    assert "hush" not in repr(defined(secret=lambda _tenant: "hush"))


def test_qstash_needs_the_address_of_the_gateway(monkeypatch, setting):
    monkeypatch.setenv("SHOP_SECRET", "one")
    source = defined(scheme="qstash")
    setting(CGK_GATEWAY_URL=None)
    with pytest.raises(ConfigurationError, match="CGK_GATEWAY_URL"):
        source.check()
    setting(CGK_GATEWAY_URL="https://jobs.example.com")
    source.check()
