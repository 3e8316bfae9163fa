"""FAD against its closed forms (Gaussians fitted to shifted and scaled sets), and its two forms against each other."""

from __future__ import annotations

import numpy as np
import pytest

from audiogen_cli.evaluation.metrics.frechet import FrechetDistance, fad_infinity


def embeddings(n: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, dim)) @ generator.normal(size=(dim, dim)) + generator.normal(size=dim)


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_a_set_against_itself_is_0(n: int) -> None:
    distance = FrechetDistance(embeddings(n))(embeddings(n))
    assert 0 <= distance < 1e-8


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_shifting_costs_the_squared_length_of_the_shift(n: int) -> None:
    shift = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])
    assert FrechetDistance(embeddings(n))(embeddings(n) + shift) == pytest.approx(float(shift @ shift), rel=1e-6)


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_scaling_about_the_mean_costs_the_trace(n: int) -> None:
    reference = embeddings(n)
    scaled = reference.mean(0) + 1.5 * (reference - reference.mean(0))
    trace = np.trace(np.cov(reference, rowvar=False))  # n - 1, as everywhere in the field
    assert FrechetDistance(reference)(scaled) == pytest.approx(0.25 * trace, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(4, 5), (200, 300), (3, 400)])
def test_swapping_the_sets_and_reordering_windows_change_nothing(n: int, m: int) -> None:
    reference, generated = embeddings(n, seed=1), embeddings(m, seed=2)
    distance = FrechetDistance(reference)(generated)
    assert FrechetDistance(generated)(reference) == pytest.approx(distance, rel=1e-6)
    assert FrechetDistance(reference[::-1])(np.roll(generated, 2, 0)) == pytest.approx(distance, rel=1e-6)


def test_both_forms_agree_on_full_rank_sets() -> None:
    reference, generated = embeddings(40, seed=1), embeddings(50, seed=2)
    assert FrechetDistance(reference).of_few(generated) == pytest.approx(
        FrechetDistance(reference).of_many(generated), rel=1e-8
    )


def test_fewer_windows_than_dimensions_give_a_real_number_on_which_both_forms_agree() -> None:
    generator = np.random.default_rng(0)
    reference, generated = generator.normal(size=(20, 64)), generator.normal(size=(25, 64)) + 0.5
    few = FrechetDistance(reference).of_few(generated)
    assert np.isfinite(few)
    assert few == pytest.approx(FrechetDistance(reference).of_many(generated), abs=1e-3)


def test_float32_embeddings_are_computed_in_float64() -> None:
    large = (embeddings(200) + 1e4).astype(np.float32)
    assert FrechetDistance(large)(large[::-1]) < 1e-6


@pytest.mark.parametrize(
    ("reference", "generated", "message"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "sizes"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "n >= 2"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "finite"),
    ],
)
def test_refuses_what_has_no_distance(reference: np.ndarray, generated: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrechetDistance(reference)(generated)


def clips(n: int, windows: int = 3, dim: int = 4, seed: int = 0) -> list[np.ndarray]:
    return list(embeddings(n * windows, dim, seed).reshape(n, windows, dim))


@pytest.mark.parametrize(("n", "dim"), [(30, 4), (12, 64)], ids=["many windows", "few windows"])
def test_influence_is_what_leaving_a_row_out_changes(n: int, dim: int) -> None:
    reference, generated = embeddings(10 * n, dim, 1), embeddings(9 * n, dim, 2)
    if dim > n:
        reference, generated = reference[:40], generated[:45]
    distance = FrechetDistance(reference)
    whole = distance(generated)
    influences = distance.influence(generated)
    assert [len(part) for part in influences] == [len(reference), len(generated)]
    least = 0.99 if n > dim else 0.9  # with fewer windows than dimensions the second order is not small
    left_out = np.array([whole - FrechetDistance(np.delete(reference, i, 0))(generated) for i in range(len(reference))])
    assert np.corrcoef(influences[0], left_out)[0, 1] > least
    left_out = np.array([whole - distance(np.delete(generated, i, 0)) for i in range(len(generated))])
    assert np.corrcoef(influences[1], left_out)[0, 1] > least
    if n > dim:
        spread = np.std(left_out - left_out.mean())
        assert np.std(influences[1]) == pytest.approx(spread, rel=0.1)


def test_influence_of_rank_deficient_sets_is_finite() -> None:
    flat = embeddings(200, 6)
    flat[:, 3:] = 0
    for part in FrechetDistance(flat).influence(np.zeros((150, 6))):
        assert np.isfinite(part).all()


def test_infinity_removes_the_bias_of_few_windows() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(20_000, 16))
    generated = list(generator.normal(size=(60, 5, 16)))  # the true distance is 0
    found = fad_infinity(FrechetDistance(reference), generated, seed=0, min_windows=50)
    assert found is not None
    assert abs(found.value) < 0.25 * FrechetDistance(reference)(np.concatenate(generated))
    assert found.r2 > 0.9
    assert (found.windows[0], found.windows[-1], len(found.windows)) == (50, 300, 25)
    assert found == fad_infinity(FrechetDistance(reference), generated, seed=0, min_windows=50)


def test_infinity_needs_more_windows() -> None:
    assert fad_infinity(FrechetDistance(embeddings(50, 4)), clips(100), seed=0) is None
