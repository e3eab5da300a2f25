"""Users and roles in PostgreSQL, their password hashes, and the settings that they replace."""

import json

import pytest

from cgk_tasks.config import Settings
from cgk_tasks.dashboard.access.authentication import Authentication
from cgk_tasks.dashboard.access.deprecated_settings import UsersFile, account_by_rules
from cgk_tasks.dashboard.access.passwords import hash_password, needs_rehash, verify_password
from cgk_tasks.dashboard.access.users import (
    find_account,
    has_passwords,
    import_accounts,
    list_accounts,
    remove_user,
    save_user,
    set_password,
    set_role,
)
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import autocommit
from tests.dashboard.dashboard_support import scrypt


@pytest.fixture
def no_users(database):
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.dashboard_users, cgk.dashboard_sessions")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.json"
    entries = [("ada", "admin"), ("Bo", "viewer")]
    users = [{"name": name, "role": role, "password": scrypt(f"{name}-password")} for name, role in entries]
    path.write_text(json.dumps({"users": users}))
    return UsersFile(path)


@pytest.mark.parametrize("make", [hash_password, scrypt])
def test_a_hash_verifies_its_own_password_alone(make):
    stored = make("correct horse")
    assert verify_password("correct horse", stored)
    assert not verify_password("correct horsE", stored)


def test_no_two_hashes_are_alike():
    assert hash_password("correct horse") != hash_password("correct horse")


@pytest.mark.parametrize("stored", [
    "", "plain", "md5$1$2$3$4$5", "scrypt$x$8$1$aa$bb", "scrypt$16384$8$1$!!$!!", "$argon2id$v=19$m=8,t=1,p=1$aa$bb",
])  # fmt: skip
def test_what_is_no_hash_verifies_nothing(stored):
    assert not verify_password("anything", stored)


def test_a_hash_of_the_old_kind_is_to_be_renewed():
    assert needs_rehash(scrypt("correct horse"))
    assert not needs_rehash(hash_password("correct horse"))


def test_a_user_is_added_changed_and_removed(no_users):
    save_user("ada", "viewer", "first-password")
    assert has_passwords()
    first = find_account("ada")
    save_user("ada", "admin", "second-password")
    second = find_account("ada")
    assert (second.role, verify_password("second-password", second.password_hash)) == ("admin", True)
    assert second.version != first.version
    remove_user("ada")
    assert find_account("ada") is None


@pytest.mark.parametrize("change", [lambda: set_role("ada", "viewer"), lambda: set_password("ada", "other-password")])
def test_every_change_has_a_version_of_its_own(no_users, change):
    save_user("ada", "viewer", "first-password")
    before = find_account("ada").version
    change()
    assert find_account("ada").version != before


def test_a_user_who_is_removed_and_added_again_is_another(no_users):
    save_user("ada", "viewer", None)
    before = find_account("ada").version
    remove_user("ada")
    save_user("ada", "viewer", None)
    assert find_account("ada").version != before


def test_upper_and_lower_case_are_the_same_user(no_users):
    save_user("ada", "viewer", None)
    save_user("ADA", "admin", None)
    assert [(one.name, one.role) for one in list_accounts()] == [("ADA", "admin")]
    assert find_account("Ada").role == "admin"


@pytest.mark.parametrize(("name", "role"), [
    ("ada@example.com", "admin"), ("ADA@Example.com", "admin"), ("bo@example.com", "operator"),
    ("bo@mail.example.com", "viewer"), ("x_y@a-b.org", "operator"),
])  # fmt: skip
def test_the_name_itself_comes_before_patterns_and_the_longest_pattern_before_others(no_users, name, role):
    save_user("ada@example.com", "admin", None)
    save_user("*@example.com", "operator", None)
    save_user("*example.com", "viewer", None)
    save_user("x_*@a-b.org", "operator", None)
    assert find_account(name).role == role


@pytest.mark.parametrize("name", ["xxy@a-b.org", "bo@example.org", "%"])
def test_a_pattern_matches_its_other_characters_as_they_are(no_users, name):
    save_user("x_*@a-b.org", "operator", None)
    save_user("*@example.com", "operator", None)
    assert find_account(name) is None


@pytest.mark.parametrize(("name", "password"), [
    ("", "long-enough-1"), ("a b", "long-enough-1"), ("ada", "short"), ("*@example.com", "long-enough-1"),
])  # fmt: skip
def test_poor_names_and_passwords_are_refused(no_users, name, password):
    with pytest.raises(ConfigurationError):
        save_user(name, "viewer", password)


@pytest.mark.parametrize("change", [
    lambda: set_role("nobody", "viewer"), lambda: set_password("nobody", "long-enough-1"),
    lambda: remove_user("nobody"),
])  # fmt: skip
def test_a_user_who_is_not_there_cannot_be_changed(no_users, change):
    with pytest.raises(ConfigurationError, match="There is no user 'nobody'"):
        change()


def test_an_import_adds_those_who_are_not_there(no_users, file):
    save_user("BO", "admin", None)
    assert import_accounts(file.accounts().values()) == ["ada"]
    assert verify_password("ada-password", find_account("ada").password_hash)
    assert find_account("bo").role == "admin"


def test_a_user_is_taken_out_of_the_old_file(file):
    assert file.remove("bo")
    assert not file.remove("bo")
    assert list(UsersFile(file.path).accounts()) == ["ada"]


@pytest.mark.parametrize("text", [
    "", "{}", '{"users": [{"name": "a"}]}', json.dumps({"users": [{"name": "a", "role": "king", "password": ""}]}),
])  # fmt: skip
def test_an_old_file_that_cannot_be_read_lets_nobody_in_and_says_so(file, text):
    file.path.write_text(text)
    with pytest.raises(ConfigurationError):
        file.find("ada")


def test_each_role_may_do_what_those_before_it_may():
    assert [User("x", "operator").may(role) for role in ("viewer", "operator", "admin")] == [True, True, False]


@pytest.mark.parametrize(("name", "role"), [
    ("ada@example.com", "admin"), ("ADA@example.com", "admin"), ("bo@example.com", "operator"),
])  # fmt: skip
def test_of_the_old_rules_the_first_that_matches_gives_the_role(name, role):
    assert account_by_rules(name, ["ada@example.com=admin", "*@example.com=operator"]).role == role


@pytest.mark.parametrize("rule", ["ada", "=admin", "ada=king"])
def test_a_rule_that_is_none_is_an_error(rule):
    with pytest.raises(ConfigurationError):
        account_by_rules("ada", [rule])


class Options:
    """As Flower has them."""

    def __init__(self, **given):
        self.auth, self.basic_auth, self.unix_socket = "", [], ""
        self.address = "127.0.0.1"
        vars(self).update(given)


@pytest.mark.parametrize(("options", "open_on_loopback", "method"), [
    ({}, False, "users"), ({}, True, "open"), ({"auth": ".*@example.com"}, True, "oauth"),
    ({"basic_auth": ["a:b"]}, False, "basic"), ({"auth": ".*", "basic_auth": ["a:b"]}, False, "oauth"),
    ({"address": "0.0.0.0"}, False, "users"),
])  # fmt: skip
def test_the_login_method_follows_the_options(environment, options, open_on_loopback, method):
    settings = Settings(dashboard_open_on_loopback=open_on_loopback)
    assert Authentication.choose(settings, Options(**options)).method == method


@pytest.mark.parametrize(
    "options", [{"address": ""}, {"address": "0.0.0.0"}, {"address": "10.1.2.3"}, {"unix_socket": "/tmp/x"}]
)
def test_open_is_refused_where_others_could_come_in(environment, options):
    with pytest.raises(ConfigurationError, match="CGK_DASHBOARD_OPEN_ON_LOOPBACK"):
        Authentication.choose(Settings(dashboard_open_on_loopback=True), Options(**options))
