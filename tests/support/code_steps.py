"""Something done at one step of a piece of code, whichever it is: an exception raised, or the process killed."""

import sys


class Stopped(BaseException):
    """Raised by a signal, wherever the program happens to be."""


def stop():
    raise Stopped


def act_at(step, act, action, *modules):
    """Run `action`, and `act` at its nth step in the code of these modules. Whether it had so many."""
    files = {module.__file__ for module in modules}
    left = step

    def trace(frame, event, _argument):
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event in {"line", "return"}:
            left -= 1
            if left == 0:
                act()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except Stopped:
        return True
    finally:
        sys.settrace(before)
    return left <= 0
