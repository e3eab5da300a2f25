"""What the jobs of a folder import, by reading the code."""

import pytest

from cgk_tasks.cli.dev.imports import imported_files


@pytest.fixture
def files(tmp_path):
    """Write files, and ask for the names of those that a module imports."""

    def write_and_ask(module, **contents):
        for name, text in contents.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {path.relative_to(tmp_path).as_posix() for path in imported_files(tmp_path, [module])}

    return write_and_ask


def test_a_module_and_what_it_imports_through_others(files):
    found = files("jobs", jobs="import prices", prices="from tax import rate", tax="", other="import jobs")
    assert found == {"jobs.py", "prices.py", "tax.py"}


def test_what_a_function_imports_when_it_runs(files):
    assert "later.py" in files("jobs", jobs="def run():\n    import later\n", later="")


def test_a_package_with_its_own_file_and_relative_imports(files):
    found = files(
        "shop.jobs", shop____init____="", shop__jobs="from . import mail\nfrom .sub.deep import x\n", shop__mail="",
        shop__sub__deep="from ..mail import y",
    )  # fmt: skip
    assert {"shop/jobs.py", "shop/mail.py", "shop/sub/deep.py", "shop/__init__.py"} <= found


def test_a_circle_ends(files):
    assert files("jobs", jobs="import shop", shop="import jobs") == {"jobs.py", "shop.py"}


def test_a_module_that_is_not_there_yet_counts_with_the_file_that_it_would_be(files):
    assert "prices.py" in files("jobs", jobs="import prices")


def test_a_file_that_is_no_python_counts_itself(files):
    assert files("jobs", jobs="def broken(:") == {"jobs.py"}


def test_a_file_that_nobody_imports_does_not_count(files):
    assert "tests/test_jobs.py" not in files("jobs", jobs="import json", tests__test_jobs="import jobs")
