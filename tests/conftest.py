"""Fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audiogen_cli.app import wait_briefly

REPOSITORY = Path(__file__).parent.parent

wait_briefly()  # as the command does: beside something else, tests would take many times as long


@pytest.fixture(scope="session")
def esc50() -> Path:
    """ESC-50's folder (audio/, meta/esc50.csv): AUDIOGEN_ESC50, or ../shared beside the checkout; skips if absent."""
    folder = Path(os.environ.get("AUDIOGEN_ESC50", REPOSITORY.parent / "shared" / "data" / "esc50"))
    if not (folder / "meta" / "esc50.csv").is_file():
        pytest.skip("ESC-50's recordings are not here; set AUDIOGEN_ESC50 to their folder")
    return folder
