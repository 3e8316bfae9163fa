"""Learning through the codec's codebooks: what begins alike, what a step teaches, and what is saved."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from helpers.zoo import CONFIG, make_codec
from torch import Tensor
from torch.nn import functional as F

from audiogen_cli.codec.model import AudioCodec
from audiogen_cli.lm.model import AudioLanguageModel
from audiogen_cli.lm.training.codebook_init import learn_through, named_weights, write_weights


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> AudioCodec:
    return AudioCodec.load(make_codec(tmp_path_factory.mktemp("codec") / "codec"))


def make(codec: AudioCodec, through: bool = True, **changes: object) -> AudioLanguageModel:
    torch.manual_seed(0)
    size = codec.config.codebook_size
    fitting = dataclasses.replace(CONFIG, n_q=codec.config.n_q, codebook_size=size, **changes)
    model = AudioLanguageModel(fitting).eval()
    if through:
        learn_through(model, codec)
    return model


def distances(vectors: Tensor) -> Tensor:
    return torch.pdist(vectors.detach())


@pytest.mark.parametrize("embedding", ["mean", "sum"])
def test_it_begins_with_codes_as_near_as_their_sounds(codec: AudioCodec, embedding: str) -> None:
    model = make(codec, embedding=embedding)
    plain = make(codec, through=False, embedding=embedding)
    size = codec.config.codebook_size
    for k, stream in enumerate(codec.quantizer):
        sounds = distances(stream.codebook)
        read = model.embedding.table.weight.view(-1, size + 1, CONFIG.dim)[k, :-1]
        predicted = model.heads.linear.weight.view(-1, size, CONFIG.dim)[k]
        for table in (read, predicted):
            assert torch.corrcoef(torch.stack([sounds, distances(table)]))[0, 1] > 0.8
    steps = torch.randint(size, (50, model.config.n_q, 4))
    spread = [float(each.embedding(steps).detach().std()) for each in (model, plain)]
    assert spread[0] / spread[1] == pytest.approx(1, abs=0.4)
    weights = model.heads.linear.weight, plain.heads.linear.weight
    assert float((weights[0].std() / weights[1].std()).detach()) == pytest.approx(1, abs=0.2)


def test_a_step_towards_a_code_is_one_towards_its_neighbours(codec: AudioCodec) -> None:
    model = make(codec)
    first = next(iter(codec.quantizer)).codebook
    nearest, *_, farthest = torch.cdist(first[:1], first)[0].argsort()[1:].tolist()
    torch.manual_seed(1)
    hidden = torch.randn(1, 1, CONFIG.dim)
    optimizer = torch.optim.SGD(model.heads.parameters(), lr=1.0)
    before = model.heads(hidden)[0, 0, 0].detach()
    F.cross_entropy(model.heads(hidden)[0, 0, :1], torch.tensor([0])).backward()
    optimizer.step()
    gain = model.heads(hidden)[0, 0, 0].detach() - before
    assert gain[0] > gain[nearest] > gain[farthest]
    assert gain[nearest] > 0


def test_the_weights_saved_are_a_plain_models(codec: AudioCodec) -> None:
    model, plain = make(codec), make(codec, through=False)
    plain.load_state_dict(named_weights(model))
    codes = torch.randint(codec.config.codebook_size, (2, model.config.n_q, 7))
    text, mask = torch.randn(2, 3, CONFIG.text_width), torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(plain(codes, text, mask).logits, model(codes, text, mask).logits)
        write_weights(model, {name: 2 * weight for name, weight in plain.state_dict().items()})
    for name, weight in named_weights(model).items():
        torch.testing.assert_close(weight, plain.state_dict()[name] * 2)


def test_a_plain_model_is_its_own(codec: AudioCodec) -> None:
    model = make(codec, through=False)
    parameters = dict(model.named_parameters())
    assert named_weights(model).keys() == parameters.keys()
    assert all(weight.data_ptr() == parameters[name].data_ptr() for name, weight in named_weights(model).items())


def test_a_wider_latent_than_the_model_is_no_obstacle(codec: AudioCodec) -> None:
    model = make(codec, dim=4, n_heads=2)
    assert model.embedding.table.weight.shape[1] == 4 < next(iter(codec.quantizer)).codebook.shape[1]
    assert model.embedding.table.weight.isfinite().all()


@pytest.mark.parametrize("n_alike", [1, 2])
def test_streams_whose_codes_are_all_alike_are_learnt_code_by_code(codec: AudioCodec, n_alike: int) -> None:
    collapsed = copy.deepcopy(codec)
    for stream in list(collapsed.quantizer)[-n_alike:]:
        stream.codebook.fill_(0.5)
    model = make(collapsed)
    codes = torch.randint(codec.config.codebook_size, (2, model.config.n_q, 7))
    text, mask = torch.randn(2, 3, CONFIG.text_width), torch.ones(2, 3, dtype=torch.bool)
    assert model(codes, text, mask).logits.isfinite().all()
    assert all(weight.any() for weight in named_weights(model).values() if weight.ndim > 1)
