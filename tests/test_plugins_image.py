"""Scores of generated images against SciPy and NumPy in float64: rank-deficient covariances, large offsets, any split, merging."""
import math
import pickle
from functools import reduce

import numpy as np
import pytest
import scipy.linalg

import jax
import jax.numpy as jnp

from calibrax.core.errors import MetricError
from calibrax.core.protocols import StatefulMetricProtocol
from calibrax.metrics.plugins import image
from calibrax.metrics.plugins.feature_samples import clip_mmd, init_sample, kernel_inception_distance, merge_samples, polynomial_mmd, sampled_features, update_sample
from calibrax.metrics.plugins.feature_statistics import (
    finalize_statistics, frechet_distance, init_statistics, load_moments, merge_statistics, trace_of_root, update_statistics)
from calibrax.metrics.plugins.image import CMMDMetric, FIDMetric, InceptionScoreMetric, KIDMetric, PrecisionRecallMetric, inception_score
from calibrax.metrics.plugins.manifold import manifold_scores

TWO_SIDED = [lambda **k: FIDMetric(feature_dim=None, **k), lambda **k: KIDMetric(subset_size=40, subsets=5, **k), PrecisionRecallMetric, CMMDMetric]
each_metric = pytest.mark.parametrize('make', TWO_SIDED, ids=['fid', 'kid', 'precision_recall', 'cmmd'])

def features(n, size, seed=0, offset=0., scale=1.):
    "Correlated, of one sign for the most part and of very different sizes, as a network's are"
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(size, size))*(np.arange(1, size + 1)**-.7)[:, None]
    return (np.maximum(rng.normal(size=(n, size)) @ mix*scale + .3, 0) + offset).astype(np.float32)

def reference(x, y):
    "As pytorch-fid writes it, with SciPy's root"
    x, y = (np.asarray(a, float) for a in (x, y))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    return ((x.mean(0) - y.mean(0))**2).sum() + np.trace(a) + np.trace(b) - 2*np.trace(root).real

def fid(x, y, **options):
    metric = FIDMetric(feature_dim=np.shape(x)[1], **options)
    metric.update(real=x, generated=y)
    return metric.compute()['fid']


# --- the root ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('ranks', [(60, 60), (60, 20), (20, 60), (20, 30), (1, 1), (0, 5)], ids=str)
def test_trace_of_root_of_any_rank(ranks):
    "Common eigenvectors give the answer exactly; SciPy's root is right to 1e-6 where covariances are singular"
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(60, 60)))[0]
    a, b = (np.linspace(1, 3, 60)*(np.arange(60) < r) for r in ranks)
    first, second = (q*a) @ q.T, (q*b) @ q.T
    exact = np.sqrt(a*b).sum()
    assert trace_of_root(first, second) == pytest.approx(exact, rel=1e-12, abs=1e-12)
    if min(ranks): assert trace_of_root(first, second) == pytest.approx(np.trace(scipy.linalg.sqrtm(first @ second)).real, rel=1e-5, abs=1e-4)
    assert trace_of_root(second, first) == pytest.approx(exact, rel=1e-12, abs=1e-12)

def test_trace_of_root_of_matrices_that_do_not_commute():
    a, b = (np.cov(features(400, 50, seed), rowvar=False) for seed in (1, 2))
    assert trace_of_root(a, b + np.diag(np.arange(50.))) == pytest.approx(np.trace(scipy.linalg.sqrtm(a @ (b + np.diag(np.arange(50.))))).real, rel=1e-9)


# --- FID -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('offset', [0, 1e4])
@pytest.mark.parametrize('n', [40, 300, 3000], ids='n={}'.format)
def test_fid_equals_the_reference(n, offset):
    "40 vectors of 64 numbers have covariances of rank 39; offsets are judged on the rounded inputs"
    x, y = features(n, 64, 1, offset), features(n + 7, 64, 2, offset, scale=1.1)
    assert fid(x, y) == pytest.approx(reference(x, y), rel=1e-5 if n == 40 else 1e-8)

@pytest.mark.parametrize('offset', [0, 1e4])
@pytest.mark.parametrize('n', [2, 40, 1000])
def test_identical_sets_are_at_distance_zero(n, offset):
    x = features(n, 64, 1, offset)
    assert 0 <= fid(x, x) < 1e-9*max(np.trace(np.cov(x, rowvar=False)), 1)

def test_collapsed_generator():
    x, one = features(200, 16, 1), np.repeat(features(1, 16, 2), 200, 0)
    assert fid(x, one) == pytest.approx(np.trace(np.cov(x.astype(float), rowvar=False)) + ((x.astype(float).mean(0) - one[0].astype(float))**2).sum(), rel=1e-9)

@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64, 'bfloat16', np.int32])
def test_fid_of_any_number_type(kind):
    x, y = features(200, 16, 1)*20, features(200, 16, 2)*20
    x, y = (jnp.asarray(a).astype(kind) for a in (x, y)) if kind == 'bfloat16' else (x.astype(kind), y.astype(kind))
    assert fid(x, y) == pytest.approx(reference(np.asarray(x, float), np.asarray(y, float)), rel=1e-8)

def test_fid_before_it_is_defined(caplog):
    metric = FIDMetric(feature_dim=3)
    assert metric.compute() == {'fid': math.inf}
    metric.update(real=np.eye(3))
    assert metric.compute() == {'fid': math.inf}
    metric.update(generated=np.ones((1, 3)))
    assert math.isnan(metric.compute()['fid']) and 'one vector has no covariance' in caplog.text
    metric.update(generated=np.zeros((1, 3)))
    assert math.isfinite(metric.compute()['fid'])
    metric.update(generated=np.full((2, 3), np.inf))
    assert math.isnan(metric.compute()['fid'])

@pytest.mark.parametrize('batch, message', [(np.zeros((2, 3, 8, 8)), 'no feature vectors'), (np.zeros(2048), 'no feature vectors'), (np.zeros((5, 64)), '2048 are expected'), (['a', 'b'], 'real numbers')])
def test_what_are_no_features_is_refused_and_leaves_the_state(batch, message):
    "The published one flattened images to pixels and called the result FID"
    metric = FIDMetric()
    with pytest.raises(MetricError, match=message) as e: metric.update(real=np.zeros((2, 2048)), generated=batch)
    assert e.value.hint and metric.counts == {'real': 0, 'generated': 0}

def test_reference_of_pytorch_fid(tmp_path):
    x, y = features(300, 32, 1), features(300, 32, 2)
    np.savez(tmp_path/'r.npz', mu=x.astype(float).mean(0), sigma=np.cov(x.astype(float), rowvar=False))
    metric = FIDMetric(feature_dim=None, reference=tmp_path/'r.npz')
    metric.update(generated=y)
    assert metric.feature_dim == 32 and metric.compute()['fid'] == pytest.approx(reference(x, y), rel=1e-9)
    whole = FIDMetric(feature_dim=32); whole.update(real=x); whole.save_reference(tmp_path/'w.npz')
    for ours, theirs in zip(load_moments(tmp_path/'w.npz'), load_moments(tmp_path/'r.npz')): np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    with pytest.raises(MetricError, match='64 are expected|2048 are expected'): FIDMetric(reference=tmp_path/'r.npz')
    with pytest.raises(MetricError, match='gone.npz'): FIDMetric(reference=tmp_path/'gone.npz')

def test_frechet_distance_is_symmetric_and_does_not_move_with_both():
    (m, a), (k, b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (features(100, 20, s).astype(float) for s in (1, 2)))
    value = frechet_distance(m, a, k, b)
    assert frechet_distance(k, b, m, a) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(m + 5, a, k + 5, b) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(3*m, 9*a, 3*k, 9*b) == pytest.approx(9*value, rel=1e-12)


# --- statistics and samples: split, merge, pickle --------------------------------------------------------------------------

@pytest.mark.parametrize('sizes', [[1]*50, [50], [0, 1, 49], [17, 16, 17], [2, 0, 48]], ids=str)
@pytest.mark.parametrize('offset', [0, 1e4])
def test_statistics_do_not_depend_on_the_split(sizes, offset):
    x = features(50, 8, offset=offset)
    state = reduce(update_statistics, np.split(x, np.cumsum(sizes)[:-1]), init_statistics(8))
    mean, covariance = finalize_statistics(state)
    np.testing.assert_allclose(mean, x.astype(float).mean(0), rtol=1e-14)
    np.testing.assert_allclose(covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-11, atol=1e-12)

def test_a_large_batch_is_taken_in_pieces():
    x = features(2500, 8)
    np.testing.assert_allclose(finalize_statistics(update_statistics(init_statistics(8), x))[1], np.cov(x.astype(float), rowvar=False), rtol=1e-12)

def test_merging_is_associative_and_nothing_is_its_identity():
    a, b, c = (update_statistics(init_statistics(6), features(n, 6, n, offset=1e4)) for n in (5, 1, 80))
    left, right = merge_statistics(merge_statistics(a, b), c), merge_statistics(a, merge_statistics(b, c))
    for x, y in zip(finalize_statistics(left), finalize_statistics(right)): np.testing.assert_allclose(x, y, rtol=1e-12)
    for both in (merge_statistics(a, init_statistics(6)), merge_statistics(init_statistics(6), a)):
        for x, y in zip(finalize_statistics(both), finalize_statistics(a)): np.testing.assert_array_equal(x, y)

def test_donation_changes_no_value():
    x, kept = features(100, 6), update_statistics(init_statistics(6), features(9, 6, 3))
    before = kept.scatter.copy()
    pure = update_statistics(kept, x)
    np.testing.assert_array_equal(kept.scatter, before)
    np.testing.assert_array_equal(np.tril(update_statistics(kept, x, donate=True).scatter), np.tril(pure.scatter))

def test_statistics_go_through_a_checkpoint_of_plain_arrays():
    state = update_statistics(init_statistics(4), features(30, 4))
    again = type(state)(*(np.array(a, order='C') for a in jax.tree.leaves(state)))
    more = features(7, 4, 5)
    np.testing.assert_allclose(finalize_statistics(update_statistics(again, more))[1], finalize_statistics(update_statistics(state, more))[1], rtol=1e-12)

def test_samples_do_not_depend_on_the_split_and_merge_associatively():
    x = features(500, 3)
    whole = sampled_features(update_sample(init_sample(3, 40), x))
    for parts in (2, 7, 500): np.testing.assert_array_equal(sampled_features(reduce(update_sample, np.array_split(x, parts), init_sample(3, 40))), whole)
    a, b, c = (update_sample(init_sample(3, 40), features(n, 3, n), seed=n) for n in (10, 300, 70))
    left, right = merge_samples(merge_samples(a, b), c), merge_samples(a, merge_samples(b, c))
    np.testing.assert_array_equal(sampled_features(left), sampled_features(right))
    assert int(left.seen) == 380 and len(sampled_features(a)) == 10

def test_a_sample_is_a_fair_one():
    "Early and late vectors alike, over many seeds: the mean place is the middle, within five standard errors"
    places = [sampled_features(update_sample(init_sample(1, 20), np.arange(1000.)[:, None], seed=s)).mean() for s in range(200)]
    assert abs(np.mean(places) - 499.5) < 5*1000/math.sqrt(12*20*200)

@each_metric
def test_classes_split_merge_pickle_reset(make):
    x, y = features(120, 8, 1), features(150, 8, 2, scale=1.3)
    once, pieces, first, second = make(), make(), make(), make()
    once.update(real=x, generated=y)
    for part in np.array_split(y, 9): pieces.update(generated=part)
    for part in np.array_split(x, 4): pieces.update(real=part)
    assert pieces.compute() == pytest.approx(once.compute(), rel=1e-9)
    first.update(real=x[:50], generated=y[:9]); second.update(real=x[50:], generated=y[9:])
    first.merge(second)
    assert first.counts == {'real': 120, 'generated': 150}
    if first.name != 'kid': assert first.compute() == pytest.approx(once.compute(), rel=1e-4)   # the subsets of KID are others
    assert pickle.loads(pickle.dumps(once)).compute() == once.compute()
    resumed = make(); resumed.state = once.state
    resumed.update(generated=x[:0]); once.update(generated=x[:0])
    assert resumed.compute() == pytest.approx(once.compute(), rel=1e-9)
    once.reset(keep_real=True); assert once.counts == {'real': 120, 'generated': 0}
    once.update(generated=y); assert once.compute() == pytest.approx(pieces.compute(), rel=1e-9)
    once.reset(); assert once.counts == {'real': 0, 'generated': 0} and isinstance(once, StatefulMetricProtocol)

@each_metric
def test_state_given_out_is_not_written_over(make):
    metric = make()
    metric.update(real=features(20, 4), generated=features(20, 4, 1))
    kept = metric.state
    before = jax.tree.map(np.copy, kept)
    metric.update(real=features(20, 4, 5)); metric.merge(metric)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(before)): np.testing.assert_array_equal(a, b)

@each_metric
def test_a_network_in_between(make):
    images = np.random.default_rng(0).random((30, 4, 4, 3), np.float32)
    network = jax.jit(lambda x: jnp.asarray(x).reshape(len(x), -1)[:, :5].astype(jnp.bfloat16))
    metric, plain = make(features=network), make()
    metric.update(real=images, generated=images[::-1]**2); plain.update(real=network(images), generated=network(images[::-1]**2))
    assert metric.compute() == plain.compute() and metric.feature_dim == 5

@each_metric
def test_a_nan_makes_the_value_nan(make):
    metric = make()
    x = features(20, 4); bad = x.copy(); bad[3, 1] = np.nan
    metric.update(real=x, generated=bad)
    assert all(math.isnan(v) for v in metric.compute().values())

def test_statistics_stay_small():
    "What is kept after many batches is what was kept after one"
    metric = FIDMetric(feature_dim=32)
    sizes = []
    for k in range(40):
        metric.update(real=features(64, 32, k), generated=features(64, 32, k + 1))
        sizes.append(len(pickle.dumps(metric._state)))
    assert max(sizes) - min(sizes) < 64


# --- KID, CMMD -----------------------------------------------------------------------------------------------------------

def unbiased(x, y, kernel):
    x, y = np.asarray(x, float), np.asarray(y, float)
    def off(a): k = kernel(a, a); return (k.sum() - np.trace(k))/(len(a)*(len(a) - 1))
    return off(x) + off(y) - 2*kernel(x, y).mean()

@pytest.mark.parametrize('offset, tolerance', [(0, 1e-5), (100, 1e-4), (1e4, 2e-3)])
def test_kid_equals_the_double_sums(offset, tolerance):
    "With an offset of 1e4 kernel values are 1e24, and their plain differences in float32 are all rounding"
    x, y = features(300, 32, 1, offset), features(200, 32, 2, offset, scale=1.3)
    assert float(polynomial_mmd(x, y)) == pytest.approx(unbiased(x, y, lambda a, b: (a @ b.T/32 + 1)**3), rel=tolerance)

def test_kid_over_more_than_a_block():
    x, y = features(1500, 8, 1), features(1100, 8, 2)
    assert float(polynomial_mmd(x, y, degree=2, gamma=.5, coef=0.)) == pytest.approx(unbiased(x, y, lambda a, b: (.5*a @ b.T)**2), rel=1e-3, abs=1e-5)

def test_kid_is_unbiased_and_repeatable():
    values = [float(polynomial_mmd(features(30, 8, s), features(30, 8, s + 1000))) for s in range(60)]
    assert abs(np.mean(values)) < 4*np.std(values)/math.sqrt(60)
    x, y = features(90, 8, 1), features(80, 8, 2, scale=1.5)
    mean, deviation = kernel_inception_distance(x, y, subset_size=40, subsets=50, key=jax.random.key(3))
    assert (float(mean), float(deviation)) == tuple(map(float, kernel_inception_distance(x, y, subset_size=40, subsets=50, key=jax.random.key(3))))
    assert float(mean) == pytest.approx(float(polynomial_mmd(x, y)), abs=4*float(deviation)/math.sqrt(50) + 1e-3)
    assert tuple(map(float, kernel_inception_distance(x, y))) == (float(polynomial_mmd(x, y)), 0.0)

def test_kid_under_jit_and_grad():
    x, y = jnp.asarray(features(40, 8, 1)), jnp.asarray(features(30, 8, 2))
    assert float(jax.jit(polynomial_mmd)(x, y)) == pytest.approx(float(polynomial_mmd(x, y)), rel=1e-4, abs=1e-6)
    assert jnp.isfinite(jax.grad(lambda a: polynomial_mmd(a, y))(x)).all()

def test_kid_metric_keeps_a_bounded_sample():
    metric, whole = KIDMetric(capacity=400, subset_size=400), KIDMetric(subset_size=4000)
    for k in range(10):
        for m in (metric, whole): m.update(real=features(200, 8, k), generated=features(200, 8, 100 + k, scale=1.5))
    assert metric.state['real'].rows.shape == (400, 8) and metric.counts['real'] == 2000
    assert metric.compute()['kid'] == pytest.approx(whole.compute()['kid'], rel=.5)

def test_cmmd_equals_the_double_sums():
    x, y = features(300, 16, 1), features(200, 16, 2, scale=2)
    unit = [a.astype(float)/np.linalg.norm(a.astype(float), axis=1, keepdims=True) for a in (x, y)]
    def kernel(a, b): return np.exp(-np.square(a[:, None] - b).sum(-1)/200)
    expected = 1000*(kernel(unit[0], unit[0]).mean() + kernel(unit[1], unit[1]).mean() - 2*kernel(*unit).mean())
    assert float(clip_mmd(x, y)) == pytest.approx(expected, rel=1e-4)


# --- precision and recall ------------------------------------------------------------------------------------------------

def by_hand(x, y, k):
    x, y = np.asarray(x, float), np.asarray(y, float)
    def apart(a, b): return np.sqrt(np.square(a[:, None] - b).sum(-1))
    r, g = (np.sort(apart(a, a), 1)[:, k] for a in (x, y))
    inside = apart(x, y) <= r[:, None]
    return inside.any(0).mean(), (apart(x, y) <= g).any(1).mean(), inside.sum(0).mean()/k, inside.any(1).mean()

@pytest.mark.parametrize('k', [1, 3, 5])
@pytest.mark.parametrize('offset', [0, 100])
def test_manifold_scores_equal_the_definition(k, offset):
    x, y = features(700, 6, 1, offset), features(300, 6, 2, offset, scale=1.2)
    np.testing.assert_allclose(np.array(manifold_scores(x, y, neighbors=k)), by_hand(x, y, k), atol=3e-3)

def test_manifold_scores_on_a_grid_where_many_distances_tie():
    x, y = (np.random.default_rng(s).integers(0, 5, (200, 3)) for s in (1, 2))
    np.testing.assert_allclose(np.array(manifold_scores(x, y)), by_hand(x, y, 3), atol=1e-6)
    np.testing.assert_allclose(np.array(manifold_scores(x/16 + 100, y/16 + 100)), by_hand(x, y, 3), atol=1e-6)

def test_manifold_scores_at_the_ends():
    x = features(50, 6, 1)
    assert [float(v) for v in manifold_scores(x, x + 1e3)] == [0, 0, 0, 0]
    assert [float(v) for v in manifold_scores(x, x)][:2] == [1, 1]
    assert [float(v) for v in manifold_scores(np.ones((9, 2)), np.ones((9, 2)))] == [1, 1, 3, 1]
    metric = PrecisionRecallMetric(); metric.update(real=x, generated=x[:3])
    assert all(math.isnan(v) for v in metric.compute().values())


# --- Inception Score -----------------------------------------------------------------------------------------------------

def score_by_hand(p):
    p = np.asarray(p, float)
    with np.errstate(divide='ignore', invalid='ignore'): return np.exp(np.nansum(np.where(p > 0, p*(np.log(p) - np.log(p.mean(0))), 0), 1).mean())

@pytest.mark.parametrize('alpha', [.01, 1, 100])
def test_inception_score_equals_the_definition(alpha):
    p = np.random.default_rng(0).dirichlet(np.full(100, alpha), 20_000).astype(np.float32)
    assert float(inception_score(p)) == pytest.approx(score_by_hand(p), rel=1e-5)
    metric = InceptionScoreMetric()
    for part in np.array_split(p, 30): metric.update(probabilities=part)
    assert metric.compute() == pytest.approx({'inception_score': score_by_hand(p)}, rel=1e-5) and metric.count == 20_000

def test_inception_score_at_the_ends():
    assert float(inception_score(np.eye(7))) == pytest.approx(7) and float(inception_score(np.full((5, 7), 1/7))) == pytest.approx(1)
    assert math.isnan(float(inception_score(np.zeros((0, 7))))) and math.isnan(float(inception_score([[.5, .6, -.1]])))
    assert InceptionScoreMetric().compute() == {'inception_score': 0.0}
    assert jnp.isfinite(jax.grad(lambda p: inception_score(p))(jnp.eye(4))).all()

def test_inception_score_in_splits_merges():
    p = np.random.default_rng(0).dirichlet(np.full(10, .2), 1003)
    metric, first, second = (InceptionScoreMetric(splits=10) for _ in range(3))
    metric.update(logits=np.log(p[:4] + 1e-30)); metric.update(probabilities=p[4:])
    scores = [score_by_hand(p[k::10]) for k in range(10)]
    assert list(metric.compute().values()) == pytest.approx([np.mean(scores), np.std(scores)], rel=1e-4)
    first.update(probabilities=p[:500]); second.update(probabilities=p[500:]); first.merge(second)
    assert first.compute() == pytest.approx(metric.compute(), rel=1e-4)
    assert pickle.loads(pickle.dumps(first)).compute() == first.compute()

def test_weights_of_the_score_repeat_images():
    p, w = np.random.default_rng(0).dirichlet(np.full(10, .2), 50), np.random.default_rng(1).integers(0, 4, 50)
    assert float(inception_score(p, weights=w)) == pytest.approx(float(inception_score(p.repeat(w, 0))), rel=1e-5)

def test_lpips_is_handed_on(): assert image.LPIPSMetric.__module__ == 'calibrax.metrics.plugins.perceptual'


# --- what is refused, left out or no longer lost -------------------------------------------------------------------------

def test_manifold_scores_of_tight_clusters_far_apart():
    rng = np.random.default_rng(0)
    r = rng.normal(size=(500, 4))*.01 + np.where(np.arange(500) < 250, 30, -30)[:, None]
    step = rng.normal(size=r.shape)
    g = r + .15*step/np.linalg.norm(step, axis=1, keepdims=True)
    for found in (manifold_scores(r, g), jax.jit(manifold_scores)(r, g)): np.testing.assert_allclose(np.array(found), by_hand(r, g, 3), atol=1e-6)

def test_cmmd_of_extreme_embeddings():
    x, y = features(40, 6, 1).astype(np.float32), features(50, 6, 2).astype(np.float32)
    assert np.isclose(clip_mmd(x*1e20, y*1e-20), clip_mmd(x, y), atol=1e-4)
    assert np.isfinite(jax.grad(lambda a: clip_mmd(a, y))(jnp.asarray(x).at[0].set(0))).all()
    metric = CMMDMetric(); metric.update(real=np.full((3, 6), np.inf), generated=y)
    assert math.isnan(metric.compute()['cmmd'])

@pytest.mark.parametrize('rows', [np.full((4, 3), .5), np.array([[1.5, -.5, 0]]), -np.ones((2, 3))], ids=['sum', 'negative', 'logs'])
def test_what_are_no_probabilities(rows):
    metric = InceptionScoreMetric()
    with pytest.raises(MetricError, match='probabilities must be'): metric.update(probabilities=rows)
    assert metric.count == 0

@each_metric
def test_masked_rows_are_left_out(make):
    x, y = features(60, 5, 1), features(60, 5, 2)
    whole, part = make(), make()
    keep = np.arange(60) < 40
    whole.update(real=x[keep], generated=y[keep])
    part.update(real=np.where(keep[:, None], x, np.nan), generated=y, mask=keep)
    assert whole.compute() == part.compute()
    with pytest.raises(MetricError, match='mask'): part.update(real=x, mask=keep[:3])

def test_masked_rows_of_the_score_are_left_out():
    p = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    a, b = InceptionScoreMetric(), InceptionScoreMetric()
    a.update(probabilities=p[:30]); b.update(probabilities=np.where(np.arange(50)[:, None] < 30, p, 9), mask=np.arange(50) < 30)
    assert a.compute() == b.compute()

@each_metric
def test_merge_state_and_jit_say_what_is_wrong(make):
    metric = make()
    for wrong in (None, 3, InceptionScoreMetric()):
        with pytest.raises(MetricError, match='cannot merge'): metric.merge(wrong)
    for state in ({'real': 3}, {'real': (1, 2, 3), 'generated': None}, None):
        with pytest.raises(MetricError, match='state'): metric.state = state
    with pytest.raises(MetricError, match='outside of jit'): jax.jit(lambda x: metric.update(real=x))(np.ones((2, 4)))

def test_a_state_of_another_length_is_refused():
    other = FIDMetric(feature_dim=3); other.update(real=np.eye(3))
    with pytest.raises(MetricError, match='state of vectors of 3 and 4'): FIDMetric(feature_dim=4).state = other.state

@pytest.mark.parametrize('bad', [[[1., 2.], [0., 1.]], [[1., 2.], [2., 1.]], [[0., 1.], [1., 0.]], [[-1., 0.], [0., 1.]]], ids=str)
def test_what_is_no_covariance(bad):
    with pytest.raises(MetricError, match='cov_a'): frechet_distance(np.zeros(2), bad, np.zeros(2), np.eye(2))
    with pytest.raises(MetricError, match='reference'): FIDMetric(feature_dim=2, reference=(np.zeros(2), bad))

@pytest.mark.parametrize('bad', [[1], 5, (1, 2, 3)], ids=str)
def test_what_is_no_reference(bad):
    with pytest.raises(MetricError, match='reference'): FIDMetric(feature_dim=2, reference=bad)

def test_a_network_of_random_weights_is_named(caplog):
    from flax import nnx
    from calibrax.metrics.plugins.vgg import AlexNet
    with caplog.at_level('WARNING'): FIDMetric(features=AlexNet(rngs=nnx.Rngs(0)).features)
    assert 'random weights' in caplog.text
