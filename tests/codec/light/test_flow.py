"""The flow that draws a codec's detail: that it draws what it was taught, and that the codec sounds of it."""

import math
from dataclasses import replace

import pytest
import torch

from audiogen_cli.codec.config import CodecConfig, FlowConfig, SpectralConfig
from audiogen_cli.codec.light import flow as drawing
from audiogen_cli.codec.light.flow import Flow
from audiogen_cli.codec.model import AudioCodec

SMALL = FlowConfig((16, 16, 16), dim=16, code_blocks=1)
FRAMES, BANDS = 16, 8
STEPS, SPREAD = 300, 0.2


def test_detail_has_the_mean_and_the_spread_that_it_was_taught():
    """The mean is told by a latent; the spread is less than that of the noise it is made of, at its beginning."""
    torch.manual_seed(0)
    flow = Flow(SMALL, latent_dim=2, n_mels=BANDS)
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / STEPS)
        mean = torch.randint(2, (32, 1, 1)) - 0.5
        outline = torch.randn(32, 8, BANDS)
        optimizer.zero_grad()
        loudness = outline + mean + SPREAD * torch.randn(32, 8, BANDS)
        flow.loss(loudness, outline, mean.expand(32, 1, 2), torch.rand(32)).backward()
        optimizer.step()
    outline, mean = torch.randn(1, 64, BANDS).expand(2, -1, -1), torch.tensor([0.5, -0.5])
    with torch.no_grad():
        detail = flow(outline, mean[:, None, None].expand(2, 8, 2), torch.randn(64, BANDS)) - outline
    assert torch.allclose(detail.mean((1, 2)), mean, atol=0.1)
    assert torch.allclose(detail.std((1, 2)), torch.tensor(SPREAD), atol=0.07)


def test_the_loss_of_a_fresh_one_is_that_of_standing_still():
    """Velocities of 0 where they should be detail - noise: variances add up."""
    torch.manual_seed(0)
    flow = Flow(SMALL, latent_dim=4, n_mels=BANDS)
    outline = torch.zeros(64, FRAMES, BANDS)
    loudness = 2 * drawing.DETAIL * torch.randn(64, FRAMES, BANDS)
    loss = flow.loss(loudness, outline, torch.zeros(64, FRAMES // 8, 4), torch.zeros(64))
    assert float(loss.detach()) == pytest.approx(1 + 4, rel=0.1)


def test_all_of_it_learns():
    torch.manual_seed(0)
    flow = Flow(SMALL, latent_dim=4, n_mels=BANDS)
    torch.nn.init.normal_(flow.leave.weight)
    outline = torch.randn(2, FRAMES, BANDS)
    flow.loss(outline + torch.randn_like(outline), outline, torch.randn(2, FRAMES // 8, 4), torch.rand(2)).backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in flow.parameters())


def test_the_path_is_followed_to_second_order(monkeypatch):
    """Along velocities t · x noise grows by the square root of e; half the step, a quarter of the error."""
    outline, noise = torch.randn(1, 64, BANDS).double(), torch.randn(64, BANDS).double()
    monkeypatch.setattr(Flow, "velocity", lambda self, x, outline, latent, numbers: numbers[:, :1, None] * x)
    exact = outline + drawing.DETAIL * math.exp(0.5) * noise

    def error(steps: int) -> float:
        flow = Flow(replace(SMALL, steps=steps), latent_dim=4, n_mels=BANDS)
        return float((flow(outline, torch.zeros(1, 8, 4), noise) - exact).abs().max())

    assert error(32) < 0.28 * error(16) < 0.01


def test_each_step_takes_one_pass(monkeypatch):
    passes = []
    monkeypatch.setattr(Flow, "velocity", lambda self, x, *rest: passes.append(1) or x)
    Flow(replace(SMALL, steps=5), latent_dim=4, n_mels=BANDS)(
        torch.zeros(1, 8, BANDS), torch.zeros(1, 1, 4), torch.zeros(8, BANDS)
    )
    assert len(passes) == 5


def test_a_sound_is_drawn_alike_in_any_batch_and_with_detail():
    torch.manual_seed(0)
    network = SpectralConfig(n_fft=512, flow=SMALL)
    codec = AudioCodec(CodecConfig(network=network, latent_dim=16, n_q=2, codebook_size=8)).eval()
    torch.nn.init.normal_(codec.decoder.flow.leave.weight, std=0.1)
    codec.requires_grad_(False)
    codes = torch.randint(8, (3, 2, 10))
    latent, noise = codec.quantizer.decode(codes), torch.randn(10, 8, 80)
    patches, drawn = codec.decoder.outline(latent), codec.decoder.draw(latent, noise)
    assert patches.shape == drawn.shape and float((patches - drawn).abs().mean()) > 0.1
    assert torch.allclose(codec.decoder.draw(latent[1:2], noise), drawn[1:2], atol=1e-5)
    assert torch.allclose(codec.decode(codes[1:2]), codec.decode(codes)[1:2], atol=1e-3)  # magnitudes are exponentials


def test_pictures_that_cannot_be_halved_three_times_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        SpectralConfig(n_mels=84, flow=SMALL)
