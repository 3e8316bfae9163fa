"""Steps whose gradient is not finite: skipped one by one, a reason to stop when they follow each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from audiogen_cli.errors import AudiogenError
from audiogen_cli.training.checkpoint import list_checkpoints

SKIPS_IN_A_ROW = 8  # ours: a batch or two may be bad luck, so many are not


class GradientGuard:
    """Count the steps that were skipped because a gradient was not finite. skipped: since this process began."""

    def __init__(self, run: Path) -> None:
        self.run, self.skipped, self.in_a_row = run, 0, 0

    def note(self, step: int, finite: bool, ids: Iterable[str]) -> str | None:
        """Take note of a step; return what to say of it, if it was skipped. ids: the batch's clips.

        Raises AudiogenError if it was the 8th in a row.
        """
        if finite:
            self.in_a_row = 0
            return None
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        found, batch = f"step {step}: the gradient is not finite", f"(batch: {', '.join(ids)})"
        if self.in_a_row < SKIPS_IN_A_ROW:
            return f"{found}; skipped, the weights stay as they are {batch}"
        last = next(reversed(list_checkpoints(self.run)), "none")
        raise AudiogenError(
            f"{found}, as in the {SKIPS_IN_A_ROW - 1} steps before: the training has diverged {batch}. Listen to these "
            "clips, or train into another --out with a lower learning rate or precision=no, --from the last good "
            f"checkpoint: {last}"
        )

    def metrics(self) -> Mapping[str, float]:
        """Return what to log: the number of skipped steps, once there is one."""
        return {"skipped_steps": self.skipped} if self.skipped else {}
