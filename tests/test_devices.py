"""Names of devices: what passes, and what is said of one that is not there."""

import pytest
import torch

from audiogen_cli.devices import check_device, choose_device
from audiogen_cli.errors import InputError


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_device_names_pass(device: str) -> None:
    check_device(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", ""])
def test_other_device_names_do_not(device: str) -> None:
    with pytest.raises(InputError, match="unknown device"):
        check_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("auto").type in ("cpu", "mps")
    with pytest.raises(InputError, match="device 'cuda' cannot be used here"):
        choose_device("cuda")
