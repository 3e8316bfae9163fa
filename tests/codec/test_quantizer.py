"""Q: nearest codes, straight-through gradients, learning and its synchronisation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiogen_cli.codec.config import QuantizerConfig
from audiogen_cli.codec.quantizer import ResidualVectorQuantizer, kmeans


def test_codes_are_the_nearest_vectors():
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(2, 16, 4).eval()
    latent = torch.randn(3, 4, 5)
    codes = quantizer.encode(latent)
    first, second = quantizer
    for b in range(3):
        for t in range(5):
            vector = latent[b, :, t].double()
            nearest = (first.codebook.double() - vector).norm(dim=1).argmin()
            rest = vector - first.codebook[nearest].double()
            assert codes[b, 0, t] == nearest
            assert codes[b, 1, t] == (second.codebook.double() - rest).norm(dim=1).argmin()


@given(n_q=st.integers(1, 4), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_forward_encode_and_decode_agree(n_q, seed):
    torch.manual_seed(seed)
    quantizer = ResidualVectorQuantizer(n_q, 8, 4).eval()
    latent = torch.randn(2, 4, 6)
    output = quantizer(latent)
    assert torch.equal(output.codes, quantizer.encode(latent))
    assert torch.allclose(output.quantized, quantizer.decode(output.codes), atol=1e-5)


def test_gradient_through_q_is_the_identity():
    quantizer = ResidualVectorQuantizer(2, 8, 4).eval()
    latent = torch.randn(2, 4, 6, requires_grad=True)
    upstream = torch.randn(2, 4, 6)
    (quantizer(latent).quantized * upstream).sum().backward()
    assert torch.allclose(latent.grad, upstream)


def test_commitment_pulls_the_latent_towards_its_codes():
    quantizer = ResidualVectorQuantizer(1, 8, 4).eval()
    latent = torch.randn(2, 4, 6, requires_grad=True)
    output = quantizer(latent)
    output.commitment.backward()
    expected = 2 * (latent - quantizer.decode(output.codes)).detach() / latent.numel()
    assert torch.allclose(latent.grad, expected, atol=1e-6)


def test_learning_finds_clusters_and_revives_dead_codes():
    torch.manual_seed(0)
    centres = 5 * torch.randn(8, 4)
    quantizer = ResidualVectorQuantizer(1, 32, 4).train()
    for _ in range(60):
        latent = centres[torch.randint(8, (256,))] + 0.01 * torch.randn(256, 4)
        quantizer(latent.T[None])
        quantizer.learn()
    (stream,) = quantizer
    distance = torch.cdist(centres, stream.codebook).min(1).values
    assert distance.max() < 0.1
    # Rarely used codes are reborn as vectors of the batch, so each lies in a cluster.
    assert torch.cdist(stream.codebook, centres).min(1).values.median() < 0.1


def test_with_a_decay_of_1_codes_stay_where_kmeans_put_them():
    quantizer = ResidualVectorQuantizer(2, 64, 4).train()
    quantizer.learning = QuantizerConfig(decay=1.0, kmeans_vectors=4)
    generator = torch.Generator().manual_seed(0)
    quantizer(torch.randn(1, 4, 256, generator=generator))
    quantizer.learn()
    started = [stream.codebook.clone() for stream in quantizer]
    assert quantizer.started
    for _ in range(3):  # most codes are not used by so few vectors
        quantizer(torch.randn(1, 4, 8, generator=generator))
        quantizer.learn()
    assert all(torch.equal(stream.codebook, codes) for stream, codes in zip(quantizer, started, strict=True))


def test_kmeans_with_fewer_vectors_than_clusters_keeps_them():
    vectors = torch.randn(3, 2)
    centres = kmeans(vectors, 5, iterations=3)
    assert centres.shape == (5, 2)
    assert torch.cdist(vectors, centres).min(1).values.max() < 1e-6


def test_evaluation_does_not_learn():
    quantizer = ResidualVectorQuantizer(1, 8, 4).eval()
    before = quantizer.state_dict()["streams.0.codebook"].clone()
    quantizer(torch.randn(2, 4, 6))
    assert torch.equal(quantizer.state_dict()["streams.0.codebook"], before)


def float64_step(codebook, size, total, vectors, decay):
    """Moving averages of clusters, written from SoundStream's description: (codes, new codebook, size, sum)."""
    distances = ((vectors[:, None] - codebook[None]) ** 2).sum(-1)
    codes = distances.argmin(1)
    counts = np.bincount(codes, minlength=len(codebook)) * len(codebook) / len(vectors)
    sums = np.stack([vectors[codes == code].sum(0) for code in range(len(codebook))]) * len(codebook) / len(vectors)
    size, total = decay * size + (1 - decay) * counts, decay * total + (1 - decay) * sums
    return codes, total / size[:, None], size, total


def test_residual_learning_equals_float64():
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(2, 8, 4).train()
    quantizer.learning = QuantizerConfig(decay=0.8, dead_below=0.0, kmeans_vectors=8)
    quantizer(torch.randn(4, 4, 16))
    quantizer.learn()  # starts the codebooks
    state = [tuple(t.double().numpy() for t in (s.codebook, s.cluster_size, s.cluster_sum)) for s in quantizer]
    for _ in range(5):
        latent = torch.randn(3, 4, 20)
        output = quantizer(latent)
        quantizer.learn()
        residual = latent.transpose(1, 2).reshape(-1, 4).double().numpy()
        commitment = []
        for k in range(2):
            before = state[k][0]
            codes, *after = float64_step(*state[k], residual, 0.8)
            state[k] = tuple(after)
            assert (output.codes[:, k].flatten().numpy() == codes).all()
            residual = residual - before[codes]
            commitment.append((residual**2).mean())
        assert float(output.commitment) == pytest.approx(np.mean(commitment), rel=1e-5)
    for stream, (codebook, *_) in zip(quantizer, state, strict=True):
        np.testing.assert_allclose(stream.codebook, codebook, atol=1e-5)


def test_a_batch_in_parts_teaches_what_the_whole_teaches():
    latents = torch.randn(6, 4, 4, 32, generator=torch.Generator().manual_seed(0))
    whole, parts = (ResidualVectorQuantizer(2, 8, 4).train() for _ in range(2))
    for latent in latents:
        whole(latent)
        for part in latent.split(3):
            parts(part)
        whole.learn()
        parts.learn()
    assert whole.started and parts.started
    for ours, theirs in zip(whole, parts, strict=True):
        assert torch.allclose(ours.codebook, theirs.codebook, atol=1e-6)


def test_dead_codes_are_reborn_the_same_whatever_rounding_does():
    def reborn(noise: float) -> torch.Tensor:
        torch.manual_seed(0)
        quantizer = ResidualVectorQuantizer(1, 8, 4).train()
        latent = torch.randn(1, 4, 64)
        quantizer(latent)
        quantizer.learn()
        (stream,) = quantizer
        stream.cluster_size[:4] = 0.0
        quantizer(latent + noise)
        quantizer.learn()
        return stream.codebook

    assert torch.allclose(reborn(0.0), reborn(1e-5), atol=1e-3)


def test_kmeans_gives_no_centre_to_equal_vectors_twice():
    silence, sound = torch.zeros(300, 4), torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    vectors = torch.cat([silence, sound])
    centres = kmeans(vectors, 32, iterations=10)
    nearest = torch.cdist(vectors, centres).argmin(1)
    assert len(nearest.unique()) >= 31  # a random start alone leaves three in four at zero
