"""FAD against its closed forms (Gaussians fitted to shifted and scaled sets), and its two forms against each other."""

from __future__ import annotations

import numpy as np
import pytest

from audiogen_cli.evaluation.fad import FrechetDistance, frechet_distance


def embeddings(n: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, dim)) @ generator.normal(size=(dim, dim)) + generator.normal(size=dim)


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_a_set_against_itself_is_0(n: int) -> None:
    distance = frechet_distance(embeddings(n), embeddings(n))
    assert 0 <= distance < 1e-8


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_shifting_costs_the_squared_length_of_the_shift(n: int) -> None:
    shift = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])
    assert frechet_distance(embeddings(n), embeddings(n) + shift) == pytest.approx(float(shift @ shift), rel=1e-6)


@pytest.mark.parametrize("n", [4, 200], ids=["few windows", "many windows"])
def test_scaling_about_the_mean_costs_the_trace(n: int) -> None:
    reference = embeddings(n)
    scaled = reference.mean(0) + 1.5 * (reference - reference.mean(0))
    trace = np.trace(np.cov(reference, rowvar=False))  # n - 1, as everywhere in the field
    assert frechet_distance(reference, scaled) == pytest.approx(0.25 * trace, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(4, 5), (200, 300), (3, 400)])
def test_swapping_the_sets_and_reordering_windows_change_nothing(n: int, m: int) -> None:
    reference, generated = embeddings(n, seed=1), embeddings(m, seed=2)
    distance = frechet_distance(reference, generated)
    assert frechet_distance(generated, reference) == pytest.approx(distance, rel=1e-6)
    assert frechet_distance(reference[::-1], np.roll(generated, 2, 0)) == pytest.approx(distance, rel=1e-6)


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
    assert frechet_distance(large, large[::-1]) < 1e-6


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
        frechet_distance(reference, generated)
