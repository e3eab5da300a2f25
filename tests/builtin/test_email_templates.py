"""Templates of emails: whose they are, and that nothing they do ends the worker."""

import os
import subprocess
import sys

import pytest

from cgk_tasks.builtin.email.sandbox import MOST_CHARACTERS, MOST_STEPS
from cgk_tasks.builtin.email.templates import render
from cgk_tasks.errors import PermanentError

OTHERS = "globex keeps this for itself"


@pytest.fixture
def folder(setting, tmp_path):
    setting(CGK_EMAIL_TEMPLATES=str(tmp_path))
    return tmp_path


@pytest.fixture
def fill_in(folder):
    """A template's body filled in for acme: `fill_in("{{ name }}", name="Ada")`."""

    def once(body, file="body.txt", **data):
        write(folder / "it" / "subject.txt", "Hello")
        write(folder / "it" / file, body)
        rendered = render("acme", "it", data)
        return rendered.html if file.endswith("html") else rendered.text

    return once


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class TestOtherTenants:
    @pytest.fixture(autouse=True)
    def globex(self, folder):
        write(folder / "tenants" / "globex" / "offer" / "body.txt", OTHERS)
        write(folder / "tenants" / "globex" / "offer" / "macros.txt", f"{{% macro tell() %}}{OTHERS}{{% endmacro %}}")
        return folder / "tenants" / "globex"

    NAMES = [
        "tenants/globex/offer/body.txt", "./tenants/globex/offer/body.txt", "/tenants/globex/offer/body.txt",
        "tenants//globex/./offer/body.txt", "Tenants/globex/offer/body.txt", "TENANTS/globex/offer/body.txt",
        "../globex/offer/body.txt", "it/../tenants/globex/offer/body.txt", "globex/offer/body.txt", "tenants", "",
    ]  # fmt: skip

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize(
        "way",
        ["{% include '%' %}", "{% include name %}", "{% include [name, '%'] %}", "{% extends '%' %}", "{% extends name %}",
         "{% import '%' as m %}{{ m }}", "{% from '%' import tell %}{{ tell() }}"],
    )  # fmt: skip
    def test_no_template_reaches_theirs(self, fill_in, name, way):
        with pytest.raises(PermanentError, match=r"cannot be filled in: Templates?NotFound"):
            fill_in(way.replace("'%'", f"'{name}'"), name=name)

    @pytest.mark.parametrize("link", ["link/body.txt", "tenants/acme/link/body.txt"])
    def test_also_not_by_a_link(self, folder, fill_in, globex, link):
        (folder / link).parent.parent.mkdir(parents=True, exist_ok=True)
        (folder / link).parent.symlink_to(globex / "offer")
        with pytest.raises(PermanentError, match="TemplateNotFound"):
            fill_in("{% include 'link/body.txt' %}")

    def test_its_own_and_the_common_ones_may_be_included(self, folder, fill_in):
        write(folder / "tenants" / "acme" / "parts" / "foot.txt", "acme's foot")
        write(folder / "parts" / "foot.txt", "the common foot")
        write(folder / "parts" / "head.txt", "the common head")
        assert (
            fill_in("{% include 'parts/head.txt' %}, {% include 'parts/foot.txt' %}") == "the common head, acme's foot"
        )

    def test_a_folder_of_templates_may_be_a_link(self, folder, fill_in, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        write(elsewhere / "foot.txt", "the foot")
        (folder / "parts").symlink_to(elsewhere)
        assert fill_in("{% include 'parts/foot.txt' %}") == "the foot"


class TestBounds:
    """n: a number in the data, as large as somebody likes."""

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("{% for i in range(n) %}x{% endfor %}", "Range too big|steps"),
            ("{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}", "more than 100,000 steps"),
            ("{% macro m(d) %}{% if d %}{{ m(d - 1) }}{{ m(d - 1) }}{% endif %}{% endmacro %}{{ m(40) }}", "steps"),
            ("{% for i in [[[[1] * 99] * 99] * 99] recursive %}{{ loop(i) if i is sequence }}{% endfor %}", "steps"),
            ("{% block b %}{% if tick is not defined %}{{ self.b() }}{{ self.b() }}{% endif %}{% endblock %}", "without end"),
            ("{{ '-' * n }}", "characters"),
            ("{{ n * [1] }}", "characters"),
            ("{{ 'x'.ljust(n) }}{{ 'x'.zfill(n) }}", "characters"),
            ("{{ 'x'|center(n) }}", "characters"),
            ("{{ 'x'|indent(n) }}", "characters"),
            ("{{ [1]|batch(n, 0)|list }}", "characters"),
            ("{{ '%*d' % (n, 1) }}", "width"),
            ("{{ '%999999999d'|format(1) }}", "width"),
            ("{{ '{:{w}}'.format(1, w=n) }}", "width"),
            ("{{ '{:999999999}'.format(1) }}", "width"),
            ("{{ 7 ** n }}", "bits"),
            ("{% set ns = namespace(v=7) %}{% for i in range(99) %}{% set ns.v = ns.v * ns.v %}{% endfor %}", "bits"),
            ("{% set ns = namespace(v='ab') %}{% for i in range(99) %}{% set ns.v = ns.v ~ ns.v %}{% endfor %}", "characters"),
            ("{% set ns = namespace(v='ab') %}{% for i in range(99) %}{% set ns.v = ns.v + ns.v %}{% endfor %}", "characters"),
            ("{% set ns = namespace(v=[1]) %}{% for i in range(99) %}{% set ns.v = ns.v + ns.v %}{% endfor %}", "characters"),
            ("{% set v = 'ab' %}{% for i in range(99) %}{% set v %}{{ v }}{{ v }}{% endset %}{{ v }}{% endfor %}", None),
            ("{% for i in range(3000) %}{{ '-' * 1000 }}{% endfor %}", "2,000,000 characters"),
            ("{% include 'it/body.txt' %}", "without end"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "without end"),
            ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "too deep|syntax"),
            ("{% for i in [1] %}" * 40 + "{% endfor %}" * 40, "nested"),
            ("{{ lipsum(n) }}", "undefined"),
            ("{{ 1 // 0 }}", "ZeroDivisionError"),
            ("{{ n.denominator.foo.bar }}", "no attribute"),
        ],
    )  # fmt: skip
    @pytest.mark.timeout(20)
    def test_what_would_be_huge_or_endless_fails_for_good_and_says_why(self, fill_in, body, reason):
        if reason is None:
            assert fill_in(body) == "abab" * 99
            return
        with pytest.raises(PermanentError, match=rf"(?i)The template 'it' cannot be filled in: .*({reason})") as error:
            fill_in(body, n=10**12)
        assert error.value.code == "INVALID_INPUT"

    def test_what_emails_do_is_within_them(self, fill_in):
        lines = [{"name": f"<Product {number}>", "price": 10**15 + number} for number in range(2000)]
        body = (
            "{% macro price(cents) %}{{ '%.2f'|format(cents / 100) }} €{% endmacro %}"
            "{% for line in lines %}{{ loop.index }}/{{ loop.length }} {{ line.name ~ ': ' ~ price(line.price) }} "
            "{{ '{:>10}'.format(line.price) }} {{ line.name|truncate(5) }}{{ ', ' if not loop.last }}\n{% endfor %}"
        )
        text = fill_in(body, "body.html", lines=lines)
        assert text.startswith("1/2000 &lt;Product 0&gt;: 10000000000000.00 €")
        assert text.count("\n") == 2000
        assert 2 * len(lines) < MOST_STEPS
        assert len(text) < MOST_CHARACTERS

    def test_each_part_has_steps_of_its_own(self, folder, fill_in):
        body = "{% for i in range(90000) %}{% endfor %}done"
        write(folder / "it" / "body.html", body)
        assert fill_in(body) == "done"


LITTLE_MEMORY = """
import resource
from cgk_tasks.builtin.email.templates import render
from cgk_tasks.errors import PermanentError
render("acme", "small", {})
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, resource.RLIM_INFINITY))
try:
    render("acme", "it", {})
except PermanentError as exc:
    print(exc)
print(render("acme", "small", {}).text)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce RLIMIT_AS")
def test_a_template_that_needs_all_memory_fails_for_good_and_the_process_goes_on(folder, fill_in):
    write(folder / "small" / "subject.txt", "small")
    write(folder / "small" / "body.txt", "still here")
    write(folder / "it" / "subject.txt", "it")
    doubled = "{% set ns.v = [ns.v, ns.v] %}" * 34
    write(folder / "it" / "body.txt", "{% set ns = namespace(v='x' * 1000) %}" + doubled + "{{ ns.v }}")
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY], check=False, capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.stdout.splitlines() == [
        "The template 'it' cannot be filled in: it needs more memory than there is", "still here",
    ], done.stderr  # fmt: skip
