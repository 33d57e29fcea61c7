"""Divergences beside SciPy on input that is hard: zeros, ties, unequal lengths, weights, nearly equal distributions, a million samples."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from scipy.spatial import distance as scipy_distance

from calibrax.core.errors import MetricError
from calibrax.metrics import calculate_all
from calibrax.metrics.functional import divergence as d
from calibrax.metrics.registry import MetricRegistry

DISTRIBUTIONS = [d.kl_divergence, d.reverse_kl_divergence, d.js_divergence, d.js_distance, d.total_variation, d.hellinger_distance, d.chi_squared_divergence, d.renyi_divergence]
LINE = [(d.wasserstein_1d, scipy.stats.wasserstein_distance), (d.energy_distance, scipy.stats.energy_distance),
        (d.kolmogorov_smirnov_distance, lambda a, b: scipy.stats.ks_2samp(a, b, method='asymp').statistic)]


def close(value, wanted, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def distributions(n=20, seed=0, zeros=.3):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((2, n)) < zeros, 0, rng.gamma(1, size=(2, n)))
    return tuple((x/x.sum(1, keepdims=True)).astype(np.float32))


# --- faults of the published package --------------------------------------------------------------------------------------

def test_kl_is_infinite_where_q_rules_out_what_p_allows():
    assert d.kl_divergence([.5, .5], [1, 0]) == math.inf and d.reverse_kl_divergence([1, 0], [.5, .5]) == math.inf
    close(d.kl_divergence([1, 0], [.5, .5]), math.log(2))


def test_wasserstein_of_unequal_lengths(): close(d.wasserstein_1d(np.arange(3.), np.arange(5.)), 1)


def test_js_divergence_is_no_metric_and_its_root_is():
    "JS((1,0), (0,1)) = 0.693 is more than 0.216 + 0.216 over (½, ½)"
    flags = {e.name: e.properties for e in MetricRegistry().list_by_domain('divergence')}
    assert not flags['js_divergence'].is_true_metric and flags['js_distance'].is_true_metric
    assert d.js_divergence([1, 0], [0, 1]) > 2*d.js_divergence([1, 0], [.5, .5])
    rng = np.random.default_rng(0)
    for p, q, r in rng.dirichlet(np.full(3, .3), (50, 3)).astype(np.float32): assert d.js_distance(p, r) <= d.js_distance(p, q) + d.js_distance(q, r) + 1e-6


def test_gradients_are_finite_at_equality_and_at_zeros():
    p, q = jnp.array([.5, .3, .2, 0., 0.]), jnp.array([.5, 0., .1, .4, 0.])
    for f in DISTRIBUTIONS:
        gradients = jax.jit(jax.grad(f, (0, 1)))
        for x, y in ((p, q), (p, p), (q, p)): assert np.isfinite(gradients(x, y)).all(), f
    for f in (d.js_distance, d.hellinger_distance, d.total_variation): assert not np.asarray(jax.grad(f)(p, p)).any()


# --- probabilities --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('n,zeros', [(1, 0), (300, 0), (300, .3)])
def test_probabilities_equal_scipy(n, zeros):
    p, q = distributions(n, zeros=zeros)
    x, y = p.astype(np.float64), q.astype(np.float64)
    m = (x + y)/2
    js = (scipy.special.rel_entr(x, m).sum() + scipy.special.rel_entr(y, m).sum())/2
    close(d.kl_divergence(p, q), scipy.special.rel_entr(x, y).sum()); close(d.reverse_kl_divergence(p, q), scipy.special.rel_entr(y, x).sum())
    close(d.js_divergence(p, q), js); close(d.js_distance(p, q), np.sqrt(js)); close(d.total_variation(p, q), abs(x - y).sum()/2)
    close(d.hellinger_distance(p, q), np.sqrt(((np.sqrt(x) - np.sqrt(y))**2).sum()/2))
    with np.errstate(divide='ignore', invalid='ignore'): close(d.chi_squared_divergence(p, q), np.where(x == y, 0, (x - y)**2/y).sum())
    for alpha in (.1, 7.5):
        with np.errstate(divide='ignore', invalid='ignore'): terms = np.where(x == 0, 0, x**alpha*y**(1 - alpha)).sum()
        close(d.renyi_divergence(p, q, alpha=alpha), np.log(terms)/(alpha - 1), 3e-5, 2e-6)


def test_nearly_equal_distributions_keep_their_digits():
    p = np.random.default_rng(0).dirichlet(np.ones(50)).astype(np.float32)
    q = (p*(1 + 1e-4*np.random.default_rng(1).normal(size=50))).astype(np.float32)
    x, y = p.astype(np.float64), q.astype(np.float64)
    m = (x + y)/2
    close(d.js_distance(p, q), np.sqrt((scipy.special.rel_entr(x, m).sum() + scipy.special.rel_entr(y, m).sum())/2), 1e-3, 0)
    close(d.kl_divergence(p, q), scipy.special.rel_entr(x, y).sum(), 1e-3, 1e-9)
    close(d.hellinger_distance(p, q), np.sqrt(((np.sqrt(x) - np.sqrt(y))**2).sum()/2), 1e-4, 0)


def test_tails_of_normal_distributions_are_numbers():
    "Probabilities down to what float32 can hold, and below"
    x = np.linspace(-15, 15, 500)
    p, q = (np.float32(scipy.stats.norm.pdf(x, m)*(x[1] - x[0])) for m in (0, 1))
    close(d.js_divergence(p, q), scipy_distance.jensenshannon(p.astype(float), q.astype(float))**2)
    for f in (d.js_distance, d.hellinger_distance, d.total_variation): assert 0 < f(p, q) < 1
    assert all(not np.isnan(f(p, q)) for f in DISTRIBUTIONS)


def test_axis_gives_one_value_a_distribution():
    p, q = np.random.default_rng(0).dirichlet(np.ones(6), (2, 4)).astype(np.float32)
    for f in DISTRIBUTIONS:
        close(f(p, q, axis=1), [f(a, b) for a, b in zip(p, q)])
    close(d.js_divergence(p.T, q.T, axis=0), d.js_divergence(p, q, axis=-1))
    close(d.total_variation(p/4, q/4), d.total_variation(p, q, axis=1).mean())


def test_bad_probabilities_are_nan():
    for f in DISTRIBUTIONS:
        for bad in (-.5, np.nan): assert np.isnan(f([bad, 1.], [.5, .5])) and np.isnan(f([.5, .5], [bad, 1.])) and np.isnan(f([0., 1.], [bad, 1.])), f


def test_f_divergence_is_all_of_them():
    p, q = distributions()
    xlogy = jax.scipy.special.xlogy
    for generator, slope, wanted in ((lambda t: xlogy(t, t), math.inf, d.kl_divergence), (lambda t: abs(t - 1)/2, .5, d.total_variation), (lambda t: (t - 1)**2, math.inf, d.chi_squared_divergence),
                                     (lambda t: (1 - jnp.sqrt(t))**2/2, .5, lambda p, q: d.hellinger_distance(p, q)**2)):
        close(d.f_divergence(p, q, generator=generator, slope_at_infinity=slope), wanted(p, q))
    assert np.isfinite(d.f_divergence([.5, .5, 0], [.5, .5, 0], generator=lambda t: xlogy(t, t)))
    close(jax.jit(lambda p, q: d.f_divergence(p, q, generator=lambda t: abs(t - 1)/2, slope_at_infinity=.5))(p, q), d.total_variation(p, q))


def test_bregman():
    x, y = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    close(d.bregman_divergence(x, y, generator=lambda v: jnp.sum(v**2)), ((x - y)**2).sum())
    close(d.bregman_divergence(x, y, generator=lambda v: jnp.sum(v**2), generator_grad=lambda v: 2*v), ((x - y)**2).sum())
    close(d.bregman_divergence(x, y, generator=lambda v: jnp.sum(v*jnp.log(v))), (scipy.special.kl_div(x, y)).sum(), 1e-4)


# --- samples of a number --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('ours,theirs', LINE)
@pytest.mark.parametrize('sizes', [(1, 7), (50, 50), (400, 700)])
def test_samples_equal_scipy(ours, theirs, sizes):
    rng = np.random.default_rng(0)
    for decimals, offset in ((0, 0), (5, 0), (2, 1e4)):
        a, b = (np.float32(rng.normal(size=n).round(decimals) + offset) for n in sizes)
        close(ours(a, b), theirs(a.astype(float), b.astype(float)), 2e-5)
        close(ours(a, a), 0, atol=0)
    close(jax.jit(ours)(a, b), ours(a, b))


@pytest.mark.parametrize('ours,theirs', LINE[:2])
def test_weighted_samples_equal_scipy(ours, theirs):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40).round(1).astype(np.float32), rng.normal(size=60).round(1).astype(np.float32) + 1
    u, v = rng.integers(0, 4, 40), rng.uniform(0, 3, 60).astype(np.float32)
    close(ours(a, b, p_weights=u, q_weights=v), theirs(a, b, u, v), 2e-5)
    close(ours(a, b, p_weights=u), theirs(np.repeat(a, u), b), 2e-5)
    spoiled = np.where(u == 0, np.nan, a)
    close(ours(spoiled, b, p_weights=u), theirs(np.repeat(a, u), b), 2e-5)
    assert np.isfinite(jax.grad(lambda x: ours(x, b, p_weights=u))(spoiled)).all()


def test_the_gradient_of_transport_is_the_direction_of_each_sample():
    a, b = jnp.array([0., 10., 20.]), jnp.array([1., 9., 30.])
    close(jax.grad(d.wasserstein_1d)(a, b), np.array([-1, 1, -1])/3)
    for f in (d.wasserstein_1d, d.energy_distance): assert not np.asarray(jax.grad(f)(a, a)).any()
    b = jnp.array([3., 4.])
    numeric = [(float(d.wasserstein_1d(a.at[i].add(.1), b)) - float(d.wasserstein_1d(a.at[i].add(-.1), b)))/.2 for i in range(3)]
    close(jax.grad(d.wasserstein_1d)(a, b), numeric, 1e-3)


def test_a_million_samples():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=1_000_000).astype(np.float32), (rng.normal(size=999_000) + .01).astype(np.float32)
    close(d.wasserstein_1d(a, b), scipy.stats.wasserstein_distance(a.astype(float), b.astype(float)), 1e-4)
    close(d.kolmogorov_smirnov_distance(a, b), scipy.stats.ks_2samp(a, b, method='asymp').statistic, 1e-4)
    p, q = np.exp(rng.normal(size=(2, 1_000_000))).astype(np.float32)
    p, q = p/p.sum(), q/q.sum()
    close(d.kl_divergence(p, q), scipy.special.rel_entr(p.astype(float), q.astype(float)).sum(), 1e-5)


def test_one_sort_serves_three():
    a, b = np.random.default_rng(0).normal(size=(2, 30)).astype(np.float32)
    found = calculate_all(a, b, metrics=['wasserstein_1d', 'energy_distance', 'kolmogorov_smirnov_distance'])
    for (ours, theirs), value in zip(LINE, found.values()): close(value, theirs(a, b))
    assert len({MetricRegistry().get(name).decomposition.statistics for name in found}) == 1


# --- samples of vectors ---------------------------------------------------------------------------------------------------

def kernel_means(a, b, kernel, h):
    return np.exp(-scipy_distance.cdist(a, b, 'sqeuclidean')/(2*h*h)) if kernel == 'rbf' else np.exp(-scipy_distance.cdist(a, b, 'cityblock')/h)

@pytest.mark.parametrize('kernel,h', [('rbf', .5), ('laplace', 3.0)])
def test_mmd(kernel, h, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), (rng.normal(size=(27, 3)) + .5).astype(np.float32)
    xx, yy, xy = kernel_means(x, x, kernel, h), kernel_means(y, y, kernel, h), kernel_means(x, y, kernel, h)
    biased = np.sqrt(xx.mean() + yy.mean() - 2*xy.mean())
    unbiased = (xx.sum() - 40)/40/39 + (yy.sum() - 27)/27/26 - 2*xy.mean()
    for block in (d._BLOCK, 300):                                              # several rows at a time, and a rest
        monkeypatch.setattr(d, '_BLOCK', block)
        close(jax.jit(lambda a, b: d.mmd.compiled.function(a, b, kernel=kernel, bandwidth=h))(x, y), biased, 3e-5)
        close(jax.jit(lambda a, b: d.mmd_squared_unbiased.compiled.function(a, b, kernel=kernel, bandwidth=h))(x, y), unbiased, 3e-5)
    assert d.mmd(x, x, kernel=kernel, bandwidth=h) == 0 and np.isfinite(jax.grad(d.mmd)(x, x)).all()
    close(d.mmd(x + 1e4, y + 1e4), d.mmd(np.float32(x + 1e4) - 1e4, np.float32(y + 1e4) - 1e4), 1e-4)


def test_the_unbiased_mmd_may_be_negative():
    rng = np.random.default_rng(0)
    values = [float(d.mmd_squared_unbiased(*rng.normal(size=(2, 20, 2)).astype(np.float32))) for _ in range(60)]
    assert min(values) < 0 < max(values) and abs(np.mean(values)) < 3*np.std(values)/60**.5


def transport(x, y, epsilon, steps=3000):
    "Sinkhorn in float64, and the value of the primal"
    cost = scipy_distance.cdist(x, y, 'sqeuclidean')
    n, m = cost.shape
    f, g = np.zeros(n), np.zeros(m)
    for _ in range(steps):
        f = -epsilon*scipy.special.logsumexp((g - cost)/epsilon - np.log(m), axis=1)
        g = -epsilon*scipy.special.logsumexp((f - cost.T)/epsilon - np.log(n), axis=1)
    plan = np.exp((f[:, None] + g - cost)/epsilon)/(n*m)
    return (plan*cost).sum() + epsilon*scipy.special.rel_entr(plan, 1/(n*m)).sum(), plan

@pytest.mark.parametrize('epsilon', [.1, 50.0])
def test_sinkhorn(epsilon):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(9, 2)) + 1
    (xy, plan), (xx, own), (yy, _) = (transport(*pair, epsilon) for pair in ((x, y), (x, x), (y, y)))
    value, gradient = jax.value_and_grad(lambda a: d.sinkhorn_divergence(a, np.float32(y), regularization=epsilon, threshold=1e-6))(np.float32(x))
    close(value, xy - (xx + yy)/2, 1e-3, 1e-4)
    close(gradient, 2*(plan.sum(1)[:, None]*x - plan @ y) - 2*(own.sum(1)[:, None]*x - own @ x), 5e-3, 1e-3)


def test_sinkhorn_has_its_limits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 2)).astype(np.float32)
    y = y + np.float32([3, 0])
    assert d.sinkhorn_divergence(x, x) == 0 and not np.asarray(jax.grad(d.sinkhorn_divergence)(x, x)).any()
    close(d.sinkhorn_divergence(x, y, regularization=1e5), ((x.mean(0) - y.mean(0))**2).sum(), 1e-2)
    cost = scipy_distance.cdist(x, y, 'sqeuclidean')
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    close(d.sinkhorn_divergence(x, y, regularization=.02, max_iter=5000), cost[rows, columns].mean(), 1e-2)
    for steps in (1, 3): assert np.isfinite(d.sinkhorn_divergence(x*100, y*100, regularization=1e-3, max_iter=steps))
    x[0, 0] = np.nan
    assert np.isnan(d.sinkhorn_divergence(x, y))


def test_sliced_wasserstein():
    rng = np.random.default_rng(0)
    x, y, z = rng.normal(size=(20, 3)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32) + 1, rng.normal(size=(30, 3)).astype(np.float32)
    key = jax.random.key(3)
    directions = jax.random.normal(key, (50, 3))
    directions = np.asarray(directions/jnp.linalg.norm(directions, axis=1, keepdims=True), np.float64)
    for other in (y, z):
        wanted = np.mean([scipy.stats.wasserstein_distance(x @ v, other @ v) for v in directions])
        close(d.sliced_wasserstein(x, other, key=key, num_projections=50, p=1.0), wanted, 1e-4)
    close(d.sliced_wasserstein(x, y, key=key, num_projections=50, p=3.0), np.mean([np.abs(np.sort(x @ v) - np.sort(y @ v))**3 for v in directions])**(1/3), 1e-4)
    close(d.sliced_wasserstein(x, np.concatenate((y, y)), key=key), d.sliced_wasserstein(x, y, key=key), 1e-4)       # unequal lengths, the same distribution
    few = lambda a, b: d.sliced_wasserstein(a, b, key=key, num_projections=8)
    close(jax.jit(few)(x, z), few(x, z))
    assert d.sliced_wasserstein(x, x, key=key) == 0 and np.isfinite(jax.grad(few)(x, x)).all()
    assert d.SLICED_WASSERSTEIN_PROJECTIONS == 256 and MetricRegistry().get_function('sliced_wasserstein') is d.registry_sliced_wasserstein
    close(d.registry_sliced_wasserstein(x, y), d.sliced_wasserstein(x, y, key=jax.random.key(d.SLICED_WASSERSTEIN_REGISTRY_SEED)))


# --- errors ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('call,says', [
    (lambda: d.kl_divergence([.5, .5], [1.]), 'Shape mismatch: p'), (lambda: d.renyi_divergence([1.], [1.], alpha=1), 'alpha must be above 0'),
    (lambda: d.renyi_divergence([1.], [1.], alpha=-2), 'alpha must be'), (lambda: d.wasserstein_1d([], [1.]), 'p of shape (0,)'), (lambda: d.energy_distance([[1.]], [1.]), 'p of shape (1, 1)'),
    (lambda: d.wasserstein_1d([1.], [1.], p_weights=[1., 2.]), 'p_weights of shape (2,)'), (lambda: d.kolmogorov_smirnov_distance([1.], []), 'q of shape (0,)'),
    (lambda: d.mmd([[1.]], [[1., 2.]]), 'no samples of vectors'), (lambda: d.mmd([[1.]], [[1.]], kernel='linear'), "unknown kernel 'linear'"), (lambda: d.mmd([[1.]], [[1.]], bandwidth=0), 'bandwidth must be'),
    (lambda: d.mmd_squared_unbiased([[1.]], [[1.], [2.]]), 'two are needed'), (lambda: d.sinkhorn_divergence([[1.]], [[1.]], regularization=-1), 'regularization must be'),
    (lambda: d.sliced_wasserstein([[1.]], [[1.]], key=jax.random.key(0), num_projections=0), 'num_projections must be'), (lambda: d.sliced_wasserstein([[1.]], [[1.]], key=jax.random.key(0), p=0), 'p must be at least 1'),
    (lambda: d.f_divergence([1.], [1., 2.], generator=abs), 'Shape mismatch'), (lambda: d.bregman_divergence([1.], [1., 2.], generator=jnp.sum), 'Shape mismatch: x'),
    (lambda: d.kl_divergence([1.5, -.5], [.5, .5], validate=True), 'must be probabilities')])
def test_errors_name_the_argument(call, says):
    with pytest.raises(MetricError) as e: call()
    assert says in str(e.value) and e.value.hint
