"""`cgk-tasks demo` dispatches to the demo, whose own tests are elsewhere."""

import pytest


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_demos(cgk, monkeypatch, code):
    asked = []

    def run(console, *, keep):
        asked.append(keep)
        return code

    monkeypatch.setattr("cgk_tasks.demo.run", run)
    assert (cgk("demo", "--keep").code, asked) == (code, [True])
