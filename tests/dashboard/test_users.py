"""Users, roles, and how often somebody may guess."""

import json
import stat

import pytest

from cgk_tasks.config import Settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.monitoring.dashboard.access.entrance import Entrance
from cgk_tasks.monitoring.dashboard.access.passwords import fits, hash_password
from cgk_tasks.monitoring.dashboard.access.roles import Person, role_by_rules
from cgk_tasks.monitoring.dashboard.access.throttle import Throttle
from cgk_tasks.monitoring.dashboard.access.users import UsersFile


@pytest.fixture
def file(tmp_path):
    return UsersFile(tmp_path / "some" / "users.json")


def test_a_password_fits_its_own_hash_alone():
    kept = hash_password("correct horse")
    assert fits("correct horse", kept)
    assert not fits("correct horsE", kept)
    assert kept != hash_password("correct horse")


@pytest.mark.parametrize("kept", ["", "plain", "md5$1$2$3$4$5", "scrypt$x$8$1$aa$bb", "scrypt$16384$8$1$!!$!!"])
def test_what_is_no_hash_of_ours_fits_nothing(kept):
    assert not fits("anything", kept)


def test_a_user_can_be_added_found_changed_and_removed(file):
    file.add("ada", "viewer", "first-password")
    stamp = file.users()["ada"].stamp
    file.add("ada", "admin", "second-password")
    assert file.check("ada", "first-password") is None
    assert file.check("ada", "second-password").person == Person("ada", "admin")
    assert file.users()["ada"].stamp != stamp
    file.remove("ada")
    assert file.check("ada", "second-password") is None


def test_the_file_is_for_its_owner_and_has_no_password_in_it(file):
    file.add("ada", "viewer", "first-password")
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert "first-password" not in file.path.read_text()


def test_a_change_by_another_process_is_seen(file):
    file.add("ada", "viewer", "first-password")
    assert file.users()
    UsersFile(file.path).remove("ada")
    assert file.users() == {}


@pytest.mark.parametrize(("name", "password"), [("", "long-enough-1"), ("a b", "long-enough-1"), ("ada", "short")])
def test_poor_names_and_passwords_are_refused(file, name, password):
    with pytest.raises(ConfigurationError):
        file.add(name, "viewer", password)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"users": [{"name": "a"}]}', json.dumps({"users": [{"name": "a", "role": "king", "password": ""}]})],
)
def test_a_file_that_cannot_be_read_lets_nobody_in_and_says_so(file, text):
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(ConfigurationError):
        file.check("a", "b")


def test_each_role_may_do_what_those_before_it_may():
    assert [Person("x", "operator").may(role) for role in ("viewer", "operator", "admin")] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("ada@example.com", "admin"),
        ("ADA@example.com", "admin"),
        ("bo@example.com", "operator"),
        ("bo@other.com", "viewer"),
    ],
)
def test_the_first_rule_that_fits_gives_the_role(name, role):
    assert role_by_rules(name, ["ada@example.com=admin", "*@example.com=operator"]) == role


@pytest.mark.parametrize("rule", ["ada", "=admin", "ada=king"])
def test_a_rule_that_is_none_is_an_error(rule):
    with pytest.raises(ConfigurationError):
        role_by_rules("ada", [rule])


def test_after_five_failures_a_name_waits_out_the_minute():
    now = 0.0
    throttle = Throttle(lambda: now)
    for _ in range(5):
        assert throttle.wait_seconds("ada") == 0
        throttle.failed("ada")
    assert throttle.wait_seconds("ada") == 60
    assert throttle.wait_seconds("bo") == 0
    now = 61.0
    assert throttle.wait_seconds("ada") == 0


class Options:
    """As Flower has them."""

    def __init__(self, **given):
        self.auth, self.basic_auth, self.unix_socket = "", [], ""
        self.address = "127.0.0.1"
        vars(self).update(given)


@pytest.mark.parametrize(("options", "open_on_loopback", "way"), [
    ({}, False, "users"), ({}, True, "open"), ({"auth": "*@example.com"}, True, "flower"),
    ({"basic_auth": ["a:b"]}, False, "flower"),
    ({"address": "0.0.0.0"}, False, "users"),
])  # fmt: skip
def test_the_way_in_follows_the_options(environment, options, open_on_loopback, way):
    assert Entrance.choose(Settings(dashboard_open_on_loopback=open_on_loopback), Options(**options)).way == way


@pytest.mark.parametrize(
    "options", [{"address": ""}, {"address": "0.0.0.0"}, {"address": "10.1.2.3"}, {"unix_socket": "/tmp/x"}]
)
def test_open_is_refused_where_others_could_come_in(environment, options):
    with pytest.raises(ConfigurationError, match="CGK_DASHBOARD_OPEN_ON_LOOPBACK"):
        Entrance.choose(Settings(dashboard_open_on_loopback=True), Options(**options))
