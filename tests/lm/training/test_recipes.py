"""The language model's recipes and the packaged sizes say the same; bad settings are named."""

from __future__ import annotations

import subprocess

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from audiogen_cli.data.shards import ShardMeta
from audiogen_cli.errors import InputError
from audiogen_cli.files import RECIPES
from audiogen_cli.lm.config import SIZES, LMConfig, Sampling, TextConfig, TrainConfig
from audiogen_cli.lm.decoder import find_decoder
from audiogen_cli.lm.training.preflight import build_config
from audiogen_cli.training.recipe import load_recipe


@pytest.mark.parametrize("size", SIZES)
def test_every_number_of_a_recipe_names_its_source(size: str) -> None:
    for line in (RECIPES / f"lm-{size}.yaml").read_text("utf-8").splitlines():
        setting, _, comment = line.partition("#")
        if setting.strip() and not setting.rstrip().endswith(":") and setting.strip() not in ("seed: 0", "kind: t5"):
            assert comment.strip().startswith(("sec. ", "ours", "spec")), line


def test_paper_settings() -> None:
    for size, shape in (("base", (768, 24, 16)), ("large", (1280, 36, 20))):
        recipe = load_recipe(TrainConfig, f"lm-{size}")
        assert (recipe.model.dim, recipe.model.n_layers, recipe.model.n_heads) == shape
        optim = recipe.optim
        assert (optim.lr, optim.batch_size, optim.warmup_steps, optim.schedule) == (5e-4, 256, 3000, "inverse_sqrt")
        assert (optim.weight_decay, recipe.ema_decay) == (0.0, 0.0)  # Adam, no averaging
        assert recipe.text == TextConfig("t5", f"t5-{size}")
        assert (recipe.max_steps, recipe.text_dropout) == (200_000, 0.1)
        assert recipe.sampling == Sampling(3.0, 0.25, 0, 1.0)


def test_overrides_reach_nested_settings() -> None:
    recipe = load_recipe(TrainConfig, "lm-tiny", ["optim.lr=3e-4", "text.name=/my/vectors"])
    assert recipe.optim.lr == 3e-4 and recipe.text == TextConfig("static", "/my/vectors")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "optim.lrr"),
        ("sampling.top_p=2", "top_p must lie in"),
        ("crop_seconds=-1", "crop_seconds: Input should be greater than 0"),
        ("text.kind=bert", "text.kind"),
    ],
)
def test_bad_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(TrainConfig, "lm-tiny", [override])


def test_delays_of_each_stream_are_a_pattern() -> None:
    given = load_recipe(TrainConfig, "lm-tiny", ["model.pattern=[0, 2, 1]"]).model.settings()
    assert (given["pattern"], given["delays"]) == ("delay", (0, 2, 1))
    plain = load_recipe(TrainConfig, "lm-tiny").model.settings()
    assert (plain["pattern"], plain["delays"]) == ("delay", ())


def make_config(**changes: object) -> LMConfig:
    settings = {
        "dim": 8, "n_layers": 1, "n_heads": 2, "n_q": 2, "codebook_size": 4, "frame_rate": 50.0, "sample_rate": 16_000,
        "codec_fingerprint": "", "max_frames": 10, "text": TextConfig(), "text_width": 4,
    }  # fmt: skip
    return LMConfig(**{**settings, **changes})  # type: ignore[arg-type]


def test_delays() -> None:
    assert make_config().stream_delays == (0, 0)
    assert make_config(pattern="delay").stream_delays == (0, 1)
    assert make_config(pattern="delay", delays=(0, 3)).stream_delays == (0, 3)
    for changes in ({"delays": (0, 1)}, {"pattern": "delay", "delays": (0,)}, {"pattern": "delay", "delays": (1, 2)}):
        with pytest.raises(ValueError, match="delays"):
            make_config(**changes)


def test_a_model_that_no_text_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match="no text could reach"):
        make_config(text_prefix=False, cross_attention=False)
    with pytest.raises(ValueError, match="dim"):
        make_config(dim=9)


@pytest.mark.parametrize(
    ("name", "n_q", "frame_rate", "width"), [("diffsound-x128", 4, 125.0, 768), ("diffsound", 1, 25.0, 512)]
)
def test_the_baselines_recipes_step_as_they_stand(name: str, n_q: int, frame_rate: float, width: int) -> None:
    """On fake tensors: a micro-batch of whole windows, forwards, the loss, and backwards."""
    recipe = load_recipe(TrainConfig, name)
    meta = ShardMeta("", n_q, 1024, frame_rate, 16_000, {})
    config = build_config(recipe, meta, width, None, "", None)
    n, length = recipe.optim.micro_batch, config.max_frames
    assert length == 10 * frame_rate and recipe.mask_tags
    with FakeTensorMode():
        model = find_decoder(config).build(config).train()
        objective = find_decoder(config).build_objective(config, recipe, torch.device("cpu"))
        codes, times = torch.zeros(n, n_q, length, dtype=torch.long), torch.ones(n, dtype=torch.long)
        text, mask = torch.zeros(n, 9, width), torch.ones(n, 9, dtype=torch.bool)
        output = model(codes, times, text, mask, known=codes[:, 0] > 0)
        assert output.logits.shape == (n, n_q, length, 1024)
        loss, _ = objective.divergence(objective.schedule.weigh(output.logits, codes, times), codes, codes, times)
        loss.mean().backward()
        assert all(weight.grad is not None for weight in model.parameters() if weight is not model.null_text)
        n_parameters = sum(weight.numel() for weight in model.parameters())
    assert n_parameters / 1e6 == pytest.approx(
        {"diffsound-x128": 290, "diffsound": 400}[name], abs=2
    )  # published: 400M


def test_cluster_script_parses_and_names_the_papers_gpus() -> None:
    script = RECIPES / "slurm" / "train-lm.sh"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    text = script.read_text("utf-8")
    assert "scancel --signal=TERM" in text and "kill -TERM" not in text  # which srun takes for an order to kill at once
    for nodes, size, gpus in ((8, "base", 64), (16, "large", 128)):
        assert f"--nodes={nodes}" in text and f"--size {size}" in text and nodes * 8 == gpus
        assert load_recipe(TrainConfig, f"lm-{size}").optim.batch_size % gpus == 0
