"""`.env.local` after the set-up: what was decided is in it, and nothing else has changed."""

import io
import stat

import pytest
from dotenv import dotenv_values
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from cgk_tasks.cli.setup import env_file, urls
from cgk_tasks.errors import ConfigurationError

NAME = "CGK_DATABASE_URL"

values = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=40).filter(
    lambda value: not env_file.unwritable(value)
)
names = st.sampled_from(["A", "B_2", "OTHER", "cgk_key_prefix"])
lines = st.one_of(
    st.just(""),
    st.builds("# {}".format, st.text("abc =#'\"$", max_size=15)),
    st.builds("{}={}".format, names, st.text("abc #'\"\\${}=", max_size=15)),
    st.builds("export {}='{}'".format, names, st.text("abc #\n$", max_size=15)),
    st.builds('{} = "{}"  # why'.format, names, st.text("abc #\n", max_size=15)),
    st.text("abc =#'\"\\", max_size=15),
)
files = st.builds(
    lambda all_lines, newline, end: newline.join(all_lines) + end,
    st.lists(lines, max_size=8), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n"]),
)  # fmt: skip


def changed(text, value):
    """With the database's URL set. A text that cannot be added to is no example."""
    try:
        return env_file.changed(text, {NAME: value})
    except ConfigurationError:
        assert "'" in text or '"' in text
        reject()


def read(text):
    return dotenv_values(stream=io.StringIO(text, newline=""), interpolate=False)


@given(files, values)
def test_what_is_written_is_read_back_and_every_other_variable_is_as_before(text, value):
    assume(NAME not in read(text))
    assert read(changed(text, value)) == {**read(text), NAME: value}


@given(files, values)
def test_a_new_variable_is_added_at_the_end(text, value):
    assert changed(text, value).startswith(text)


@given(files, files, values, values)
def test_a_changed_variable_changes_its_own_line_only(before, after, old, new):
    assume(not before or before.endswith("\n"))
    text = before + changed("", old) + after
    assume(NAME in read(text))  # it does not stand within the quotes of another one
    assert changed(text, new) == before + changed("", new) + after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("export A=1\n", "export A=2\n"),
        ("A=1 # why\n", "A=2 # why\n"),
        ("A = '1'  # it's # why\r\nB=3\r\n", "A=2  # it's # why\r\nB=3\r\n"),
        ("\n\n  A=1", "\n\n  A=2"),
        ("a=1\n", "A=2\n"),
        ("A=\n", "A=2\n"),
        ("A\n", "A=2\n"),
        ("A=x#y\n", "A=2\n"),
        ("A=1\nB=1\nA=3\n", "A=2\nB=1\nA=2\n"),
        ("B=1", "B=1\nA=2\n"),
        ("\ufeffB=1\r\n", "\ufeffB=1\r\nA=2\r\n"),
    ],
)
def test_what_stands_around_a_value_stays(before, after):
    assert env_file.changed(before, {"A": "2"}) == after


def test_a_quote_that_is_never_closed_is_reported_as_it_would_swallow_what_is_added():
    with pytest.raises(ConfigurationError, match="never closed"):
        env_file.changed("A='", {"B": "a b"})


def test_only_its_owner_may_read_it_whoever_could_before(tmp_path):
    path = tmp_path / ".env.local"
    path.write_text("A=1\n")
    path.chmod(0o644)
    env_file.write(path, {"B": "2"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "secrets").write_text("A=1\n")
    path = tmp_path / ".env.local"
    path.symlink_to("secrets")
    env_file.write(path, {"B": "2"})
    assert path.is_symlink()
    assert (tmp_path / "secrets").read_text() == "A=1\nB=2\n"


@pytest.mark.parametrize("value", ["a'b", 'a"b', "a\\b", "a\nb", "a${b}"])
def test_a_value_that_readers_take_apart_differently_is_refused_and_the_file_stays(tmp_path, value):
    path = tmp_path / ".env.local"
    path.write_text("A=1\n")
    with pytest.raises(ConfigurationError):
        env_file.write(path, {"A": value})
    assert [file.name for file in tmp_path.iterdir()] == [".env.local"]
    assert path.read_text() == "A=1\n"


def test_a_write_that_fails_leaves_the_file_and_no_draft(tmp_path):
    path = tmp_path / ".env.local"
    path.mkdir()
    with pytest.raises(OSError, match=r"env\.local"):
        env_file.replace_file(path, "A=1\n", mode=0o600)
    assert [file.name for file in tmp_path.iterdir()] == [".env.local"]


@given(st.text(min_size=1, max_size=20))
def test_any_password_can_be_put_into_a_url_and_is_never_shown(password):
    url = urls.writable(urls.with_password("postgresql://app@host:5432/shop", password))
    assert not env_file.unwritable(url)
    assert urls.problem(url, urls.DATABASE_SCHEMES) is None
    assert urls.masked(url) == "postgresql://app:***@host:5432/shop"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:geheim@host/0", "redis://:***@host/0"),
        ("postgresql://u:a@b/c@host/d", "postgresql://u:***@host/d"),
        ("postgresql://u@/d?host=/tmp&password=geheim", "postgresql://u@/d?host=/tmp&password=***"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert urls.masked(url) == shown
