"""Brier scores and calibration errors: the faults that must not come back, and the same numbers as scikit-learn, torchmetrics and sums in double precision."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.functional import calibration as C
from calibrax.metrics.kernels import sort_on
from calibrax.metrics.registry import MetricRegistry

M = pytest.importorskip('sklearn.metrics')
nan = float('nan')

def close(a, b, rtol=1e-5, atol=1e-7): np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=rtol, atol=atol)

def binary(n=500, seed=0, power=1.5):
    rng = np.random.default_rng(seed)
    p = rng.random(n, np.float32)
    return p, (rng.random(n) < p**power).astype(np.int32)

def multiclass(n=400, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, classes))
    p = np.exp(2*z); p /= p.sum(1, keepdims=True)
    return p.astype(np.float32), np.array([rng.choice(classes, p=q) for q in np.exp(z)/np.exp(z).sum(1, keepdims=True)])

def edges(bins, dtype=np.float32): return (np.arange(bins + 1)/bins).astype(dtype)
def place(p, bins): return np.minimum(np.searchsorted(edges(bins), p, side='right') - 1, bins - 1)
def brute(p, t, bins, weights=None, index=None):
    "Gaps and weights of bins in double precision"
    i, w = place(p, bins) if index is None else index, np.ones(len(p)) if weights is None else weights
    return np.bincount(i, (p.astype(np.float64) - t)*w, bins), np.bincount(i, w, bins)
def ece(*args, **kwargs): gap, weight = brute(*args, **kwargs); return np.abs(gap).sum()/weight.sum()

def counts(p, t, bins): return C.reliability_diagram_bins(p, t, num_bins=bins).bin_counts

EACH = (C.brier_score, C.expected_calibration_error, C.maximum_calibration_error, C.adaptive_calibration_error)


# --- Brier ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('weighted', [False, True])
def test_brier_is_that_of_scikit_learn(weighted):
    for (p, t), shape in ((binary(), 'binary'), (multiclass(), 'classes'), (multiclass(classes=2), 'two classes')):
        w = np.random.default_rng(1).uniform(.1, 4, len(t)).astype(np.float32) if weighted else None
        for half in ('auto', True, False):
            close(C.brier_score(p, t, scale_by_half=half, weights=w), M.brier_score_loss(t, p, scale_by_half=half, sample_weight=w))
        close(C.brier_skill_score(p, t, weights=w), M.d2_brier_score(t, p, sample_weight=w))

def test_brier_of_absent_classes_and_one_class():
    p, t = multiclass(classes=5)
    kept = t < 3
    close(C.brier_score(p[kept], t[kept]), M.brier_score_loss(t[kept], p[kept], labels=range(5)))
    assert np.isnan(C.brier_skill_score([.2, .3], [0, 0])) and C.brier_skill_score([.2, .3], [0, 0], zero_division=0.) == 0
    close(C.brier_score([.2, .3], [0, 0]), .065)

def test_skill_over_a_reference():
    (p, t), (q, _) = binary(), binary(seed=5)
    w = np.random.default_rng(1).uniform(.1, 4, len(t)).astype(np.float32)
    for weights in (None, w): close(C.brier_skill_score(p, t, reference=q, weights=weights), 1 - M.brier_score_loss(t, p, sample_weight=weights)/M.brier_score_loss(t, q, sample_weight=weights), 1e-4)
    assert C.brier_skill_score(p, t, reference=p) == 0
    with pytest.raises(MetricError, match='reference'): C.brier_skill_score(p, t, reference=q[:3])

@pytest.mark.parametrize('bins', [1, 10, 37])
def test_decomposition_is_exact_where_predictions_within_a_bin_are_equal(bins):
    rng = np.random.default_rng(bins)
    p = ((rng.integers(0, bins, 3000) + .5)/bins).astype(np.float32)
    parts = C.brier_decomposition(p, rng.random(3000) < p**2, num_bins=bins)
    assert set(parts) == {'calibration', 'resolution', 'uncertainty', 'brier'}
    close(parts['calibration'] - parts['resolution'] + parts['uncertainty'], parts['brier'], 1e-5)

def test_decomposition_in_double_precision():
    p, t = binary(4000)
    gap, n = brute(p, t, 10)
    hits, base = np.bincount(place(p, 10), t, 10), t.mean()
    parts = C.brier_decomposition(p, t)
    close(parts['calibration'], (gap**2/n).sum()/4000); close(parts['resolution'], (n*(hits/n - base)**2).sum()/4000)
    close(parts['uncertainty'], base*(1 - base)); close(parts['brier'], M.brier_score_loss(t, p))


# --- bins ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bins', [1, 15, 100, 200])
def test_a_value_on_an_edge_is_in_the_bin_above_it(bins):
    on = edges(bins)
    assert counts(on, np.zeros(bins + 1, int), bins).tolist() == [1]*(bins - 1) + [2]
    below = np.nextafter(on, np.float32(0))
    assert counts(below, np.zeros(bins + 1, int), bins).tolist() == [2] + [1]*(bins - 1)

def test_0_58_of_50_and_0_59_of_100():
    for bins, k in ((50, 29), (100, 58), (100, 59), (100, 53)): assert counts([k/bins], [1], bins)[k] == 1
    assert int(.58*50) == 28 and int(np.float32(.59)*np.float32(100)) == 58  # what multiplying does

@pytest.mark.parametrize('power', [1., 3.])
@pytest.mark.parametrize('bins', [15, 100])
def test_a_million_samples_as_in_double_precision(power, bins):
    p, t = binary(1_000_000, power=power)
    gap, n = brute(p, t, bins)
    close(C.expected_calibration_error(p, t, num_bins=bins), np.abs(gap).sum()/1e6, 1e-5)
    close(C.maximum_calibration_error(p, t, num_bins=bins), np.abs(gap/n).max(), 1e-5)
    order = np.argsort(p, kind='stable')
    groups = np.array_split((p.astype(np.float64) - t)[order], bins)
    close(C.adaptive_calibration_error(p, t, num_bins=bins), sum(abs(g.sum()) for g in groups)/1e6, 2e-5)

def test_rounded_probabilities_and_weights():
    p, t = binary(20_000)
    p, w = np.round(p, 2), np.random.default_rng(2).exponential(size=20_000).astype(np.float32)
    for bins in (10, 25, 100):
        close(C.expected_calibration_error(p, t, num_bins=bins), ece(p, t, bins)); close(C.expected_calibration_error(p, t, num_bins=bins, weights=w), ece(p, t, bins, w))

def test_norms():
    p, t = binary()
    gap, n = brute(p, t, 10)
    close(C.expected_calibration_error(p, t, norm='l2'), np.sqrt((gap**2/n).sum()/500)); close(C.expected_calibration_error(p, t, norm='max'), np.abs(gap/n).max())
    close(C.expected_calibration_error(p, t, norm='max'), C.maximum_calibration_error(p, t))
    with pytest.raises(MetricError, match='unknown norm'): C.expected_calibration_error(p, t, norm='l0')

@pytest.mark.parametrize('bins', [0, -3, 2.5, '10', True])
def test_bins_that_are_none(bins):
    for f in (*EACH[1:], C.reliability_diagram_bins, C.brier_decomposition):
        with pytest.raises(MetricError, match='num_bins'): f([.5], [1], num_bins=bins)

def test_class_probabilities_are_judged_by_the_largest():
    p, t = multiclass()
    c, hit = p.max(1), p.argmax(1) == t
    for f in EACH[2:]: close(f(p, t), f(c, hit.astype(int)))
    close(C.expected_calibration_error(p, t), ece(c, hit, 10))
    parts = [ece(p[:, k], t == k, 10) for k in range(4)]
    close(C.classwise_ece(p, t), np.mean(parts)); close(C.classwise_ece(p, t, average='none'), parts); close(C.classwise_ece(p, t, average='weighted'), np.average(parts, weights=np.bincount(t)))
    for fault, name in ((dict(num_classes=3), 'num_classes=3'), (dict(average='micro'), 'unknown average')):
        with pytest.raises(MetricError, match=name): C.classwise_ece(p, t, **fault)
    with pytest.raises(MetricError, match='no axis over classes'): C.classwise_ece([.2, .8], [0, 1])
    with pytest.raises(MetricError, match='Shape mismatch'): C.expected_calibration_error(p, t[:5])

def test_torchmetrics_agrees():
    tm, torch = pytest.importorskip('torchmetrics.functional.classification'), pytest.importorskip('torch')
    (p, t), (q, u) = binary(2000), multiclass()
    for norm in ('l1', 'l2', 'max'):
        for bins in (15,):
            close(C.expected_calibration_error(p, t, num_bins=bins, norm=norm), float(tm.binary_calibration_error(torch.tensor(p), torch.tensor(t), bins, norm)), 1e-4)
            close(C.expected_calibration_error(q, u, num_bins=bins, norm=norm), float(tm.multiclass_calibration_error(torch.tensor(q), torch.tensor(u), 4, bins, norm)), 1e-4)


# --- bins of equal counts ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('n', [1, 3, 23, 100])
def test_the_first_bins_get_one_more(n):
    p, t = binary(n, seed=n)
    groups = np.array_split((p.astype(np.float64) - t)[np.argsort(p)], 10)
    close(C.adaptive_calibration_error(p, t), sum(abs(g.sum()) for g in groups)/n)
    assert C.equal_count_statistics(p, t)['weight'].tolist() == [len(g) for g in groups]

def test_ties_share_their_hits_and_the_order_does_not_matter():
    p, t = binary(997)
    p = np.round(p, 1)
    values = []
    for seed in range(4):
        o = np.random.default_rng(seed).permutation(997)
        values.append(float(C.adaptive_calibration_error(p[o], t[o])))
    values.append(float(C.adaptive_calibration_error(p[(o := np.argsort(t))], t[o])))
    assert max(values) - min(values) < 1e-6
    mean = np.array([t[p == v].mean() for v in p])                          # each as good as its ties
    groups = np.array_split((p.astype(np.float64) - mean)[np.argsort(p, kind='stable')], 10)
    close(values[0], sum(abs(g.sum()) for g in groups)/997)
    assert C.adaptive_calibration_error([.5]*4, [1, 1, 0, 0], num_bins=2) == 0 and C.adaptive_calibration_error([0., -0., 0., 0.], [0]*4, num_bins=3) == 0

@pytest.mark.parametrize('bins', [1, 3, 10, 40, 100])
@pytest.mark.parametrize('distinct', [2, 11, 500])
def test_ties_over_several_borders(bins, distinct):
    p, t = binary(997)
    p = np.round(p*(distinct - 1)).astype(np.float32)/np.float32(distinct - 1)
    mean = np.array([t[p == v].mean() for v in p])                          # each as good as its ties
    groups = np.array_split((p.astype(np.float64) - mean)[np.argsort(p, kind='stable')], bins)
    close(C.adaptive_calibration_error(p, t, num_bins=bins), sum(abs(g.sum()) for g in groups)/997, 2e-5)
    w = np.random.default_rng(1).integers(0, 4, 997)
    close(C.adaptive_calibration_error(p, t, num_bins=bins, weights=w), C.adaptive_calibration_error(p.repeat(w), t.repeat(w), num_bins=bins), 2e-5)
    close(jax.jit(partial(C.adaptive_calibration_error, num_bins=bins))(p, t, weights=w), C.adaptive_calibration_error(p, t, num_bins=bins, weights=w), 2e-5)

def test_both_ways_to_sort_agree():
    p, t = binary(60)
    p = np.round(p, 1)
    with sort_on('device'): there = C.adaptive_calibration_error(p, t)
    close(C.adaptive_calibration_error(p, t), there); close(jax.jit(C.adaptive_calibration_error)(p, t), there)
    assert np.isfinite(jax.jit(jax.grad(C.adaptive_calibration_error))(p, t)).all()

def test_confident_networks_fill_all_bins():
    rng = np.random.default_rng(0)
    p = (1 - .02*rng.random(1000)).astype(np.float32)
    assert (counts(p, np.ones(1000, int), 10) > 0).sum() == 1 and C.equal_count_statistics(p, np.ones(1000, int))['weight'].tolist() == [100]*10


# --- the diagram ---------------------------------------------------------------------------------------------------------

def test_bins_are_a_mapping_as_published():
    p, t = binary()
    bins = C.reliability_diagram_bins(p, t)
    assert set(bins) == {'bin_edges', 'bin_accuracies', 'bin_confidences', 'bin_counts'} and len(dict(bins)) == 4
    i = place(p, 10)
    close(bins['bin_edges'], np.arange(11)/10); close(bins['bin_counts'], np.bincount(i)); close(bins['bin_accuracies'], np.bincount(i, t)/np.bincount(i)); close(bins['bin_confidences'], np.bincount(i, p)/np.bincount(i))
    close(bins.error, C.expected_calibration_error(p, t)); close(np.abs(bins.gaps).max(), C.maximum_calibration_error(p, t))
    curve = pytest.importorskip('sklearn.calibration').calibration_curve(t, p, n_bins=10)
    close(bins['bin_accuracies'], curve[0]); close(bins['bin_confidences'], curve[1])
    with pytest.raises(KeyError): bins['error']

def test_empty_bins():
    bins = C.reliability_diagram_bins([.05, .95], [0, 1])
    assert bins.bin_counts.tolist() == [1, *[0]*8, 1] and bins.bin_accuracies[4] == 0 and not np.isnan(bins.error)
    other = C.reliability_diagram_bins([.05, .95], [0, 1], zero_division=nan)
    assert np.isnan(other.bin_accuracies[4]) and other.gaps[4] == 0 and other.error == bins.error
    assert '[0.9, 1]' in repr(bins) and '<table>' in bins._repr_html_()

def test_plot():
    plt = pytest.importorskip('matplotlib.pyplot')
    bins = C.reliability_diagram_bins(*binary())
    figure, axes = bins.plot()
    assert len(figure.axes) == 2 and 'ECE' in axes.get_title() and axes.get_ylabel() == 'accuracy'
    _, mine = plt.subplots()
    assert bins.plot(mine, title='A')[1] is mine and mine.get_title() == 'A'
    C.reliability_diagram_bins([], []).plot(); plt.close('all')


# --- what does not belong ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bad', [2, .3])
def test_a_target_that_is_no_class_makes_the_result_nan(bad):
    p, t = np.float32([.2, .7, .4]), np.float32([0, 1, bad])
    for f in EACH:
        assert np.isnan(f(p, t)) and not np.isnan(f(p, t, mask=[1, 1, 0])), f
        assert np.isnan(f(np.stack((1 - p, p), 1), t))
    assert np.isnan(C.brier_decomposition(p, t)['calibration']) and np.isnan(C.reliability_diagram_bins(p, t).error)
    assert np.isnan(C.classwise_ece(np.stack((1 - p, p), 1), t))
    with pytest.raises(MetricError, match='targets must be'): C.brier_score(np.stack((1 - p, p), 1), np.where(t == 2, -1, t), validate=True)

@pytest.mark.parametrize('bad', [1.5, nan])
def test_what_lies_in_no_bin_makes_the_result_nan(bad):
    for f in EACH[1:]: assert np.isnan(f([.2, bad], [0, 1])) and not np.isnan(f([.2, bad], [0, 1], mask=[True, False]))
    with pytest.raises(MetricError, match='must be probabilities'): C.expected_calibration_error([.2, bad], [0, 1], validate=True)

def test_empty_and_single():
    for f in EACH: assert f([], []) == 0 and f([.3], [1], mask=[False]) == 0 and f([.3], [1], mask=[True]) > 0
    assert C.classwise_ece(np.zeros((0, 3)), np.zeros(0, int)) == 0
    for f in EACH:
        with pytest.raises(MetricError, match='single class'): f([[.3]], [1])

@pytest.mark.parametrize('half', [jnp.float16, jnp.bfloat16])
def test_half_precision(half):
    p, t = binary(5000)
    p = jnp.asarray(p, half)
    for f in EACH[::2]: close(f(p, t), f(p.astype(jnp.float32), t)); assert f(p, t).dtype == jnp.float32

@pytest.mark.parametrize('f', [*EACH, C.brier_skill_score])
def test_binary_laws(f):
    "The general laws give these metrics class probabilities; here is the other shape"
    p, t = binary(60)
    counts, keep = np.random.default_rng(3).integers(0, 4, 60), np.random.default_rng(4).random(60) < .6
    close(f(p, t, weights=counts), f(np.repeat(p, counts), np.repeat(t, counts)), 1e-4); close(f(np.where(keep, p, nan), np.where(keep, t, 9), mask=keep), f(p[keep], t[keep]), 1e-4)
    close(jax.jit(f)(p.reshape(3, 20), t.reshape(3, 20)), f(p, t))
    gradient = jax.jit(jax.grad(lambda q, mask: f(q, t, mask=mask)))
    for q in (p, t.astype(np.float32), np.full(60, .5, np.float32)): assert np.isfinite(gradient(q, np.ones(60, bool))).all()
    g = gradient(np.where(keep, p, nan), keep)
    assert np.isfinite(g).all() and not g[~keep].any()

def test_all_of_the_domain_share_their_sums():
    for p, t in (binary(), multiclass()):
        together = calculate_all(p, t, domain='calibration')
        assert {'brier_score', 'expected_calibration_error'} <= set(together) and ('classwise_ece' in together) == (p.ndim == 2)
        for name, value in together.items(): close(value, MetricRegistry().get_function(name)(p, t))
    of = {name: MetricRegistry().get(name).decomposition for name in ('expected_calibration_error', 'maximum_calibration_error', 'brier_score', 'brier_skill_score', 'adaptive_calibration_error')}
    assert of['expected_calibration_error'].statistics is of['maximum_calibration_error'].statistics and of['brier_score'].statistics is of['brier_skill_score'].statistics
    assert of['adaptive_calibration_error'].sorts and of['adaptive_calibration_error'].merge is None
