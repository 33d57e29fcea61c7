"""Distances beside SciPy and scikit-learn on input that is hard: zero vectors, points far from zero, poles, the edge of the ball, masks full of NaN."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

from calibrax.core.errors import MetricError
from calibrax.metrics.functional import distance as d
from calibrax.metrics.registry import MetricRegistry
from metric_inputs import ball, hyperboloid

pairwise = pytest.importorskip('sklearn.metrics.pairwise')
ROWS = {name: getattr(d, name) for name in ('cosine_distance', 'correlation_distance', 'euclidean_distance', 'squared_euclidean_distance', 'manhattan_distance', 'chebyshev_distance',
                                            'minkowski_distance', 'mahalanobis_distance', 'canberra_distance', 'bray_curtis_distance', 'hamming_distance')}
SCIPY = {'cosine_distance': 'cosine', 'correlation_distance': 'correlation', 'euclidean_distance': 'euclidean', 'squared_euclidean_distance': 'sqeuclidean',
         'manhattan_distance': 'cityblock', 'chebyshev_distance': 'chebyshev', 'canberra_distance': 'canberra', 'bray_curtis_distance': 'braycurtis', 'hamming_distance': 'hamming'}


def close(value, wanted, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def vectors(n=50, size=7, seed=0, offset=0):
    x = np.random.default_rng(seed).normal(size=(2, n, size)).astype(np.float32)
    return tuple(x + np.float32(offset))


# --- faults of the published package --------------------------------------------------------------------------------------

def test_poincare_has_a_gradient_at_equality():
    x = jnp.array([[.3, .2], [0., 0.]])
    assert not np.asarray(jax.grad(d.poincare_distance)(x, x)).any()


def test_a_zero_vector_has_a_cosine_distance_of_one_and_a_gradient():
    for a, b in ((jnp.zeros(3), jnp.ones(3)), (jnp.ones(3), jnp.zeros(3)), (jnp.zeros(3), jnp.zeros(3))):
        assert d.cosine_distance(a, b) == 1
        for argument in (0, 1): assert np.isfinite(jax.grad(d.cosine_distance, argument)(a, b)).all()


def test_a_point_is_at_lorentz_distance_zero_from_itself():
    x = hyperboloid(np.random.default_rng(0), (5, 3))
    assert d.lorentz_distance(x, x) == 0 and np.isfinite(jax.grad(d.lorentz_distance)(x, x)).all()


def test_what_is_masked_does_not_leak():
    a, b = vectors(4)
    for f in ROWS.values():
        spoiled = a.copy()
        spoiled[2] = np.nan
        keep = np.array([True, True, False, True])
        close(f(spoiled, b, mask=keep), f(a[keep], b[keep]))
        if f in (d.cosine_distance, d.correlation_distance, d.minkowski_distance): assert np.isfinite(jax.grad(lambda x: f(x, b, mask=keep))(spoiled)).all()


def test_flags_are_true():
    flags = {e.name: e.properties for e in MetricRegistry().list_by_domain('distance')}
    assert not any(flags[n].is_true_metric for n in ('cosine_distance', 'correlation_distance', 'squared_euclidean_distance', 'bray_curtis_distance', 'randers_distance'))
    assert not flags['hamming_distance'].is_differentiable and not flags['randers_distance'].is_symmetric


def test_the_gradient_at_equality_is_zero():
    "A step from a perfect match would be a step away; jnp.abs has gradient 1 at 0"
    x = jnp.array([[1., 2.], [0., 0.]])
    for f in (d.euclidean_distance, d.manhattan_distance, d.chebyshev_distance, d.minkowski_distance, d.canberra_distance, d.bray_curtis_distance, d.mahalanobis_distance):
        assert not np.asarray(jax.grad(f)(x, x)).any(), f


# --- beside SciPy ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', SCIPY)
@pytest.mark.parametrize('offset', [0, 1e4])
def test_rows_equal_scipy(name, offset):
    a, b = vectors(offset=offset)
    b[3] = a[3]
    wanted = [getattr(scipy_distance, SCIPY[name])(x, y) for x, y in zip(a.astype(np.float64), b.astype(np.float64))]
    close(ROWS[name](a, b, reduction='none'), wanted, rtol=2e-5 if name not in ('cosine_distance', 'correlation_distance') else 1e-3, atol=1e-6 if not offset else 1e-7*offset**.2)
    close(ROWS[name](a, b), np.mean(wanted), 1e-4)
    w = np.random.default_rng(1).uniform(0, 2, len(a)).astype(np.float32)
    close(ROWS[name](a, b, weights=w), np.average(wanted, weights=w), 1e-4)


@pytest.mark.parametrize('p', [1, 1.5, 2, 3, 30, math.inf])
def test_minkowski(p):
    a, b = vectors()
    close(d.minkowski_distance(a, b, p=p, reduction='none'), [scipy_distance.minkowski(x, y, p) for x, y in zip(a, b)])
    close(d.minkowski_distance(a*1e30, b*1e30, p=p)/1e30, d.minkowski_distance(a, b, p=p))
    for x, y in ((a, a), (a, b), (np.zeros_like(a), np.zeros_like(a))): assert np.isfinite(jax.grad(lambda v: d.minkowski_distance(v, y, p=p))(x)).all()


def test_mahalanobis():
    a, b = vectors()
    data = np.random.default_rng(2).normal(size=(100, 7)) @ np.random.default_rng(3).normal(size=(7, 7))
    precision = np.linalg.inv(np.cov(data, rowvar=False))
    close(d.mahalanobis_distance(a, b, precision_matrix=precision, reduction='none'), [scipy_distance.mahalanobis(x, y, precision) for x, y in zip(a, b)], 1e-4)
    flat = np.outer(np.ones(7), np.ones(7))                                 # semi-definite: rounding may not make it NaN
    b = a + np.float32([1, -1, 2, -2, 3, -3, 0])
    assert np.isfinite(d.mahalanobis_distance(a, b, precision_matrix=flat, reduction='none')).all()


def test_lengths_neither_overflow_nor_vanish():
    a = np.float32([[3, 4], [0, 0], [3e30, 4e30], [3e-30, 4e-30], [np.inf, 0], [np.nan, 0]])
    near = d.euclidean_distance(a, np.zeros_like(a), reduction='none')
    close(np.asarray(near)[:3]/np.float32([1, 1, 1e30]), [5, 0, 5]); close(near[3]*1e30, 5)
    assert np.isinf(near[4]) and np.isnan(near[5])
    close(d.cosine_distance(a[:4:2], a[3:4].repeat(2, 0), reduction='none'), [0, 0])


def test_small_angles_keep_their_digits():
    close(d.cosine_distance([1., 1e-5], [1., 0.]), 5e-11, 1e-4, 0)
    x = np.float32(1e4) + np.arange(50, dtype=np.float32)
    close(d.correlation_distance(x, x + 7), 0, atol=1e-9)
    assert d.correlation_distance(np.full(7, .1, np.float32), np.arange(7.)) == 1


# --- sets, spheres, curved space ------------------------------------------------------------------------------------------

def test_jaccard_of_sets_and_amounts():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 40)) < .4
    close(d.jaccard_distance(a, b), scipy_distance.jaccard(a, b))
    close(d.jaccard_distance(np.stack((a, b)), np.stack((b, b))), 1 - ((a & b).sum() + b.sum())/((a | b).sum() + b.sum()))
    assert d.jaccard_distance(np.zeros(3), np.zeros(3)) == 0 and np.isfinite(jax.grad(d.jaccard_distance)(jnp.zeros(3), jnp.zeros(3))).all()


def test_large_codes_are_compared_as_integers():
    assert d.hamming_distance([2**24 + 1, 5], [2**24, 5]) == .5
    assert d.hamming_distance([True, False], [True, True]) == .5


def test_haversine_everywhere():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform((-np.pi/2, -np.pi), (np.pi/2, np.pi), (200, 2)).astype(np.float32) for _ in 'ab')
    close(d.haversine_distance(a, b, reduction='none'), np.diag(pairwise.haversine_distances(a.astype(float), b.astype(float))), 2e-5, 2e-6)
    near = a + np.float32(1e-4)
    close(d.haversine_distance(a, near, reduction='none'), np.diag(pairwise.haversine_distances(a.astype(float), near.astype(float))), 2e-3, 0)
    opposite = np.stack((-a[:, 0], a[:, 1] + np.float32(np.pi)), 1)
    close(d.haversine_distance(a, opposite, reduction='none'), np.pi, 1e-6)
    for y in (a, near, opposite): assert np.isfinite(jax.grad(d.haversine_distance)(a, y)).all()


def test_hyperbolic_distances_agree():
    "The ball and the hyperboloid are two pictures of one space"
    x, y = ball(np.random.default_rng(0), (2, 40, 3)).astype(np.float64)
    def lift(p):
        s = (p**2).sum(-1, keepdims=True)
        return np.concatenate((1 + s, 2*p), -1)/(1 - s)
    close(d.poincare_distance(x, y, reduction='none'), d.lorentz_distance(lift(x).astype(np.float32), lift(y).astype(np.float32), reduction='none'), 1e-3)
    close(d.poincare_distance(x/2, y/2, curvature=4.0), d.poincare_distance(x, y)/2)
    close(d.poincare_distance([0.], [1e-6]), 2e-6, 1e-4, 0)
    assert np.isnan(d.poincare_distance([0., 1.5], [0., 0.]))


def test_lorentz_is_invariant_under_a_boost():
    a, b = (hyperboloid(np.random.default_rng(i), (20, 2)).astype(np.float64) for i in (0, 1))
    boost = np.array([[math.cosh(1), math.sinh(1), 0], [math.sinh(1), math.cosh(1), 0], [0, 0, 1]])
    close(d.lorentz_distance((a @ boost).astype(np.float32), (b @ boost).astype(np.float32), reduction='none'), d.lorentz_distance(a, b, reduction='none'), 1e-3)


def test_randers():
    a, b, c = np.random.default_rng(0).normal(size=(3, 30, 2)).astype(np.float32)
    far = lambda x, y: np.asarray(d.randers_distance(x, y, direction=[3., 4.], magnitude=.9, reduction='none'))
    assert (far(a, b) >= 0).all() and (far(a, c) <= far(a, b) + far(b, c) + 1e-5).all()
    close(far(a, b) - far(b, a), 2*.9*(b - a) @ [.6, .8], 1e-4, 1e-5)
    close(d.randers_distance(a, b, direction=[0., 0.], magnitude=.5), d.euclidean_distance(a, b))


# --- every pair -----------------------------------------------------------------------------------------------------------

def test_matrices_equal_scikit_learn():
    x, y = vectors(30)[0], vectors(20)[1]
    x[4] = 0
    close(d.cosine_similarity(x, y), pairwise.cosine_similarity(x, y)); close(d.cosine_distances(x), pairwise.cosine_distances(x)); close(d.cosine_distances(x, y), pairwise.cosine_distances(x, y))
    close(d.euclidean_distances(x, y), pairwise.euclidean_distances(x.astype(float), y)); close(d.euclidean_distances(x, squared=True), pairwise.euclidean_distances(x.astype(float), squared=True))
    close(d.manhattan_distances(x, y), pairwise.manhattan_distances(x, y)); assert not np.diag(d.cosine_distances(x)).any()
    close(d.haversine_distances(x[:, :2], y[:, :2]), pairwise.haversine_distances(x[:, :2], y[:, :2]), 1e-4)


@pytest.mark.parametrize('metric', ['euclidean', 'l1', 'l2', 'sqeuclidean', 'cityblock', 'chebyshev', 'canberra', 'braycurtis', 'cosine', 'correlation', 'hamming', 'minkowski', 'mahalanobis'])
def test_pairwise_distances_by_name(metric):
    x, y = (v.round(1) for v in (vectors(33)[0], vectors(20)[1]))
    own = {'minkowski': {'p': 3}, 'mahalanobis': {'precision_matrix': np.diag(np.arange(1., 8))}}.get(metric, {})
    theirs = {'VI': own['precision_matrix']} if metric == 'mahalanobis' else own
    close(d.pairwise_distances(x, y, metric, **own), pairwise.pairwise_distances(x.astype(float), y.astype(float), metric, **theirs), 1e-4)


def test_pairwise_distances_in_blocks(monkeypatch):
    monkeypatch.setattr(d, '_BLOCK', 999)                                       # seven rows of 21 by 7 at a time, and a rest
    x, y = vectors(33)[0], vectors(21)[1]
    close(d.pairwise_distances(x, y, 'canberra'), pairwise.pairwise_distances(x.astype(float), y.astype(float), 'canberra'))
    assert np.isfinite(jax.grad(lambda v: jnp.sum(d.pairwise_distances(v, metric='correlation')))(x)).all()


def test_near_points_far_apart_keep_their_digits():
    "Two tight clusters on both sides of zero: what a product of matrices cannot do in float32"
    x = np.concatenate([np.float32(s) + np.random.default_rng(i).normal(size=(30, 4)).astype(np.float32)*np.float32(.01) for i, s in enumerate((-1e4, 1e4))])
    close(d.euclidean_distances(x), scipy_distance.cdist(x.astype(float), x.astype(float)), 1e-5, 0)
    assert not np.diag(d.euclidean_distances(x)).any() and np.isfinite(jax.grad(lambda v: d.euclidean_distances(v).sum())(x)).all()


def test_matrices_are_differentiable_and_compile():
    x = vectors(6)[0]
    for f in (d.cosine_distances, d.cosine_similarity, d.euclidean_distances, d.manhattan_distances):
        close(jax.jit(f)(x), f(x)); assert np.isfinite(jax.grad(lambda v: jnp.sum(f(v)))(x)).all()
    close(jax.vmap(d.euclidean_distances)(np.stack((x, 2*x)))[1], 2*d.euclidean_distances(x))


def test_a_matrix_of_many_is_not_stored_as_differences():
    x = np.random.default_rng(0).normal(size=(1500, 256)).astype(np.float32)        # 2.3 GB of differences
    used = jax.jit(d.euclidean_distances).lower(x).compile().memory_analysis()
    if used is not None: assert used.temp_size_in_bytes < 100e6


# --- shapes and errors ----------------------------------------------------------------------------------------------------

def test_vectors_batches_and_reductions():
    a, b = vectors(6)
    rows = np.asarray(d.euclidean_distance(a, b, reduction='none'))
    close(d.euclidean_distance(a, b, reduction='sum'), rows.sum()); close(d.euclidean_distance(a, b, reduction='batch_sum'), rows.mean())
    close(d.euclidean_distance(a[0], b[0]), rows[0]); close(d.euclidean_distance(a.reshape(2, 3, 7), b.reshape(2, 3, 7), reduction='none'), rows.reshape(2, 3))
    close(d.euclidean_distance(a.reshape(2, 3, 7), b.reshape(2, 3, 7), weights=[1, 0]), rows[:3].mean())
    assert d.euclidean_distance(a.astype(np.float16), b.astype(np.float16)).dtype == jnp.float32
    for f in ROWS.values(): assert f(np.zeros((0, 3)), np.zeros((0, 3))) == 0 and np.isfinite(f(np.zeros((2, 0)), np.zeros((2, 0))))


@pytest.mark.parametrize('call,says', [
    (lambda: d.euclidean_distance([1, 2], [1, 2, 3]), 'Shape mismatch: a'), (lambda: d.euclidean_distance(1, 2), 'single numbers'), (lambda: d.hamming_distance(1, 2), 'single numbers'),
    (lambda: d.manhattan_distance([[1.]], [[1.]], mask=[True, False]), 'mask of shape (2,)'), (lambda: d.minkowski_distance([1.], [1.], p=.9), 'p must be at least 1'),
    (lambda: d.minkowski_distance([1.], [1.], p=math.nan), 'p must be'), (lambda: d.mahalanobis_distance([1., 2.], [1., 2.], precision_matrix=[1., 2.]), 'precision_matrix of shape (2,)'),
    (lambda: d.poincare_distance([0.], [0.], curvature=-1), 'curvature must be above zero'), (lambda: d.randers_distance([1.], [1.], direction=[1.], magnitude=1), 'magnitude must be'),
    (lambda: d.randers_distance([1.], [1.], direction=[1., 2.], magnitude=.1), 'direction of shape (2,)'), (lambda: d.haversine_distance([1.], [1.]), 'no points on a sphere'),
    (lambda: d.euclidean_distance([1.], [1.], reduction='median'), 'unknown reduction'), (lambda: d.euclidean_distances([1.]), 'no sets of vectors'),
    (lambda: d.euclidean_distances([[1.]], [[1., 2.]]), 'no sets of vectors'), (lambda: d.pairwise_distances([[1.]], metric='euclid'), "unknown metric 'euclid'"),
    (lambda: d.pairwise_distances([[1.]], p=3), 'takes no p'), (lambda: d.euclidean_distance([np.nan], [1.], validate=True), 'must be finite')])
def test_errors_name_the_argument(call, says):
    with pytest.raises(MetricError) as e: call()
    assert says in str(e.value) and e.value.hint
