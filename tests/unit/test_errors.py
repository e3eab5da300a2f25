"""Every error pickles with its data, and says what happened and what to change."""

import copy
import inspect
import pickle
import re
from datetime import timedelta
from pathlib import Path

import pytest

from cgk_tasks import errors
from cgk_tasks.errors import CgkTasksError

EXAMPLES: list[CgkTasksError] = [
    errors.CgkTasksError("something is wrong"),
    errors.ConfigurationError("CGK_DATABASE_URL is not set. Set it."),
    errors.EmbeddedError("Redis did not start within 5 s. See .cgk/redis.log"),
    errors.StoreError("PostgreSQL is away"),
    errors.StaleAttemptError("This attempt no longer owns its run."),
    errors.BrokerError("Redis is away"),
    errors.ProviderError("Inngest is away", "NETWORK_ERROR", status=503, retry_after=2.0, accepted=["01A"]),
    errors.TenantError("no"),
    errors.TenantMissingError("order.created"),
    errors.InvalidTenantError("Raw Dog"),
    errors.UnknownScheduleError("ab.hourlyMetric", nearest="ab.hourlyMetrics"),
    errors.UnknownEndpointError("acme", "01995a5e"),
    errors.UnknownKeyError("01995a5e"),
    errors.RequestRefusedError("Too many requests.", "TOO_MANY_REQUESTS", 429, retry_after=1.5),
    errors.SignalUrlError("This URL was altered."),
    errors.SecretUnreadableError("smtp_url", "acme", "1a2b3c4d"),
    errors.AddressRefusedError("shop.example has the private address 10.0.0.1."),
    errors.UnknownTenantError("rawdgo", nearest="rawdog"),
    errors.TenantContextError("The context is one of acme."),
    errors.SendError("no"),
    errors.UnknownEventError("order.craeted", nearest="order.created"),
    errors.PayloadInvalidError("order.created", ["orderId: missing", "itemCount: not a number"]),
    errors.PayloadTooLargeError("order.created", 300_000, 262_144),
    errors.InvalidOptionError("delay", "it is negative. Give 0 or more seconds."),
    errors.IdempotencyConflictError("order.created", "order-7", "run-1"),
    errors.ChunkRefusedError(3, errors.UnknownTenantError("nobody")),
    errors.QueueFullError(10_000),
    errors.QueueFullError(3, tenant_id="acme", retry_after=2.0),
    errors.QuotaExceededError("acme", 1000, 3600.0),
    errors.RunError("no"),
    errors.UnknownRunError("run-1"),
    errors.RunStateError("run-1", "running", "retry"),
    errors.RunFailedError("run-1", "TIMEOUT", "too slow"),
    errors.RunLostError("run-1", "POISON_PILL", "its process died"),
    errors.ResultTooLargeError("The result was not kept: it has 1001 bytes, more than 1000."),
    errors.WaitTimeoutError("run-1", 30.0),
    errors.JobError("no"),
    errors.PermanentError("gone", "ACCOUNT_NOT_FOUND"),
    errors.StepFailedError("charge", "STRIPE_CARD_DECLINED", "The card was declined."),
    errors.ChildFailedError("report", "run-1", "NO_DATA", "There is none."),
    errors.ChildCancelledError("report", "run-1"),
    errors.ChildTimeoutError("report", "run-1"),
    errors.WorkflowChangedError("onboard", ["charge", "ship"]),
    errors.TransientError("later", retry_after=timedelta(minutes=2)),
    errors.RetryLater(60, "the bank is closed"),
    errors.LimitReached(1, "limit 'stripe' of tenant acme: 25 in 1 s"),
    errors.JobTimeoutError(5),
    errors.JobLostError("its process died"),
    errors.OutcomeNotRecordedError(ValueError("no")),
    errors.RunCancelledError("run-1"),
]
by_class = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def all_classes(base: type[CgkTasksError]) -> set[type[CgkTasksError]]:
    below = {c for c in base.__subclasses__() if vars(errors).get(c.__name__) is c}  # a time limit makes its own of one
    return {base}.union(*(all_classes(c) for c in below))


def test_the_examples_cover_every_class():
    assert {type(error) for error in EXAMPLES} == all_classes(CgkTasksError)


def drawn(text: str) -> dict[str, int]:
    """The classes of a drawn tree, in order, each with its depth: a level is three characters wide."""
    lines = re.findall(r"^((?:│  |   |[├└]─ )*)(\w+)(?: .*)?$", inspect.cleandoc(text), re.MULTILINE)
    return {name: len(branches) // 3 for branches, name in lines if hasattr(errors, name)}


def test_the_module_docstring_and_the_reference_page_draw_the_tree_of_the_classes():
    page = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text(encoding="utf-8")
    in_code = drawn(errors.__doc__.partition("\n\n")[2].partition("\n\n")[0])
    on_page = drawn(page.partition("## The tree")[2].partition("\n## ")[0])
    depths = {
        c.__name__: sum(issubclass(base, CgkTasksError) for base in c.__mro__) - 1 for c in all_classes(CgkTasksError)
    }
    assert in_code == depths
    assert list(on_page.items()) == list(in_code.items())


@by_class
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_unpickles_with_its_type_text_and_data(error, protocol):
    again = pickle.loads(pickle.dumps(error, protocol))
    assert (type(again), str(again), again.args, again.__dict__) == (
        type(error),
        str(error),
        error.args,
        error.__dict__,
    )


@by_class
def test_an_error_shows_its_text_and_its_hint(error):
    assert str(error) == " ".join(filter(None, (error.text, error.hint)))


def test_a_hint_is_an_attribute_and_survives_pickling():
    again = pickle.loads(pickle.dumps(errors.ConfigurationError("CGK_X is wrong.", hint="Set it to 1.")))
    assert (again.text, again.hint, str(again)) == ("CGK_X is wrong.", "Set it to 1.", "CGK_X is wrong. Set it to 1.")


def test_an_error_without_advice_has_no_hint():
    assert errors.PermanentError("The account is closed", "ACCOUNT_DISABLED").hint is None


@by_class
def test_an_error_can_be_copied(error):
    assert str(copy.copy(error)) == str(error)


@by_class
def test_an_error_has_a_code_in_capitals(error):
    assert error.code.replace("_", "").isalpha()
    assert error.code.isupper()


class OutOfStockError(errors.PermanentError):
    """An application's own error with another signature."""

    def __init__(self, *, sku: str) -> None:
        self.sku = sku
        super().__init__(f"{sku} is out of stock", "OUT_OF_STOCK")


def test_an_applications_subclass_with_its_own_signature_pickles():
    again = pickle.loads(pickle.dumps(OutOfStockError(sku="A-1")))
    assert (again.sku, again.code, str(again)) == ("A-1", "OUT_OF_STOCK", "A-1 is out of stock")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), "NOT_CONFIGURED"),
        (errors.TenantMissingError("x"), "MISSING_TENANT_ID"),
        (errors.InvalidTenantError("X"), "INVALID_TENANT_ID"),
        (errors.UnknownTenantError("x"), "INVALID_TENANT_ID"),
        (errors.PayloadInvalidError("x", []), "INVALID_PAYLOAD"),
        (errors.UnknownRunError("x"), "RECORD_NOT_FOUND"),
        (errors.JobTimeoutError(1), "TIMEOUT"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_has_the_platforms_code(error, code):
    assert error.code == code


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.TenantMissingError("order.created"), "An event names it in its payload, as tenantId"),
        (errors.InvalidTenantError("Raw Dog"), "[a-z0-9][a-z0-9_-]{0,62}"),
        (errors.UnknownTenantError("acme"), "cgk-tasks tenants add acme"),
        (errors.UnknownTenantError("acmee", nearest="acme"), 'Did you mean "acme"?'),
        (errors.UnknownEventError("order.craeted", nearest="order.created"), 'Did you mean "order.created"?'),
        (errors.PayloadInvalidError("a.b", ["one", "two"]), "one; two"),
        (errors.PayloadTooLargeError("a.b", 300_000, 262_144), "Store the data and send a reference"),
        (errors.IdempotencyConflictError("a.b", "k", "run-1"), "or use a new key"),
        (errors.ChunkRefusedError(3, errors.UnknownTenantError("nobody")), "send the chunk again"),
        (errors.RunStateError("run-1", "running", "retry"), "wait until it ends, or cancel it first"),
        (errors.RunStateError("run-1", "completed", "cancel"), "Only open runs can be cancelled"),
        (errors.RunStateError("run-1", "completed", "resume"), "cgk-tasks runs show run-1"),
        (errors.WaitTimeoutError("run-1", 30), "wait with a longer timeout"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_an_error_says_what_to_change(error, advice):
    assert advice in str(error)


def test_a_malformed_tenant_id_is_shown_escaped_and_shortened():
    text = str(errors.InvalidTenantError("a\nb" * 1000))
    assert "\n" not in text
    assert len(text) < 300


@pytest.mark.parametrize(("delay", "seconds"), [(5, 5.0), (timedelta(hours=1), 3600.0), (-1, 0.0)])
def test_waits_are_kept_as_seconds_from_zero(delay, seconds):
    assert errors.RetryLater(delay).delay_seconds == seconds
    assert errors.TransientError("x", retry_after=delay).retry_after == seconds


@pytest.mark.parametrize("delay", [float("inf"), float("nan"), 1e300])
def test_a_senseless_wait_still_fits_a_timedelta(delay):
    assert timedelta(seconds=errors.RetryLater(delay).delay_seconds) >= timedelta(0)


def test_create_permanent_error_makes_a_permanent_error():
    error = errors.create_permanent_error("gone", "ACCOUNT_NOT_FOUND")
    assert (type(error), str(error), error.code) == (errors.PermanentError, "gone", "ACCOUNT_NOT_FOUND")


def test_create_retryable_error_makes_a_transient_error():
    error = errors.create_retryable_error("busy", retry_after=3)
    assert (type(error), error.code, error.retry_after) == (errors.TransientError, "TRANSIENT_ERROR", 3.0)
