"""Running the command line as a user does, and a tiny model for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def audiogen(tmp_path: Path) -> Run:
    """Run `python -m audiogen_cli ARGUMENTS` in an empty folder, with no model but those named."""
    changes = {"AUDIOGEN_MODEL": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}

    def run(
        *arguments: object, stdin: str = "", python: Sequence[str] = (), module: Sequence[str] = ("audiogen_cli",)
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *python, "-m", *module, *map(str, arguments)]
        environment = {**os.environ, **changes}
        return subprocess.run(
            command, input=stdin, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained language model with its codec: 16 kHz, 25 frames a second, two streams, the package's words."""
    import torch

    from audiogen_cli.codec.config import CodecConfig, SpectralConfig
    from audiogen_cli.codec.model import AudioCodec
    from audiogen_cli.lm.config import LMConfig, Sampling, TextConfig
    from audiogen_cli.lm.model import AudioLanguageModel
    from audiogen_cli.lm.text.encoders import load_text_encoder
    from audiogen_cli.model_folder import fingerprint, save_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    network = SpectralConfig(frames_per_code=4)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=8, n_q=2, codebook_size=16))
    codec.save(folder / "codec", "CC0\n")
    words = load_text_encoder(TextConfig("static"))
    config = LMConfig(
        dim=16,
        n_layers=2,
        n_heads=2,
        n_q=2,
        codebook_size=16,
        frame_rate=codec.frame_rate,
        sample_rate=codec.sample_rate,
        codec_fingerprint=fingerprint(folder / "codec"),
        max_frames=125,
        text=TextConfig("static"),
        text_width=words.width,
        text_fingerprint=words.fingerprint,
        sampling=Sampling(guidance=2.0, top_p=0.9),
    )
    save_model(folder, "lm", config, AudioLanguageModel(config).state_dict(), "CC0: for tests only\nmore words\n")
    return folder
