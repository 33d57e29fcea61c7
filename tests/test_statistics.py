"Summaries, tests, effects, corrections, power and the older spelling: against SciPy, known values, and laws that hold for any sample."
import math
import pickle
import subprocess
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from calibrax.core.errors import ConfigError, StatisticsError
from calibrax.core.models import SignificanceResult
from calibrax.statistics.analyzer import StatisticalAnalyzer, StatisticalResult
from calibrax.statistics.corrections import benjamini_hochberg, holm
from calibrax.statistics.effects import cliffs_delta, cohen_d, hedges_g, hodges_lehmann, ratio_interval
from calibrax.statistics.power import detectable_change, power, required_samples
from calibrax.statistics.significance import (effect_size, mann_whitney_u, paired_significance_test, permutation_test, welch_t_test,
                                              wilcoxon)
from calibrax.statistics.summary import OUTLIER_Z_THRESHOLD, SampleSummary, moments, outlier_mask, summarize

numbers = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda v: round(v, 6)), min_size=2, max_size=30)
A = [12.1, 12.4, 11.9, 12.2, 12.0, 12.6, 12.3]
B = [12.5, 12.9, 12.2, 12.7, 12.4, 12.8, 12.6]


# --- summaries ---

def test_large_offsets_cost_nothing():
    "The published one said 67.46"
    s = summarize([1e9 + i for i in range(10)])
    assert s.std == pytest.approx(3.0276503540974917, rel=1e-12) and s.mean == 1e9 + 4.5


@given(numbers)
def test_moments_equal_exact_arithmetic(values):
    exact = [Fraction(v) for v in values]
    mean = sum(exact)/len(exact)
    variance = sum((v - mean)**2 for v in exact)/(len(exact) - 1)
    m, s = moments(values)
    assert m == pytest.approx(float(mean), rel=1e-12, abs=1e-10) and s == pytest.approx(math.sqrt(variance), rel=1e-9, abs=1e-12)


@given(numbers, st.floats(-1e6, 1e6), st.sampled_from([0.5, 2, 1024, -4]))
def test_shift_and_scale(values, shift, scale):
    s, moved = summarize(values), summarize([scale*v + shift for v in values])
    near = dict(rel=1e-9, abs=1e-8)
    assert moved.mean == pytest.approx(scale*s.mean + shift, **near) and moved.median == pytest.approx(scale*s.median + shift, **near)
    assert moved.std == pytest.approx(abs(scale)*s.std, rel=1e-6, abs=1e-8)


@given(numbers, st.randoms())
def test_order_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    a, b = summarize(values), summarize(shuffled)
    assert (a.median, a.minimum, a.maximum) == (b.median, b.minimum, b.maximum)
    assert a.mean == pytest.approx(b.mean, rel=1e-12, abs=1e-12) and a.std == pytest.approx(b.std, rel=1e-9, abs=1e-12)
    assert outlier_mask(values).sum() == outlier_mask(shuffled).sum()


@pytest.mark.parametrize('wrap', [list, tuple, np.array, jnp.array, lambda v: np.array(v, 'float32'), lambda v: np.array(v, 'int64')])
def test_every_kind_of_array(wrap):
    assert summarize(wrap([1, 2, 4, 9])) == summarize([1.0, 2.0, 4.0, 9.0])
    assert welch_t_test(wrap([1, 2, 4]), wrap([2, 3, 9])) == welch_t_test([1, 2, 4], [2, 3, 9])
    assert paired_significance_test(wrap([1, 2, 4]), wrap([2, 3, 9])).p_value == 0.25


def test_nan_makes_nan():
    s = summarize([1.0, math.nan, 3.0])
    assert all(math.isnan(v) for v in (s.mean, s.median, s.std, s.minimum, s.maximum, s.cv)) and not s.is_stable
    assert pickle.loads(pickle.dumps(s)) == s == SampleSummary.from_json(s.to_json())
    for test in (welch_t_test, mann_whitney_u, wilcoxon): assert math.isnan(test([1, math.nan, 2], [1, 2, 4])[1])
    for effect in (cohen_d, hedges_g, cliffs_delta, effect_size): assert math.isnan(effect([1, math.nan], [1, 2]))


def test_stable_is_a_matter_of_size():
    "A negative mean does not make any spread stable, nor does a mean of zero"
    assert summarize([-10.0, -10.1]).is_stable and summarize([-10.0, -10.1]).cv < 0
    assert not summarize([-10.0, -20.0]).is_stable and not summarize([-1.0, 1.0]).is_stable and summarize([-1.0, 1.0]).cv == 0


@pytest.mark.parametrize('call', [
    lambda: summarize([]), lambda: summarize([[1, 2]]), lambda: summarize('fast'), lambda: welch_t_test([1], [1, 2]), lambda: mann_whitney_u([], [1]),
    lambda: effect_size([], []), lambda: cohen_d([1], [2]), lambda: paired_significance_test([1, 2], [1]), lambda: wilcoxon([], []),
    lambda: permutation_test([1], [1]), lambda: hodges_lehmann([1], [2]), lambda: ratio_interval([1], [2]), lambda: outlier_mask([1, math.nan]),
    lambda: holm([1.5]), lambda: jax.jit(lambda x: summarize(x).mean)(jnp.ones(3)), lambda: StatisticalAnalyzer().summarize([])])
def test_refusals_say_what_to_do(call):
    with pytest.raises(StatisticsError) as e: call()
    assert e.value.hint and isinstance(e.value, ValueError)


def test_outliers():
    values = [1.0]*3 + [1.1]*3 + [0.9]*3 + [5.0]
    assert np.flatnonzero(outlier_mask(values)).tolist() == np.flatnonzero(outlier_mask(values, method='tukey')).tolist() == [9]
    score = 0.6745*np.abs(np.array(values) - 1)/stats.median_abs_deviation(values)
    assert (outlier_mask(values) == (score > OUTLIER_Z_THRESHOLD)).all()
    assert not outlier_mask([1, 99]).any() and not outlier_mask([1, 1, 1, 9]).any() and len(outlier_mask([])) == 0


# --- tests ---

@given(numbers, numbers)
def test_tests_are_symmetric(a, b):
    (t, p), (u, q) = welch_t_test(a, b), welch_t_test(b, a)
    assert (math.isnan(t) and math.isnan(u)) or (t == pytest.approx(-u, rel=1e-9) and p == pytest.approx(q, rel=1e-6, abs=1e-12))
    assert mann_whitney_u(a, b)[1] == pytest.approx(mann_whitney_u(b, a)[1], rel=1e-9)
    assert effect_size(a, b) == effect_size(b, a) and cohen_d(a, b) == -cohen_d(b, a) and cliffs_delta(a, b) == -cliffs_delta(b, a)


def test_tests_equal_scipy():
    assert welch_t_test(A, B) == tuple(map(float, stats.ttest_ind(A, B, equal_var=False)))
    assert mann_whitney_u(A, B) == tuple(map(float, stats.mannwhitneyu(A, B)))
    assert wilcoxon(A, B) == tuple(map(float, stats.wilcoxon(A, B)))


@pytest.mark.parametrize('seed', range(5))
def test_permutation_is_scipys(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=6), rng.normal(0.8, 2, size=6)
    def statistic(x, y, axis): return x.mean(axis) - y.mean(axis)
    for paired, kind in ((True, 'samples'), (False, 'independent')):
        expected = stats.permutation_test((x, y), statistic, permutation_type=kind, vectorized=True, n_resamples=math.inf)
        found = permutation_test(x, y, paired=paired)
        assert found.p_value == pytest.approx(expected.pvalue) and found.statistic == pytest.approx(expected.statistic) and 'exact' in found.method


def test_permutation_by_chance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    for paired in (True, False):
        found = permutation_test(x, y, paired=paired, key=1)
        expected = (stats.ttest_rel if paired else stats.ttest_ind)(x, y).pvalue
        assert 'Monte Carlo' in found.method and found.p_value == pytest.approx(expected, abs=0.03)
        assert found == permutation_test(x, y, paired=paired, key=1)
    assert permutation_test(x, x + 10).p_value == 1/10_000 and permutation_test(1e9 + x, 1e9 + y).p_value == pytest.approx(permutation_test(x, y).p_value, abs=0.01)


def test_effect_without_spread_is_infinite():
    "The published one said 0"
    assert effect_size([1]*3, [2]*3) == math.inf and effect_size([1]*3, [1]*3) == 0
    assert cohen_d([1]*3, [2]*3) == hedges_g([1]*3, [2]*3) == -math.inf


def test_paired_test_as_published():
    result = paired_significance_test(np.array(A), jnp.array(B))
    assert isinstance(result, SignificanceResult) and result.method == 'wilcoxon' and result.significant
    assert SignificanceResult.from_dict(result.to_dict()) == result
    with pytest.raises(ValueError, match='Cannot test significance on empty samples'): paired_significance_test([], [])
    with pytest.raises(ValueError, match='Paired test requires equal lengths: '): paired_significance_test([1, 2], [1])
    same = paired_significance_test(A, A)
    assert (same.p_value, same.effect_size, same.significant) == (1, 0, False)


# --- effects ---

def test_known_effects():
    x, y = [1, 2, 3, 4, 5], [3, 4, 5, 6, 7]
    assert cohen_d(y, x) == pytest.approx(2/math.sqrt(2.5)) and hedges_g(y, x) == pytest.approx(2/math.sqrt(2.5)*0.9027033336764101)
    assert cliffs_delta([1, 2, 3], [2, 3, 4]) == pytest.approx((1 - 6)/9)


@given(numbers, st.floats(-100, 100), st.booleans())
def test_hodges_lehmann_moves_along(values, shift, paired):
    if len(values) < 5: return
    other = list(reversed(values))
    a, b = hodges_lehmann(values, other, paired=paired), hodges_lehmann([v + shift for v in values], other, paired=paired)
    back = hodges_lehmann(other, values, paired=paired)
    near = dict(rel=1e-9, abs=1e-8)
    assert a.lower <= a.value <= a.upper
    assert (b.value, b.lower, b.upper) == pytest.approx((a.value + shift, a.lower + shift, a.upper + shift), **near)
    assert (back.value, back.lower, back.upper) == pytest.approx((-a.value, -a.upper, -a.lower), **near)


@pytest.mark.parametrize('n, m', [(4, 4), (5, 8), (7, 7), (10, 12), (30, 31)])
def test_shift_interval_is_the_test_inverted(n, m):
    "Each end lies between two neighbouring differences: beyond the outer one the Mann-Whitney test rejects, inside of it it does not"
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(size=m)
    found, every = hodges_lehmann(x, y), np.sort(np.subtract.outer(x, y).ravel())
    assert found.value == pytest.approx(np.median(every))
    for outer, outwards in ((every[every <= found.lower][-1], -1), (every[every >= found.upper][0], 1)):
        assert stats.mannwhitneyu(x - outer - outwards*1e-9, y, method='exact').pvalue <= 0.05
        assert stats.mannwhitneyu(x - outer + outwards*1e-9, y, method='exact').pvalue > 0.05


def test_paired_shift_interval_is_wilcoxon_inverted():
    d = np.random.default_rng(3).normal(size=9)
    found, every = hodges_lehmann(d, np.zeros(9), paired=True), np.sort(np.add.outer(d, d)[np.triu_indices(9)]/2)
    assert found.value == pytest.approx(np.median(every))
    for outer, outwards in ((every[every <= found.lower][-1], -1), (every[every >= found.upper][0], 1)):
        assert stats.wilcoxon(d - outer - outwards*1e-9, method='exact').pvalue <= 0.05
        assert stats.wilcoxon(d - outer + outwards*1e-9, method='exact').pvalue > 0.05


@pytest.mark.parametrize('of', ['typical', 'geometric_mean', 'median', 'mean'])
def test_ratio_turned_round(of):
    rng = np.random.default_rng(1)
    x, y = rng.lognormal(0, 0.2, 40), rng.lognormal(0.1, 0.2, 35)
    there, back = ratio_interval(x, y, of=of), ratio_interval(y, x, of=of)
    assert (1/back.value, 1/back.upper, 1/back.lower) == pytest.approx((there.value, there.lower, there.upper), rel=1e-3 if of == 'mean' else 1e-9)
    assert there.lower < there.value < there.upper


# --- corrections and power ---

@given(st.lists(st.floats(0, 1), max_size=40))
def test_adjusted_p_values(p):
    h, b, p = holm(p), benjamini_hochberg(p), np.array(p)
    assert (h >= p - 1e-15).all() and (b >= p - 1e-15).all() and (b <= h + 1e-12).all() and (h <= 1).all()
    if len(p): assert b == pytest.approx(stats.false_discovery_control(p), abs=1e-12)
    padded = holm([math.nan, *p])
    assert math.isnan(padded[0]) and (padded[1:] == h).all()


def test_power_against_known_tables():
    "Cohen (1988), tables 2.3 and 2.4: two-sided, level 0.05"
    assert [required_samples(d) for d in (0.2, 0.5, 0.8)] == [394, 64, 26]
    assert [required_samples(d, target=0.9) for d in (0.2, 0.5, 0.8)] == [527, 86, 34]
    assert power(0.5, 64) == pytest.approx(0.80146, abs=1e-5) and power(0.5, 34, paired=True) == pytest.approx(0.80777, abs=1e-5)
    assert power(0, 9) == pytest.approx(0.05)


@given(st.floats(0.05, 5), st.sampled_from([0.5, 0.8, 0.95]), st.booleans())
def test_required_samples_are_the_fewest(change, target, paired):
    n = required_samples(change, target=target, paired=paired)
    assert power(change, n, paired=paired) >= target and (n == 2 or power(change, n - 1, paired=paired) < target)
    assert detectable_change(n, target=target, paired=paired) <= change*(1 + 1e-9)


def test_power_is_what_happens():
    rng = np.random.default_rng(0)
    found = np.mean(stats.ttest_ind(rng.normal(1.1, 1, (4000, 12)), rng.normal(0, 1, (4000, 12)), axis=1).pvalue < 0.05)
    assert found == pytest.approx(power(1.1, 12), abs=0.03)


@pytest.mark.parametrize('call', [lambda: power(1, 1), lambda: power(1, 5, alpha=5), lambda: power(1, 5, spread=0), lambda: required_samples(0),
                                  lambda: required_samples(1, target=1), lambda: detectable_change(5, spread=-1)])
def test_power_arguments(call):
    with pytest.raises(ConfigError): call()


# --- the older spelling, and the package ---

def test_analyzer_repeats_itself():
    analyzer = StatisticalAnalyzer(bootstrap_resamples=200, seed=1)
    first = analyzer.summarize(A)
    assert analyzer.summarize(A) == first == StatisticalAnalyzer(200, 1).summarize(jnp.array(A)).from_dict(first.to_dict())
    assert isinstance(first, StatisticalResult) and first.min <= first.ci_lower <= first.mean <= first.ci_upper <= first.max and first.n == 7
    assert analyzer.bootstrap_ci([3.0]) == (3, 3) and analyzer.detect_outliers([*A, 99]) == [7]
    wide, narrow = analyzer.bootstrap_ci(A, confidence=0.99), analyzer.bootstrap_ci(A, confidence=0.5)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_nothing_heavy_is_loaded():
    "Neither at import nor by an interval of a mean"
    code = ('import sys, numpy as np\n'
            'from calibrax.statistics import analyzer, bootstrap, corrections, effects, power, significance, summary\n'
            'bootstrap.bootstrap_interval(np.mean, np.arange(40.)); effects.ratio_interval([1, 2, 3, 4, 5], [2, 3, 4, 5, 6])\n'
            'print([m for m in ("jax", "flax", "scipy", "matplotlib", "pandas", "fastcore") if m in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'

@pytest.mark.filterwarnings('error')
def test_infinite_values_are_no_evidence():
    "An infinite difference has no rank and no mean: NaN, without a warning, rather than a p-value"
    for test in (wilcoxon, lambda a, b: permutation_test(a, b).p_value, lambda a, b: permutation_test(a, b, paired=False).p_value):
        assert np.isnan(test([1.0, 2.0, math.inf], [1.0, 3.0, math.inf])).all()


@pytest.mark.parametrize('of', ['typical', 'median', 'geometric_mean'])
def test_a_ratio_beyond_all_numbers_is_infinite(of):
    x = np.linspace(1, 2, 12)
    assert ratio_interval(1e300*x, 1e-300*x, of=of).value == math.inf and ratio_interval(1e-300*x, 1e300*x, of=of).value == 0


@pytest.mark.parametrize('change, n, alpha, expected', [(60, 2, 1e-3, 0.972654), (1, 200, 0.05, 1.0), (7.75, 2, 1e-6, 6.1e-5), (1000, 2, 1e-6, 0.632121), (0.02, 1e5, 0.05, 0.994000)])
def test_power_where_scipys_function_gives_up(change, n, alpha, expected):
    "Expected values from numerical integration; the function is NaN in the second and the third case"
    assert power(change, n, alpha=alpha) == pytest.approx(expected, abs=3e-5)
    assert detectable_change(2, alpha=1e-6) > 1000


@pytest.mark.parametrize('call', [lambda: power('x', 5), lambda: power(1, 'x'), lambda: power(None, 5), lambda: required_samples('x'), lambda: detectable_change(5, spread='x'),
                                  lambda: StatisticalAnalyzer('x'), lambda: StatisticalAnalyzer(2.5),
                                  lambda: outlier_mask([1, 2, 3], threshold='x'), lambda: paired_significance_test([1, 2], [2, 3], alpha='x'),
                                  lambda: permutation_test([1, 2], [2, 3], num_permutations='x')])
def test_what_is_no_number_is_said_to_be_none(call):
    with pytest.raises(ConfigError, match='found'): call()


@pytest.mark.parametrize('n, m', [(5, 5), (8, 8), (10, 10), (10, 100), (100, 10)])
def test_the_ratio_of_medians_holds_at_any_two_lengths(n, m):
    rng, held, trials = np.random.default_rng(n + m), 0, 1000
    for _ in range(trials):
        found = ratio_interval(rng.lognormal(0, 1, n), rng.lognormal(0, 1, m), of='median')
        held += found.lower <= 1 <= found.upper
    assert 0.93 - 0.021 < held/trials < 0.98 + 0.012
