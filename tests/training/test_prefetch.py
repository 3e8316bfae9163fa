"""Work done ahead gives the same items, the same errors, and ends when nobody wants it any more."""

import os
import signal
import threading
import time
from itertools import count

import pytest
from torch.utils.data import Dataset

from audiogen_cli.errors import InputError
from audiogen_cli.training.prefetch import load_batches, prefetch
from audiogen_cli.training.sampler import RankBatchSampler


def test_same_items_in_order():
    assert list(prefetch(iter(range(20)), 3)) == list(range(20))


class Masks(Dataset[bool]):
    """Whether the process that reads an example is out of reach of SIGTERM."""

    def __getitem__(self, i: int) -> bool:
        return signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.skipif(os.name != "posix", reason="masks of signals")
def test_a_signal_to_the_group_does_not_end_workers_that_are_starting():
    batches = load_batches(Masks(), RankBatchSampler(lambda step: [0], range(2), 0, 1), 1, list)
    assert list(batches) == [[True], [True]]
    assert not Masks()[0]  # the main process hears it


def test_it_works_ahead_but_not_too_far():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    while len(made) < 4:
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


class Unreadable(Dataset[int]):
    def __getitem__(self, i: int) -> int:
        if i == 1:
            raise InputError("a.wav: not audio; mend it")
        return i


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_reading_keeps_its_kind_and_words(workers):
    batches = load_batches(Unreadable(), RankBatchSampler(lambda step: [step], range(3), 0, 1), workers, list)
    assert next(batches) == [0]
    with pytest.raises(InputError) as caught:
        next(batches)
    assert str(caught.value) == "a.wav: not audio; mend it"
