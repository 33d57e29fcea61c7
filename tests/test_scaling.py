"Scaling laws: the right law under noise, honest intervals, and what is refused."
import math, pickle

import numpy as np
import pytest

from calibrax.analysis.scaling import LAWS, POWER_LAW, ScalingFit, scaling_fit
from calibrax.core.errors import ConfigError, StatisticsError
from calibrax.core.models import ScalingLaw

SIZES = np.array([100, 200, 400, 800, 1600, 3200, 6400, 12800])

def noisy(values, cv, seed=0): return values*np.exp(cv*np.random.default_rng(seed).standard_normal(len(values)))


@pytest.mark.parametrize('law', LAWS, ids=lambda law: law.label)
def test_each_law_is_found(law):
    exact = 3e-7*np.exp(law.log(np.log(SIZES)))
    assert scaling_fit(SIZES, exact).complexity == law.label
    assert scaling_fit(SIZES, 1e9*exact).complexity == law.label
    fit = scaling_fit(SIZES, exact)
    assert fit.law_coefficient == pytest.approx(3e-7) and fit.predict(1000) == pytest.approx(3e-7*math.exp(law.log(np.log([1000.]))[0]))


def test_n_log_n_is_no_power():
    for sizes in (SIZES, SIZES[:5], [10, 100, 1000, 10_000, 100_000], range(2, 200)):
        n = np.array(list(sizes), float)
        assert scaling_fit(n, 2e-8*n*np.log(n)).complexity == 'O(n log n)'


@pytest.mark.parametrize('truth', ['O(1)', 'O(n)', 'O(n log n)', 'O(n^2)'])
def test_noise_does_not_hide_the_law(truth):
    "40 series with 10 % noise, nine sizes over four decades: the law is chosen in nearly all, and never ruled out"
    law, n = next(law for law in LAWS if law.label == truth), np.geomspace(10, 1e5, 9)
    fits = [scaling_fit(n, noisy(np.exp(law.log(np.log(n))), 0.1, seed)) for seed in range(40)]
    assert sum(f.complexity == truth for f in fits) >= 35
    assert all(f.complexity == truth or truth in f.not_excluded for f in fits)


def test_disturbed_calls_do_no_harm_where_sizes_are_repeated():
    rng, n = np.random.default_rng(1), np.repeat(np.geomspace(64, 65536, 11), 5)
    fit = scaling_fit(n, 1e-7*n**2*np.exp(0.05*rng.standard_normal(n.size))*np.where(rng.random(n.size) < 0.1, 5, 1))
    assert fit.complexity == 'O(n^2)' and fit.exponent == pytest.approx(2, abs=0.05)


def test_a_free_exponent():
    fit = scaling_fit(SIZES, noisy(SIZES**2.807, 0.02))
    assert (fit.law, fit.complexity) == (POWER_LAW, 'O(n^2.8)') and fit.exponent_lower < 2.807 < fit.exponent_upper
    assert fit.predict(1000) == pytest.approx(1000**2.807, rel=0.05)
    assert scaling_fit(SIZES, SIZES**-0.5).complexity == 'O(n^-0.5)'


def test_the_interval_of_the_exponent_holds_it():
    n = np.geomspace(10, 1e5, 8)
    fits = [scaling_fit(n, noisy(n**1.3, 0.1, seed)) for seed in range(300)]
    assert 0.91 <= np.mean([f.exponent_lower <= 1.3 <= f.exponent_upper for f in fits]) <= 0.985


@pytest.mark.parametrize('exponent', [1, 1.3])
def test_the_interval_of_a_prediction_holds_a_measurement(exponent):
    n, rng = np.geomspace(10, 1e4, 8), np.random.default_rng(3)
    held = []
    for seed in range(200):
        low, high = scaling_fit(n, noisy(n**exponent, 0.05, seed)).predict_interval(3000)
        held.append(low <= 3000**exponent*math.exp(0.05*rng.standard_normal()) <= high)
    assert 0.88 <= np.mean(held) <= 0.99


@pytest.mark.parametrize('sizes, values', [([], []), ([10], [3]), ([10, 10, 10], [3, 3, 3]), ([10, 20], [1, 2]), ([10, 20, 10, 20], [1, 2, 1, 2])])
def test_too_few_sizes_are_refused(sizes, values):
    "One point has no R² of 1, and two points have no law"
    with pytest.raises(StatisticsError, match='at least 3 distinct sizes are needed, found'): scaling_fit(sizes, values)


@pytest.mark.parametrize('bad', [-1, 0, math.nan, math.inf, 'x', None])
def test_what_has_no_logarithm_is_refused_and_named(bad):
    with pytest.raises(StatisticsError, match=r'values\[2\]: expected a number above 0'): scaling_fit([1, 2, 4, 8], [1, 2, bad, 8])
    with pytest.raises(ValueError, match=r'sizes\[0\]: expected a number above 0'): scaling_fit([bad, 2, 4, 8], [1, 2, 4, 8])


def test_other_refusals():
    with pytest.raises(StatisticsError, match='3 sizes for 2 values'): scaling_fit([1, 2, 3], [1, 2])
    for confidence in (0, 1, 95):
        with pytest.raises(ConfigError, match='between 0 and 1'): scaling_fit([1, 2, 3], [1, 2, 3], confidence=confidence)
    fit = scaling_fit(SIZES, SIZES*np.log(SIZES))
    for size in (1, 0, -3, math.inf, math.nan):
        with pytest.raises(ConfigError, match='size: expected a number above 1'): fit.predict(size)


def test_published_fields():
    fit = scaling_fit([1, 2, 4, 8], [3, 6, 12, 24])
    assert isinstance(fit, ScalingLaw) and isinstance(fit, ScalingFit)
    assert (fit.coefficient, fit.exponent, fit.r_squared, fit.complexity) == (pytest.approx(3), 1, 1, 'O(n)')
    assert ScalingLaw.from_dict(fit.to_dict()).exponent == 1 and ScalingFit.from_json(fit.to_json()) == fit == pickle.loads(pickle.dumps(fit))
    same = scaling_fit([1, 10, 100], [7, 7, 7])
    assert (same.exponent, same.r_squared, same.complexity) == (0, 1, 'O(1)')
    assert scaling_fit(SIZES.astype(np.int32), noisy(SIZES, 0.3, 2)).r_squared < 1


def test_extreme_data():
    steep = scaling_fit(range(1000, 1010), np.exp(-0.5*np.arange(10)))
    assert steep.law == POWER_LAW and steep.coefficient == math.inf and steep.predict(1004) == pytest.approx(math.exp(-2), rel=0.05)
    with pytest.raises(StatisticsError, match='at least 3 distinct'): scaling_fit([1e300, 1e300*(1 + 1e-15), 1e300*(1 - 1e-15)], [1, 2, 3])
    assert scaling_fit([1e100, 1e200, 1e300], [1e100, 1e200, 1e300]).complexity == 'O(n)'


def test_logarithms_want_sizes_above_one():
    fit = scaling_fit([1, 2, 4, 8, 16], [1, 2, 4, 8, 16])
    assert fit.complexity == 'O(n)' and 'O(n log n)' not in fit.errors


def test_display_and_plot():
    plt = pytest.importorskip('matplotlib.pyplot')
    fit = scaling_fit(SIZES, noisy(SIZES, 0.05), unit='ms')
    assert 'chosen' in repr(fit) and 'O(n): ' in fit.headline and ' ms · n;' in fit.headline and '<table>' in fit._repr_html_()
    figure, axes = fit.plot(label='time')
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_ylabel()) == ('log', 'log', 'time [ms]')
    plt.close(figure)


@pytest.mark.filterwarnings('error')
def test_a_prediction_beyond_all_numbers_is_infinite(): assert scaling_fit([1, 10, 100], [1e300, 1e305, 1e308]).predict(1e9) == float('inf')
