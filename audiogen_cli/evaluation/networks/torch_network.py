"""The networks in PyTorch: a device, strict weights, one clip at a time on a CPU."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from audiogen_cli.devices import alone, choose_device
from audiogen_cli.evaluation.networks.base import AudioNetwork, NetworkOutput, WeightSource
from audiogen_cli.evaluation.networks.weights import WeightFile, load_strictly, read_checkpoint
from audiogen_cli.files import hash_file

if TYPE_CHECKING:
    from torch import Tensor, nn

CLIPS_PER_BATCH = 16  # on an accelerator


class TorchNetwork(AudioNetwork):
    """A network in PyTorch whose weights are one published file, which must fit by name and shape."""

    file: ClassVar[WeightFile]

    def load(self, source: WeightSource) -> None:
        """Find the file, check it against the network and move it to the device."""
        self.path = self.file.find(source)
        self.sha256 = hash_file(self.path)
        state = read_checkpoint(self.path)
        self.network = self.build()
        load_strictly(self.network, self.select(state), self.path, self.ignored)
        self.device = choose_device(source.device)
        self.network.to(self.device).eval().requires_grad_(False)
        # A CPU gains nothing from batches, and without them a clip's numbers cannot depend on other clips.
        self.batch_size = 1 if self.device.type == "cpu" else CLIPS_PER_BATCH

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the network, untrained."""

    def select(self, state: Any) -> Any:
        """Pick the network's tensors out of the file's content."""
        return state

    def ignored(self, name: str) -> bool:
        """Tell a tensor of the file that the network does not have."""
        return False

    @abstractmethod
    def forward(self, wav: Tensor) -> tuple[Tensor, Tensor]:
        """Map wav [B, N] on the device to window logits [B, n, C] and embeddings [B, n, D]."""

    def classify(self, wav: np.ndarray) -> NetworkOutput:
        """Classify wav [B, N] float32 at the network's rate."""
        import torch

        # TensorFloat-32 would cost three digits of an embedding, a free choice of algorithms the last ones.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), alone(self.device), exact:
            logits, embeddings = self.forward(torch.from_numpy(wav).to(self.device))
        return NetworkOutput(logits.float().cpu().numpy(), embeddings.float().cpu().numpy())
