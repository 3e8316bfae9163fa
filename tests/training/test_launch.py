"""How a command starts itself again in several processes."""

import pytest

from audiogen_cli.training.launch import _without_option


@pytest.mark.parametrize("given", [["--processes", "2"], ["--processes=2"]])
def test_only_the_number_of_processes_is_left_out(given):
    others = ["train-lm", "--set", "workers=2", "--out=a--processes=b"]
    assert _without_option([*others[:1], *given, *others[1:], *given], "--processes") == others
