"""Curves, areas under them and label rankings, beside scikit-learn on input that is hard: ties, absent classes, weights, logits far from zero."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.functional.curves import (auc, average_precision, binned_average_precision, binned_counts, binned_roc_auc, det_curve, equal_error_rate,
                                                fpr_at_95_tpr, gini, log_auc, precision_at_fixed_recall, precision_recall_curve, ranked_counts,
                                                recall_at_fixed_precision, roc_auc, roc_curve, sensitivity_at_specificity, specificity_at_sensitivity)
from calibrax.metrics.functional.multilabel import coverage_error, label_ranking_average_precision, label_ranking_loss
from calibrax.metrics.registry import MetricRegistry

sk = pytest.importorskip('sklearn.metrics')
pytestmark = pytest.mark.filterwarnings('ignore')
RNG = np.random.default_rng(0)
AREAS = [(roc_auc, sk.roc_auc_score), (average_precision, sk.average_precision_score)]
POINTS = [gini, log_auc, fpr_at_95_tpr, equal_error_rate, lambda s, t, **k: sensitivity_at_specificity(s, t, min_specificity=.8, **k),
          lambda s, t, **k: specificity_at_sensitivity(s, t, min_sensitivity=.8, **k)]


def close(value, wanted, rtol=2e-6, atol=1e-7): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def binary(n=500, decimals=1, seed=0):
    rng = np.random.default_rng(seed)
    t = (rng.random(n) < .3).astype(np.int32)
    return (np.round(t*.8 + rng.normal(size=n), decimals)).astype(np.float32), t

def many(n=300, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.choice(classes, n, p=np.arange(1, classes + 1)/sum(range(1, classes + 1)))
    x = np.eye(classes)[t] + rng.normal(size=(n, classes))
    p = np.exp(x)/np.exp(x).sum(1, keepdims=True)
    return np.round(p, 2).astype(np.float32), t, (np.eye(classes)[t] + (rng.random((n, classes)) < .2) > 0).astype(int)


# --- faults of the published package --------------------------------------------------------------------------------------

def test_ties_are_half_a_win_whatever_the_order():
    for targets in ([1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]):
        assert roc_auc([.5]*4, targets) == .5
        assert average_precision([.5]*4, targets) == .5


@pytest.mark.parametrize('ours,theirs', AREAS)
@pytest.mark.parametrize('decimals', [0, 1, 3])
def test_rounded_scores_sorted_by_label(ours, theirs, decimals):
    s, t = binary(2000, decimals)
    for order in (np.argsort(-t, kind='stable'), np.argsort(t, kind='stable'), RNG.permutation(2000)):
        close(ours(s[order], t[order]), theirs(t, s.astype(np.float64)))


@pytest.mark.parametrize('change', [lambda x: x + 98, lambda x: x*1e-3, lambda x: 1/(1 + np.exp(-x)), lambda x: x*1e20, lambda x: x - 1e4])
def test_nothing_is_squashed(change):
    "Logits near 98 (others give 0.5) and scores of a thousandth (others see one bin) are as good as any"
    s, t = binary(400, 2)
    s = np.float32(change(s))
    for ours, theirs in AREAS: close(ours(s, t), theirs(t, s.astype(np.float64)))
    assert abs(float(roc_auc(s, t)) - .5) > .1


def test_a_batch_changes_nothing():
    "Scores from -2 to 1.8: whether they look like probabilities is never asked"
    s, t = np.linspace(-2, 1.8, 20, dtype=np.float32), np.arange(20) >= 10
    assert roc_auc(s, t) == 1 and roc_auc(s[9:11], t[9:11]) == 1


# --- areas ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('ours,theirs', AREAS)
@pytest.mark.parametrize('average', ['macro', 'weighted', 'micro', 'none'])
def test_classes_and_labels(ours, theirs, average):
    s, t, labels = many()
    name = None if average == 'none' else average
    close(ours(s, t, average=average), theirs(np.eye(5)[t], s.astype(np.float64), average=name))
    close(ours(s, labels, average=average), theirs(labels, s.astype(np.float64), average=name))
    w = RNG.uniform(.5, 2, len(s)).astype(np.float32)
    close(ours(s, labels, average=average, weights=w), theirs(labels, s.astype(np.float64), average=name, sample_weight=w.astype(np.float64)), 1e-5)
    close(ours(s, t, average=average, weights=w), theirs(np.eye(5)[t], s.astype(np.float64), average=name, sample_weight=w.astype(np.float64)), 1e-5)


@pytest.mark.parametrize('average', ['macro', 'weighted'])
def test_one_vs_one(average):
    x = RNG.dirichlet(np.ones(4), 200).astype(np.float32)
    t = RNG.integers(0, 4, 200)
    exact = x.astype(np.float64)/x.astype(np.float64).sum(1, keepdims=True)
    close(roc_auc(x, t, multi_class='ovo', average=average), sk.roc_auc_score(t, exact, multi_class='ovo', average=average), 1e-5)
    counts = RNG.integers(0, 3, 200)
    repeated = np.repeat(exact, counts, 0)
    close(roc_auc(x, t, multi_class='ovo', average=average, weights=counts), sk.roc_auc_score(np.repeat(t, counts), repeated, multi_class='ovo', average=average), 1e-5)
    ties = np.round(x, 1)
    by_pair = [(np.mean([sk.roc_auc_score(t[k] == a, ties[k, a].astype(float)), sk.roc_auc_score(t[k] == b, ties[k, b].astype(float))]), k.mean()) for a in range(4) for b in range(a + 1, 4) for k in [(t == a) | (t == b)]]
    close(roc_auc(ties, t, multi_class='ovo', average=average), np.average([v for v, _ in by_pair], weights=[w if average == 'weighted' else 1 for _, w in by_pair]), 1e-5)


@pytest.mark.parametrize('max_fpr', [.01, .1, .37, 1])
@pytest.mark.parametrize('decimals', [0, 3])
def test_partial_area(max_fpr, decimals):
    s, t = binary(800, decimals)
    w = RNG.uniform(.5, 2, 800).astype(np.float32)
    close(roc_auc(s, t, max_fpr=max_fpr), sk.roc_auc_score(t, s.astype(float), max_fpr=max_fpr), 1e-5)
    close(roc_auc(s, t, max_fpr=max_fpr, weights=w), sk.roc_auc_score(t, s.astype(float), max_fpr=max_fpr, sample_weight=w.astype(float)), 1e-5)


def test_absent_classes():
    s, t, labels = many()
    t, labels = np.where(t == 1, 2, t), labels.copy()
    labels[:, 1] = 0
    here = [0, 2, 3, 4]
    for ours, theirs, targets, dense in ((roc_auc, sk.roc_auc_score, t, np.eye(5)[t]), (average_precision, sk.average_precision_score, labels, labels)):
        each = [theirs(dense[:, k], s[:, k].astype(float)) for k in here]
        close(ours(s, targets), np.mean(each))
        close(ours(s, targets, absent='zero'), np.sum(each)/5)
        assert np.isnan(ours(s, targets, absent='nan'))
        assert np.isnan(ours(s, targets, average='none')[1])
    close(average_precision(s, labels, absent='zero'), sk.average_precision_score(labels, s.astype(float)))
    assert np.isfinite(roc_auc(s, t, multi_class='ovo'))


def test_one_class_only():
    for metric in (roc_auc, *POINTS):
        assert np.isnan(metric([.1, .7], [1, 1])) and np.isnan(metric([.1, .7], [0, 0])) and np.isnan(metric([], []))
    assert average_precision([.1, .7], [1, 1]) == 1 and average_precision([.1, .7], [0, 0]) == 0 and average_precision([], []) == 0
    assert np.isnan(average_precision([.1, .7], [0, 0], mask=[False, False])) or average_precision([.1, .7], [0, 0], mask=[False, False]) == 0


def test_what_is_no_score_or_no_label_makes_nan_unless_masked():
    s, t = binary(50)
    t, keep = t.astype(np.float32), np.arange(50) != 7
    for spoiled, labels in ((np.where(keep, s, np.nan), t), (s, np.where(keep, t, 3)), (s, np.where(keep, t, .5)), (s, np.where(keep, t, np.nan))):
        labels = labels.astype(np.float32)
        for metric, theirs in AREAS:
            assert np.isnan(metric(spoiled, labels))
            close(metric(spoiled, labels, mask=keep), theirs(t[keep], s[keep].astype(float)))
    for metric in POINTS: assert np.isnan(metric(np.where(keep, s, np.nan), t))
    assert np.isnan(binned_roc_auc(np.where(keep, s, np.nan), t)) and np.isfinite(binned_roc_auc(np.where(keep, s, np.nan), t, mask=keep))
    assert np.isnan(np.asarray(roc_curve(np.where(keep, s, np.nan), t).fpr)).all()
    x, k, labels = many(60)
    x[3, 2] = np.nan
    assert np.isnan(roc_auc(x, k)) and np.isnan(roc_auc(x, k, average='none')).tolist() == [False, False, True, False, False]
    element = np.ones_like(x, bool)
    element[3, 2] = False                                                  # of labels, single decisions can be left out
    assert np.isfinite(average_precision(x, labels, mask=element))
    close(roc_auc(x, labels, mask=element, average='none')[2], sk.roc_auc_score(np.delete(labels[:, 2], 3), np.delete(x[:, 2], 3).astype(float)))


def test_infinite_scores_have_their_place():
    s, t = [np.inf, 1., -np.inf, 0.], [1, 0, 0, 1]
    assert roc_auc(s, t) == .75 and roc_auc(s, t, mask=[True, True, True, False]) == 1
    curve = roc_curve(s, t, mask=[True, True, False, True]).compact()
    close(curve.thresholds, [np.inf, 1, 0]) if len(curve.thresholds) == 3 else close(curve.thresholds[-2:], [1, 0])


def test_a_million():
    s = RNG.random(1_000_000, np.float32)
    t = (RNG.random(1_000_000) < s).astype(np.int32)
    w = RNG.random(1_000_000, np.float32)
    for ours, theirs in AREAS:
        close(ours(s, t), theirs(t, s), 1e-6)
        close(ours(s, t, weights=w), theirs(t, s.astype(float), sample_weight=w.astype(float)), 2e-6)
    close(binned_roc_auc(s, t), theirs_binned := sk.roc_auc_score(t, s), 1e-6)
    assert theirs_binned > .8
    close(equal_error_rate(s, t), fpr_where_equal(t, s), 1e-4)


def fpr_where_equal(t, s):
    fpr, tpr, _ = sk.roc_curve(t, s)
    return fpr[np.argmin(abs(fpr + tpr - 1))]


@pytest.mark.parametrize('half', [jnp.float16, jnp.bfloat16])
def test_half_precision(half):
    s, t = binary(3000, 3)
    rounded = np.asarray(jnp.asarray(s).astype(half))
    for ours, theirs in AREAS:
        value = ours(rounded, t)
        assert value.dtype == jnp.float32
        close(value, theirs(t, rounded.astype(np.float64)))


def test_both_areas_share_one_sort():
    entries = [MetricRegistry().get(n) for n in ('roc_auc', 'average_precision', 'gini', 'equal_error_rate', 'fpr_at_95_tpr')]
    assert {e.decomposition.statistics for e in entries} == {ranked_counts}
    assert {MetricRegistry().get(n).decomposition.statistics for n in ('binned_roc_auc', 'binned_average_precision')} == {binned_counts}
    s, t = binary()
    once = str(jax.make_jaxpr(lambda s, t: [e.decomposition.finalize(c) for c in [ranked_counts(s, t)] for e in entries])(s, t))
    assert once.count(' sort[') == 1


def test_static_arguments_and_shapes_are_checked():
    s, t, labels = many(20)
    for call, words in ((lambda: roc_auc(s, t[:5]), 'Shape mismatch'), (lambda: roc_auc(s, t, average='binary'), 'does not fit'), (lambda: roc_auc(s, t, average='mean'), 'unknown average'),
                        (lambda: roc_auc(s, t, multi_class='all'), 'unknown multi_class'), (lambda: roc_auc(s, t, max_fpr=0.0), 'max_fpr'), (lambda: roc_auc(s, t, multi_class='ovo', average='micro'), 'ovo'),
                        (lambda: average_precision(s, t, absent='drop'), 'unknown absent'), (lambda: log_auc(s, t, fpr_range=(0, .1)), 'fpr_range'),
                        (lambda: recall_at_fixed_precision(s, t, min_precision=2), 'min_precision'), (lambda: binned_roc_auc(s, t, num_bins=1), '1 bins'),
                        (lambda: binned_roc_auc(s, t, range=(1, 0)), 'do not exist'), (lambda: roc_auc(s[:, :1], t), 'Shape mismatch'), (lambda: roc_auc(s[None], t[None]), 'Shape mismatch'),
                        (lambda: roc_auc(s, t, mask=np.ones_like(s)), 'mask and weights'), (lambda: roc_curve(s, t).compact(), 'of_class'), (lambda: auc([1, 2], [1]), 'Shape mismatch'),
                        (lambda: roc_auc([.1, .2], [0, .5], validate=True), 'targets must be classes')):
        with pytest.raises(MetricError, match=words) as error: call()
        assert error.value.hint


# --- curves ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('decimals', [0, 4])
@pytest.mark.parametrize('weighted', [False, True])
def test_curves_are_those_of_scikit_learn(decimals, weighted):
    s, t = binary(300, decimals)
    w = RNG.uniform(.5, 2, 300).astype(np.float32) if weighted else None
    exact = {'sample_weight': None if w is None else w.astype(float)}
    for ours, theirs in ((roc_curve, lambda *a, **k: sk.roc_curve(*a, drop_intermediate=False, **k)), (precision_recall_curve, sk.precision_recall_curve), (det_curve, lambda *a, **k: sk.det_curve(*a, drop_intermediate=False, **k))):
        for mine, wanted in zip(ours(s, t, weights=w).compact(), theirs(t, s.astype(float), **exact)): close(mine, wanted, 1e-5)
        if weighted: continue
        keep = np.arange(300) % 3 > 0
        for mine, wanted in zip(ours(s, t, mask=keep).compact(), theirs(t[keep], s[keep].astype(float))): close(mine, wanted)


def test_curves_have_fixed_shapes_under_jit():
    s, t = binary(100)
    for curve, metric in ((roc_curve, roc_auc), (precision_recall_curve, average_precision)):
        made = jax.jit(curve)(s, t)
        assert next(iter(made)).shape == (101,) and type(made) is type(curve(s, t))
        close(made.area, metric(s, t)), close(made.compact().area, metric(s, t)), close(made.compact(drop_intermediate=True).area, metric(s, t), 1e-5)
        assert len(made.compact(drop_intermediate=True).thresholds) < len(made.compact().thresholds) < 100
        close(jax.jit(lambda c: c.area)(made), metric(s, t))
        together = jax.vmap(curve)(np.stack((s, -s)), np.stack((t, t)))
        close(together.of_class(1).area, metric(-s, t))
    x, k, _ = many(80)
    close(roc_curve(x, k).area, roc_auc(x, k, average='none'))
    close(precision_recall_curve(x, k).of_class(2).area, average_precision(x, k, average='none')[2])
    assert 'RocCurve(5x81 points' in repr(roc_curve(x, k))


def test_degenerate_curves():
    for curve in (roc_curve, precision_recall_curve, det_curve):
        for s, t in (([], []), ([.5], [1]), ([.5], [0]), ([.5, .5], [1, 1])):
            made = curve(s, t)
            assert len(next(iter(made.compact(drop_intermediate=True)))) <= len(next(iter(made)))
        curve([.5, .2], [1, 0], mask=[False, False]).compact(drop_intermediate=True)


def test_curves_draw_themselves():
    plt = pytest.importorskip('matplotlib.pyplot')
    s, t = binary(200)
    x, k, _ = many(80)
    for curve in (roc_curve, precision_recall_curve, det_curve):
        figure, axes = curve(s, t).plot(label='one')
        again, same = curve(-s, t).plot(axes, label='other')
        assert figure is again and axes is same and len([line for line in axes.lines if line.get_label().startswith(('chance', 'equal'))]) == 1
        assert {'one', 'other'} <= {text.get_text().split(' (')[0] for text in axes.get_legend().get_texts()}
        assert len(curve(x, k).plot()[1].lines) >= 5
        plt.close('all')


def test_auc_is_the_trapezoid():
    x, y = np.sort(RNG.random(50)), RNG.random(50)
    close(auc(x, y), sk.auc(x, y), 1e-5), close(auc(x[::-1], y[::-1]), sk.auc(x, y), 1e-5)
    assert np.isnan(auc([0, 2, 1], [1, 1, 1]))


def test_points_on_curves():
    "Above, below and on the promise"
    s, t = [.9, .8, .7, .6, .5], [1, 0, 1, 1, 0]
    assert recall_at_fixed_precision(s, t, min_precision=.75) == 1 and abs(recall_at_fixed_precision(s, t, min_precision=.9) - 1/3) < 1e-6
    assert recall_at_fixed_precision([.9, .1], [0, 1], min_precision=.9) == 0
    assert precision_at_fixed_recall(s, t, min_recall=1.0) == .75 and precision_at_fixed_recall(s, t, min_recall=.3) == 1
    assert sensitivity_at_specificity(s, t, min_specificity=.5) == 1 and specificity_at_sensitivity(s, t, min_sensitivity=.9) == .5
    twenty = np.arange(40) < 20
    assert fpr_at_95_tpr(-np.where(np.arange(40) == 19, 99, np.arange(40)), twenty) == 0                    # 19 of 20 are 95 %
    assert equal_error_rate([3, 2, 1, 0], [1, 1, 0, 0]) == 0 and equal_error_rate([3, 2, 1, 0], [0, 0, 1, 1]) == 1
    x, k, _ = many(100)
    close(equal_error_rate(x, k, average='none'), [float(equal_error_rate(x[:, i], k == i)) for i in range(5)])


# --- bins -----------------------------------------------------------------------------------------------------------------

def test_bins_merge_and_scores_outside_are_counted():
    s, t = binary(1000, 3)
    count = jax.jit(lambda s, t: binned_counts(s, t, range=(-2.0, 2.0), num_bins=64))
    counts, whole = [count(s[part], t[part]) for part in (slice(0, 500), slice(500, None))], count(s, t)
    for k in whole: assert np.array_equal(counts[0][k] + counts[1][k], whole[k])
    assert whole['positives'].sum() == t.sum() and whole['positives'].dtype == jnp.int32 and whole['negatives'].sum() == (1 - t).sum()
    close(binned_roc_auc(s, t, range=(-2.0, 2.0), num_bins=64), sk.roc_auc_score(t, np.clip(np.floor((s + 2)*16), 0, 63)))


def test_bins_over_classes():
    s, t, labels = many(500)
    for average in ('micro', 'none'):
        for ours, exact in ((binned_roc_auc, roc_auc), (binned_average_precision, average_precision)):
            close(ours(s, t, average=average, num_bins=10000), exact(s, t, average=average))
            close(ours(s, labels, average=average, num_bins=10000), exact(s, labels, average=average), 1e-5)


# --- rankings of labels ---------------------------------------------------------------------------------------------------

LABEL_RANKINGS = [(coverage_error, sk.coverage_error), (label_ranking_average_precision, sk.label_ranking_average_precision_score), (label_ranking_loss, sk.label_ranking_loss)]

@pytest.mark.parametrize('ours,theirs', LABEL_RANKINGS, ids=lambda f: f.__name__)
def test_label_rankings(ours, theirs):
    s, _, t = many(200, 7)
    s = np.round(s, 1)
    t[0], t[1] = 0, 1                                                      # no label, and all
    close(ours(s, t), theirs(t, s.astype(float)))
    w = RNG.uniform(.5, 2, 200).astype(np.float32)
    close(ours(s, t, weights=w), theirs(t, s.astype(float), sample_weight=w.astype(float)), 1e-5)
    close(ours(s, t, mask=np.arange(200) < 50), theirs(t[:50], s[:50].astype(float)))
    for a, b in ((s[0], t[0]), (s[None], t[None]), (s, t[:, :3])):
        with pytest.raises(MetricError): ours(a, b)
    assert np.isnan(ours(s, np.where(t == 1, 2, t)))
    np.testing.assert_array_equal(ours(s[:0], t[:0]), 0)


def test_weighted_sums_stay_where_nothing_is_added_under_jit_too():
    "The points of a compiled curve are those of the eager one, to the first and last that is 0"
    s, t = binary(3000, 4)
    w = RNG.uniform(.5, 2, 3000).astype(np.float32)
    compiled, eager = jax.jit(lambda: det_curve(s, t, weights=w))().compact(), det_curve(s, t, weights=w).compact()
    for a, b in zip(compiled, eager): close(a, b, atol=1e-6)
    assert (np.diff(jax.jit(lambda: roc_curve(s, t, weights=w))().fpr) >= 0).all()
