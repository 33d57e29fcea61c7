"""Rankings beside scikit-learn and torchmetrics, and equal scores beside the mean over all orders of them."""
from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.functional.ranking import (coverage, dcg, expected_reciprocal_rank, f1_at_k, fall_out, hit_rate, mean_average_precision,
                                                 mean_average_precision_at_k, mean_reciprocal_rank, ndcg, ndcg_at_k, pad_queries, precision_at_k,
                                                 precision_recall_curve_at_k, r_precision, rank_biased_precision, recall_at_k, retrieval_auroc,
                                                 retrieval_recall_at_fixed_precision)
from calibrax.metrics.kernels import sort_on

sk = pytest.importorskip('sklearn.metrics')
RNG = np.random.default_rng(0)
AT = [precision_at_k, recall_at_k, f1_at_k, fall_out, hit_rate, ndcg_at_k, mean_average_precision_at_k]
PLAIN = [dcg, ndcg, mean_average_precision, mean_reciprocal_rank, r_precision, retrieval_auroc, rank_biased_precision, expected_reciprocal_rank]
ALL = [*PLAIN, *(partial(f, k=3) for f in AT), partial(hit_rate, k=1), partial(precision_at_k, k=50), partial(ndcg, k=2, gain='linear'), partial(mean_reciprocal_rank, k=2), partial(rank_biased_precision, k=3, persistence=.5)]
def called(f): return f'{f.func.__name__} {f.keywords}' if isinstance(f, partial) else f.__name__
FEW = [ndcg, mean_average_precision, mean_reciprocal_rank, retrieval_auroc, expected_reciprocal_rank, partial(fall_out, k=3)]
some = pytest.mark.parametrize('f', FEW, ids=called)

def close(value, wanted, rtol=2e-6, atol=1e-6): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def lists(queries=40, items=12, decimals=None, seed=0, share=.4):
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(queries, items)).astype(np.float32)
    return (s if decimals is None else np.round(s, decimals)), np.where(rng.random((queries, items)) < share, rng.integers(1, 4, (queries, items)), 0).astype(np.int32)


# --- faults of the published package, and what one would not expect ----------------------------------------------------------

def test_graded_relevance_stays_below_one():
    assert mean_average_precision([.9, .8, .7], [3, 2, 3]) == 1 and precision_at_k([.9, .8], [3, 3], k=2) == 1

def test_both_gains_of_ndcg():
    s, t = lists()
    close(ndcg(s, t, gain='linear'), sk.ndcg_score(t, s))
    close(ndcg(s, t, gain='exponential'), sk.ndcg_score(2.0**t - 1, s))
    assert abs(float(ndcg(s, t, gain='linear') - ndcg(s, t))) > 1e-3

def test_rows_are_queries_and_not_flattened():
    s, t = lists()
    close(ndcg(s, t), np.mean([float(ndcg(a, b)) for a, b in zip(s, t)]))
    assert ndcg(s, t, reduction='none').shape == (40,) and ndcg(s[0], t[0], reduction='none').shape == ()
    close(ndcg(s, t, reduction='sum'), 40*float(ndcg(s, t)), 1e-5)

@pytest.mark.parametrize('k', [0, -1, 2.5, True, '3'])
def test_k_is_a_number_from_one(k):
    for f in AT:
        with pytest.raises(MetricError, match='k is a whole number') as e: f([.9, .1], [1, 0], k=k)
        assert e.value.hint

def test_k_beyond_the_list():
    close(precision_at_k([.9, .7], [1, 0], k=5), .2)
    close(precision_at_k([.9, .7], [1, 0], k=5, adaptive_k=True), .5)
    close(precision_at_k([[.9, .7, 0], [.9, .7, .5]], [[1, 1, 0], [1, 1, 1]], k=5, adaptive_k=True, mask=[[1, 1, 0], [1, 1, 1]]), 1)
    for f in (recall_at_k, hit_rate, ndcg_at_k, mean_average_precision_at_k): close(f([.9, .7], [1, 0], k=5), 1)


# --- equal scores ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('f', [f for f in ALL if f is not expected_reciprocal_rank], ids=called)
def test_ties_are_the_mean_over_all_orders(f):
    "The expected reciprocal rank has no such formula, as its page says"
    s, t = np.float32([[2, 1, 1, 1, 0], [1]*5, [2, 2, 1, 1, 1], [3, 2, 2, 1, 1]]), np.int32([[0, 1, 0, 2, 1], [0, 3, 0, 0, 1], [0, 0, 1, 0, 1], [1, 0, 1, 0, 0]])
    orders = np.array(list(permutations(range(5))))
    each = np.asarray(f(s[:, orders].reshape(-1, 5), t[:, orders].reshape(-1, 5), ties='order', reduction='none'), np.float64)
    close(f(s, t, reduction='none'), each.reshape(4, -1).mean(1), 1e-5)

@some
def test_the_order_of_the_data_does_not_matter(f):
    s, t = lists(decimals=0)
    p = RNG.permutation(12)
    close(f(s[:, p], t[:, p]), f(s, t), 1e-5)

@pytest.mark.parametrize('k,decimals', [(None, 0), (1, 0), (4, None), (30, 1)])
def test_dcg_is_that_of_scikit_learn_with_ties(k, decimals):
    s, t = lists(decimals=decimals)
    close(ndcg(s, t, k=k), sk.ndcg_score(2.0**t - 1, s, k=k)); close(dcg(s, t, k=k, gain='linear'), sk.dcg_score(t, s, k=k))
    w = RNG.random(40).astype(np.float32)
    close(ndcg(s, t, k=k, weights=w), sk.ndcg_score(2.0**t - 1, s, k=k, sample_weight=w), 1e-5)

def test_auroc_of_each_query_with_ties():
    s, t = lists(decimals=0)
    close(retrieval_auroc(s, t, reduction='none'), [sk.roc_auc_score(b > 0, a) for a, b in zip(s, t)])

@some
def test_numpy_and_xla_sort_alike(f):
    s, t = lists(decimals=1)
    w, mask = np.arange(40, dtype=np.float32), RNG.random((40, 12)) < .8
    with sort_on('device'): there = f(s, t, mask=mask, weights=w)
    close(f(s, t, mask=mask, weights=w), there)


# --- peers -----------------------------------------------------------------------------------------------------------------

def test_torchmetrics_on_queries_of_different_lengths():
    torch, tm = pytest.importorskip('torch'), pytest.importorskip('torchmetrics.retrieval')
    rng = np.random.default_rng(3)
    q, s, t = rng.integers(0, 30, 400), rng.random(400).astype(np.float32), (rng.random(400) < .25).astype(np.int32)
    scores, relevance, mask = pad_queries(q, s, t)
    assert mask.sum() == 400 and scores.shape == (30, np.bincount(q).max())
    given = dict(preds=torch.from_numpy(s), target=torch.from_numpy(t), indexes=torch.from_numpy(q))
    pairs = [(mean_average_precision, tm.RetrievalMAP()), (mean_reciprocal_rank, tm.RetrievalMRR()), (partial(precision_at_k, k=5), tm.RetrievalPrecision(top_k=5)),
             (partial(precision_at_k, k=15, adaptive_k=True), tm.RetrievalPrecision(top_k=15, adaptive_k=True)), (partial(recall_at_k, k=5), tm.RetrievalRecall(top_k=5)),
             (partial(hit_rate, k=2), tm.RetrievalHitRate(top_k=2)), (r_precision, tm.RetrievalRPrecision()), (partial(fall_out, k=5), tm.RetrievalFallOut(top_k=5)),
             (ndcg, tm.RetrievalNormalizedDCG()), (partial(ndcg_at_k, k=3), tm.RetrievalNormalizedDCG(top_k=3)), (retrieval_auroc, tm.RetrievalAUROC())]
    for ours, theirs in pairs: close(ours(scores, relevance, mask=mask), float(theirs(**given)), 1e-5)
    for action, empty in (('skip', 'skip'), ('pos', 'one')): close(mean_average_precision(scores, relevance, mask=mask, empty=empty), float(tm.RetrievalMAP(empty_target_action=action)(**given)), 1e-5)
    precision, recall, k = tm.RetrievalPrecisionRecallCurve(max_k=8)(**given)
    curve = precision_recall_curve_at_k(scores, relevance, mask=mask, max_k=8)
    close(curve.precision, precision.numpy(), 1e-5); close(curve.recall, recall.numpy(), 1e-5); assert curve.k.tolist() == k.tolist()
    close(retrieval_recall_at_fixed_precision(scores, relevance, mask=mask, min_precision=.2, max_k=8), float(tm.RetrievalRecallAtFixedPrecision(min_precision=.2, max_k=8)(**given)[0]), 1e-5)


def test_expected_reciprocal_rank_by_hand():
    stop = (2.0**np.array([2, 0, 4]) - 1)/16
    close(expected_reciprocal_rank([3, 2, 1], [2, 0, 4]), stop[0] + (1 - stop[0])*stop[2]/3)
    assert np.isnan(expected_reciprocal_rank([3, 2], [5, 0])) and np.isfinite(expected_reciprocal_rank([3, 2], [5, 0], max_relevance=5))


# --- masks, weights, empty queries --------------------------------------------------------------------------------------------

@some
def test_masked_items_are_no_items(f):
    s, t = lists(decimals=1)
    mask = np.argsort(RNG.random((40, 12)), axis=1) < 7
    each = np.asarray(f(s[mask].reshape(40, 7), t[mask].reshape(40, 7), reduction='none'), np.float64)
    mask[0] = False
    spoiled = np.where(mask, s, np.nan), np.where(mask, t, -3)
    close(f(*spoiled, mask=mask), each[1:].mean(), 1e-5)
    close(f(s[1], spoiled[1][1], mask=mask[1]), each[1], 1e-5)

def test_empty_queries():
    s, t = np.float32([[.9, .1], [.9, .1]]), np.array([[0, 0], [1, 0]])
    for f in (ndcg, mean_average_precision, mean_reciprocal_rank, r_precision, partial(recall_at_k, k=1)):
        assert [float(f(s, t, empty=e)) for e in ('zero', 'one', 'skip')] == [.5, 1, 1] and np.isnan(f(s, t, empty='nan'))
    assert float(ndcg(s[:1], t[:1], empty='skip')) == 0 and float(fall_out(s, 1 - 0*t, k=1, empty='one')) == 1
    with pytest.raises(MetricError, match='unknown empty'): ndcg(s, t, empty='drop')

@some
def test_nothing_and_one(f):
    for shape in ((0,), (1,), (0, 3), (2, 0)):
        with jax.disable_jit(): assert np.isfinite(f(np.ones(shape), np.ones(shape)))

@some
def test_nan_and_negative_relevance_are_seen(f):
    for s, t in (([.1, np.nan], [1., 0.]), ([.1, .2], [1., np.nan]), ([.1, .2], [1., -1.])):
        assert np.isnan(f([s, [.1, .2]], [t, [1., 0.]], mask=[True, True])) and np.isfinite(f([s, [.1, .2]], [t, [1., 0.]], mask=[False, True]))

def test_weights_belong_to_queries():
    s, t = lists()
    for bad in (dict(scores=s[0], relevance=t[0], weights=np.ones(12)), dict(scores=s, relevance=t, weights=np.ones((40, 12))), dict(scores=s, relevance=t, weights=np.ones(12))):
        with pytest.raises(MetricError, match='do not fit scores') as e: ndcg(**bad)
        assert 'weights belong to queries' in e.value.hint
    with pytest.raises(MetricError, match='are no queries'): ndcg(s[None], t[None])
    with pytest.raises(MetricError, match='relevances, from 0 on'): ndcg(s, -t, validate=True)
    with pytest.raises(MetricError, match='reduction'): ndcg(s, t, reduction='batch_sum')

def test_pad_queries():
    s, t, m = pad_queries([5, 2, 5], [.1, .2, .3], [1, 0, 1])
    assert s.tolist() == [[.2, 0], [.1, .3]] and t.tolist() == [[0, 0], [1, 1]] and m.tolist() == [[True, False], [True, True]]
    assert pad_queries([], [])[1].shape == (0, 0)
    with pytest.raises(MetricError): pad_queries([1, 2], [.5])


# --- coverage, size ----------------------------------------------------------------------------------------------------------

def test_coverage():
    assert coverage([0, 0, 3], catalog_size=4) == .5 and np.isnan(coverage([4], catalog_size=4)) and np.isnan(coverage([.5], catalog_size=4)) and coverage([], catalog_size=4) == 0
    assert coverage([0, -1], catalog_size=4, mask=[True, False]) == .25
    with pytest.raises(MetricError, match='catalog_size'): coverage([0], catalog_size=0)

def test_a_million_items():
    s, t = np.round(RNG.random(1_000_000), 5).astype(np.float32), (RNG.random(1_000_000) < .1).astype(np.int32)
    close(retrieval_auroc(s, t), sk.roc_auc_score(t, s), 1e-6)
    close(dcg(s, t, gain='linear'), sk.dcg_score(t[None], s[None]), 1e-5)
    close(mean_average_precision(s, t), sk.average_precision_score(t, s), 2e-3)
    close(hit_rate(0*s, t, k=3), 1 - (1 - t.mean())**3, 1e-4)
    assert float(recall_at_k(s, t, k=1_000_000)) == 1

def test_float16_scores_tie_only_where_they_are_equal():
    s, t = lists()
    half = s.astype(np.float16)
    close(ndcg(half, t), sk.ndcg_score(2.0**t - 1, half.astype(np.float64))); assert ndcg(jnp.asarray(s, jnp.bfloat16), t).dtype == jnp.float32

def test_all_at_once():
    s, t = lists()
    values = calculate_all(s, t, domain='ranking')
    assert {'ndcg', 'mean_average_precision', 'mean_reciprocal_rank', 'r_precision', 'retrieval_auroc'} <= set(values)
    close(values['ndcg'], ndcg(s, t))
    values = calculate_all(s, t, domain='ranking', k=3)
    close(values['precision_at_k'], precision_at_k(s, t, k=3)); close(values['mean_reciprocal_rank'], mean_reciprocal_rank(s, t, k=3))
