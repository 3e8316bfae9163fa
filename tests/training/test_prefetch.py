"""Work done ahead gives the same items, the same errors, and ends when nobody wants it any more."""

import threading
import time
from itertools import count

import pytest

from audiogen_cli.training.prefetch import prefetch


def test_same_items_in_order():
    assert list(prefetch(iter(range(20)), 3)) == list(range(20))


def test_it_works_ahead_but_not_too_far():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]  # one taken, two ready, one in hand
    ahead.close()


def test_an_error_comes_where_its_item_was_due():
    def items():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)


def test_closing_ends_the_thread():
    ahead = prefetch(count())
    next(ahead)
    ahead.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
