"""Correlations and moments beside SciPy, far from zero, with ties, weights and masks, at a million elements."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from calibrax.core.errors import MetricError
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.functional.statistical import (_inversions_on_device, _inversions_on_host, _number, _weighted_inversions_on_host, agreement_moments, autocorrelation,
                                                     concordance_correlation, covariance, kendall_counts, kendall_tau, kurtosis, merge_agreement, merge_shape, pearson_correlation,
                                                     r_squared_adjusted, shape_moments, skewness, spearman_rank_correlation)
from calibrax.metrics.kernels import sort_on

pytestmark = pytest.mark.filterwarnings('ignore')
RNG = np.random.default_rng(0)
FOUR = [pearson_correlation, spearman_rank_correlation, kendall_tau, concordance_correlation]
OF_SCIPY = [(pearson_correlation, scipy.stats.pearsonr), (spearman_rank_correlation, scipy.stats.spearmanr), (kendall_tau, scipy.stats.kendalltau)]
def close(value, wanted, rtol=2e-6, atol=1e-6): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def series(n=500, levels=None, slope=.5, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    b = slope*a + rng.normal(size=n)
    return [(np.round(x*levels)/levels if levels else x).astype(np.float32) for x in (a, b)]


# --- faults of the published package --------------------------------------------------------------------------------------

def test_a_million_away_from_zero():
    a, b = np.float32(1e6 + .01*np.arange(1000)), np.arange(1000, dtype=np.float32)
    close(pearson_correlation(a, b), np.corrcoef(a.astype(np.float64), b)[0, 1])
    for f in (pearson_correlation, spearman_rank_correlation): close(f(a, a), 1, 2e-7, 0)

@pytest.mark.parametrize('offset,step', [(1e4, 1), (1e8, 4096)])
@pytest.mark.parametrize('ours,theirs', OF_SCIPY)
def test_far_from_zero(ours, theirs, offset, step):
    a, b = (np.float32(x*step + offset) for x in series())
    close(ours(a, b), theirs(a.astype(np.float64), b.astype(np.float64)).statistic, 1e-5)

def test_gradients_are_finite_for_constants():
    x, flat = jnp.arange(4.), jnp.full(4, 3.3)
    for f in (pearson_correlation, concordance_correlation, covariance, lambda a, b: r_squared_adjusted(a, b, num_predictors=1)):
        grad = jax.jit(jax.grad(f, argnums=(0, 1)))
        for a, b in ((x, flat), (flat, x), (flat, flat), (x, x)): assert all(np.isfinite(g).all() for g in grad(a, b))
    for f in (skewness, kurtosis): assert np.isfinite(jax.grad(f)(flat)).all() and np.isfinite(jax.grad(f)(jnp.zeros(3))).all()

@pytest.mark.parametrize('n', [2, 10, 1000, 100_003])
def test_constants_give_zero_though_their_mean_is_rounded(n):
    x = RNG.normal(size=n).astype(np.float32)
    for value in (-1966.3512, .0019242066, 1e8, 0, 3.3e-20):
        flat = np.full(n, value, np.float32)
        for f in FOUR[:3]: assert f(flat, x) == 0 and f(x, flat) == 0 and f(flat, flat) == 0 and np.isnan(f(flat, np.full(n, np.nan)))
        assert concordance_correlation(flat, flat) == 0 and skewness(flat) == 0 and kurtosis(flat) == 0 and kurtosis(flat, fisher=False) == 0
        if n > 2: assert r_squared_adjusted(flat, flat, num_predictors=1) == 1 and abs(float(r_squared_adjusted(x, flat, num_predictors=1))) < 10

def test_kendall_takes_little_memory_and_time():
    "6000 elements took 3.7 s, and as many numbers as they have pairs"
    a, b = series(60_000, levels=50)
    close(kendall_tau(a, b), scipy.stats.kendalltau(a, b).statistic)
    text = jax.jit(lambda x, y: kendall_tau(x, y)).lower(a, b).as_text()
    assert '60000x60000' not in text


# --- ranks -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('n', [2, 3, 7, 64, 65, 500])
@pytest.mark.parametrize('levels', [None, 8, 1])
def test_ranks_with_ties(n, levels):
    a, b = series(n, levels)
    if len(set(a)) < 2 or len(set(b)) < 2: return
    close(spearman_rank_correlation(a, b), scipy.stats.spearmanr(a, b).statistic)
    for variant in 'bc': close(kendall_tau(a, b, variant=variant), scipy.stats.kendalltau(a, b, variant=variant).statistic)
    i, j = np.triu_indices(n, 1)
    close(kendall_tau(a, b, variant='a'), np.mean(np.sign(a[i] - a[j])*np.sign(b[i] - b[j])))

@pytest.mark.parametrize('f', FOUR[1:3])
def test_inside_of_jit_it_is_the_same(f):
    a, b = series(300, 4)
    w, mask = RNG.integers(0, 4, 300).astype(np.float32), RNG.random(300) < .7
    for more in ({'mask': mask}, {'mask': mask, 'weights': w}):
        host = f(a, b, **more)
        with sort_on('device'): close(f(a, b, **more), host) # one program

@pytest.mark.parametrize('n', [1, 2, 5, 63, 64, 65, 128, 1000, 70_000])
def test_inversions(n):
    p, w = np.random.default_rng(n).permutation(n).astype(np.int32), np.random.default_rng(n).integers(0, 5, n).astype(np.float32)
    wanted = np.int64(0) if n > 1000 else sum(int((p[i] > p[i + 1:]).sum()) for i in range(n))
    if n <= 1000:
        assert _inversions_on_host(p) == wanted
        close(_weighted_inversions_on_host(p, w), sum(float((w[i]*w[i + 1:])[p[i] > p[i + 1:]].sum()) for i in range(n)))
    assert int(np.sum(np.asarray(_inversions_on_device(jnp.asarray(p), None), np.int64))) == _inversions_on_host(p)
    close(np.sum(np.asarray(_inversions_on_device(jnp.asarray(p), jnp.asarray(w)), np.float64)), _weighted_inversions_on_host(p, w))

def test_a_million():
    a, b = series(1_000_000, 1000)
    close(kendall_tau(a, b), scipy.stats.kendalltau(a, b).statistic); close(spearman_rank_correlation(a, b), scipy.stats.spearmanr(a, b).statistic)
    close(pearson_correlation(a, b), np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1])
    assert kendall_tau(a, a) == 1 and kendall_tau(a, -a) == -1
    pairs = kendall_counts(np.arange(1_000_000), np.arange(1_000_000)[::-1])
    assert sum(int(d)*256**k for k, d in enumerate(pairs['discordant'])) == 499_999_500_000
    swapped = np.arange(1_000_000); swapped[:2] = 1, 0
    close(1 - kendall_tau(np.arange(1_000_000), swapped), 4/(1e6*999_999), 1, 1e-7)
    u, v = RNG.normal(size=(2, 1_000_000)).astype(np.float32)
    close(kendall_tau(u, v), scipy.stats.kendalltau(u, v).statistic, 1e-5, 1e-9)

def test_small_differences_of_large_counts_are_exact():
    a = np.arange(2000); b = np.concatenate((a[1000:], a[:1000]))[::1]
    counts = kendall_counts(a, b)
    net = counts['differ_a'] + counts['differ_b'] - counts['differ'] - 4*counts['discordant']
    assert float(_number(net)) == 2000*1999 - 4*1000*1000


# --- weights, masks, NaN ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('f', [*FOUR, covariance, lambda a, b, **k: r_squared_adjusted(a, b, num_predictors=2, **k), lambda a, b, **k: skewness(a, bias=False, **k), lambda a, b, **k: kurtosis(a, bias=False, **k)])
def test_weights_are_repetition_and_masks_deletion(f):
    a, b = series(200, 4)
    w, mask = RNG.integers(0, 4, 200), RNG.random(200) < .6
    close(f(a, b, weights=w.astype(np.float32)), f(np.repeat(a, w), np.repeat(b, w)), 2e-5)
    close(f(np.where(mask, a, np.nan), np.where(mask, b, np.inf), mask=mask), f(a[mask], b[mask]), 2e-5)
    assert np.isnan(f(np.where(mask, a, np.nan), b)) and np.isfinite(f(a.reshape(10, 20), b.reshape(10, 20)))
    for n in (0, 1): assert f(a[:n], b[:n]).shape == ()

def test_fractional_weights_of_kendall():
    a, b = series(50, 3)
    w = RNG.random(50).astype(np.float32)
    close(kendall_tau(a, b, weights=w), kendall_tau(a, b, weights=100*w), 1e-5)
    i, j = np.triu_indices(50, 1)
    x, y, ww = np.sign(a[i] - a[j]), np.sign(b[i] - b[j]), w[i].astype(np.float64)*w[j]
    close(kendall_tau(a, b, weights=w), (ww*x*y).sum()/np.sqrt((ww*x*x).sum()*(ww*y*y).sum()), 1e-5)

def test_errors_name_the_argument():
    with pytest.raises(MetricError, match=r'a \(3,\) vs b \(2,\)'): kendall_tau([1, 2, 3], [1, 2])
    with pytest.raises(MetricError, match='unknown variant'): kendall_tau([1, 2], [1, 2], variant='x')
    with pytest.raises(MetricError, match='num_predictors'): r_squared_adjusted([1, 2], [1, 2], num_predictors=-1)
    with pytest.raises(MetricError, match='finite'): pearson_correlation([1, np.nan], [1, 2], validate=True)

@pytest.mark.parametrize('half', [np.float16, jnp.bfloat16])
def test_half_precision(half):
    a, b = (jnp.asarray(x, half) for x in series(1000))
    for ours, theirs in OF_SCIPY: close(ours(a, b), theirs(np.asarray(a, np.float64), np.asarray(b, np.float64)).statistic, 1e-5)


# --- moments ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('offset', [0, 1e4])
@pytest.mark.parametrize('bias', [True, False])
def test_shape_beside_scipy(bias, offset):
    x = (RNG.gamma(2, size=3000) + offset).astype(np.float32)
    wide = x.astype(np.float64)
    close(skewness(x, bias=bias), scipy.stats.skew(wide, bias=bias), 1e-5); close(kurtosis(x, bias=bias), scipy.stats.kurtosis(wide, bias=bias), 1e-5)
    close(kurtosis(x, bias=bias, fisher=False), scipy.stats.kurtosis(wide, bias=bias, fisher=False), 1e-5)
    assert np.isnan(skewness(x[:2], bias=False)) and np.isnan(kurtosis(x[:3], bias=False))

@pytest.mark.parametrize('scale', [1e-15, 1e15])
def test_shape_of_very_small_and_very_large_numbers(scale):
    x = RNG.gamma(2, size=1000)
    close(skewness(np.float32(x*scale)), scipy.stats.skew(x), 1e-4); close(kurtosis(np.float32(x*scale)), scipy.stats.kurtosis(x), 1e-4)

def test_merging_far_from_zero():
    x = (RNG.gamma(2, size=4000) + 1e4).astype(np.float32)
    parts = [shape_moments(p) for p in np.split(x, [1, 100, 2500])]
    both = merge_shape(merge_shape(parts[0], parts[1]), merge_shape(parts[2], parts[3]))
    for k, v in shape_moments(x).items(): close(both[k], v, 1e-4)
    a, b = (y*100 + np.float32(1e4) for y in series(1000))
    m = merge_agreement(agreement_moments(a[:300], b[:300]), agreement_moments(a[300:], b[300:]))
    for k, v in agreement_moments(a, b).items(): close(m[k], v, 1e-5, 1e-3)

def test_adjusted_r_squared():
    a, b = series(30)
    plain = float(r_squared_adjusted(a, b, num_predictors=0))
    close(r_squared_adjusted(a, b, num_predictors=5), 1 - (1 - plain)*29/24)
    assert np.isnan(r_squared_adjusted(a, b, num_predictors=29)) and np.isnan(r_squared_adjusted(a, b, num_predictors=40)) and np.isfinite(r_squared_adjusted(a, b, num_predictors=28))

def test_covariance():
    a, b = series(30)
    for c in (0, 1): close(covariance(a, b, correction=c), np.cov(a, b, ddof=c)[0, 1], 1e-5)
    assert np.isnan(covariance([1], [2])) and covariance([1], [2], correction=0) == 0


# --- autocorrelation ------------------------------------------------------------------------------------------------------------

def pooled(x, lags):
    c = x - x.mean(1, keepdims=True)
    return [np.mean(c[:, :c.shape[1] - k]*c[:, k:])/np.mean(c**2) for k in range(lags)]

def test_autocorrelation():
    x = np.cumsum(RNG.normal(size=(5, 40, 2)), axis=1).astype(np.float32)
    close(autocorrelation(x, max_lag=40), pooled(x.astype(np.float64), 40), 1e-5, 1e-5); close(autocorrelation(x + 1e4, max_lag=5), pooled((x + np.float32(1e4)).astype(np.float64), 5), 1e-5, 1e-5)
    w = np.array([0, 1, 2, 3, 1])
    close(autocorrelation(x, max_lag=6, weights=w), pooled(np.repeat(x, w, 0).astype(np.float64), 6), 1e-5, 1e-5)
    close(autocorrelation(x, max_lag=6, mask=w > 0), pooled(x[1:].astype(np.float64), 6), 1e-5, 1e-5)
    padded = np.concatenate((x, np.full((5, 7, 2), np.nan, np.float32)), 1)
    mask = np.broadcast_to(np.arange(47) < 40, (5, 47))
    close(autocorrelation(padded, max_lag=6, mask=mask), pooled(x.astype(np.float64), 6), 1e-5, 1e-5)
    assert autocorrelation(np.ones((2, 9, 1)), max_lag=3).tolist() == [0, 0, 0] and autocorrelation(x, max_lag=1).tolist() == [1]
    assert np.isfinite(jax.grad(lambda s: autocorrelation(s, max_lag=3).sum())(jnp.ones((2, 9, 1)))).all()
    for bad in (dict(series=x[0], max_lag=2), dict(series=x, max_lag=0), dict(series=x, max_lag=41), dict(series=x, max_lag=2, weights=[1, 2])):
        with pytest.raises(ValueError): autocorrelation(**bad)

def test_all_at_once():
    a, b = series(200)
    values = calculate_all(a, b, domain='statistical')
    assert set(values) >= {'pearson_correlation', 'spearman_rank_correlation', 'kendall_tau', 'concordance_correlation', 'covariance'}
    for f in FOUR: close(values[f.__name__], f(a, b))
