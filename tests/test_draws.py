"""Row n's random numbers are its own, and uniform."""

import numpy as np
import pytest
from scipy import stats

from albert_jax.data.draws import RowDraws


@pytest.mark.parametrize("width", [4, 30])
def test_a_row_draws_the_same_alone_and_among_others(width):
    many = RowDraws((7, 1, 0), first=20, rows=10, width=width)
    # The k-th call gives the same, whatever the calls before asked for.
    together = [many.random((10, asked)) for asked in (width, 1, width - 1)]
    for row in range(10):
        one = RowDraws((7, 1, 0), first=20 + row, rows=1, width=width)
        for drawn in together:
            alone = one.random((1, drawn.shape[1]))
            np.testing.assert_array_equal(alone[0], drawn[row])


def test_rows_calls_and_seeds_have_numbers_of_their_own():
    draws = RowDraws((0, 0), 0, 50, 8)
    other = RowDraws((0, 1), 0, 50, 8)
    drawn = [draws.random((50, 8)), draws.random((50, 8)), other.random((50, 8))]
    assert len(np.unique(drawn)) == 3 * 50 * 8


def test_numbers_are_uniform_and_rows_independent():
    draws = RowDraws((3,), 0, 2000, 4)
    numbers = draws.random((2000, 4))
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert stats.pearsonr(numbers[:-1, 0], numbers[1:, 0]).pvalue > 1e-3


def test_what_a_row_does_not_have_is_refused():
    draws = RowDraws((0,), 0, 3, 8)
    for size in ((3, 9), (2, 8)):
        with pytest.raises(ValueError, match="rows"):
            draws.random(size)
