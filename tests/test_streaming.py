"""What pages don't show of streaming and stateful metrics: long counts, sharing, capacity, checkpoints, errors, nnx."""
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.errors import MetricError
from calibrax.core.protocols import StatefulMetricProtocol
from calibrax.metrics.declarations import Decomposition
from calibrax.metrics.functional import classification as C, curves, regression as R, statistical as S
from calibrax.metrics.stateful import StatefulMetric
from calibrax.metrics.streaming import streaming, streaming_together
from metric_inputs import double_precision

RNG = np.random.default_rng(0)


def many(metric, batch, times):
    return jax.jit(lambda s: jax.lax.fori_loop(0, times, lambda i, s: metric.update(s, *batch), s))(metric.init())

def test_counts_do_not_stop_at_2_to_the_24():
    "torchmetrics' and metrax's float32 counts do"
    metric = streaming('accuracy')
    heavy = metric.update(metric.init(), np.int32([1]), np.int32([1]), weights=np.float32([2**25]))
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 2**10, lambda i, s: metric.update(s, np.int32([0]), np.int32([1])), s))(heavy)
    np.testing.assert_allclose(metric.compute(state), 2**25/(2**25 + 2**10), rtol=1e-7)
    assert np.asarray(state['sums']['wrong'], np.float64).sum() == 2**10
    for one, times in ((0, 2**10),): assert np.asarray(many(metric, (np.int32([one]), np.int32([1])), times)['sums']['wrong'], np.float64).sum() == times


def test_integer_counts_beyond_int32():
    metric = streaming('pixel_accuracy')
    state = metric.update(metric.init(), np.zeros((1, 1000, 1000), np.int32), np.zeros((1, 1000, 1000), np.int32))
    for _ in range(13): state = metric.merge(state, state)      # 8.2e9 pixels
    fields = {k: np.asarray(state['sums'][k], np.float64).sum(0) for k in ('target', 'predicted')}
    assert fields['target'].max() == 2**13*1_000_000 and float(metric.compute(state)) == 1


@pytest.mark.parametrize('name,reference', [('mse', lambda p, t: np.mean((p - t)**2)), ('r_squared', lambda p, t: 1 - ((p - t)**2).sum()/((t - t.mean())**2).sum()),
                                            ('pearson_correlation', lambda p, t: np.corrcoef(p.ravel(), t.ravel())[0, 1]), ('skewness', None)])
def test_a_million_updates_cost_no_accuracy(name, reference):
    "Far from zero, where plain sums of float32 lose all digits"
    metric = streaming(name)
    t = (1e4 + RNG.normal(size=(1000, 64))).astype(np.float32)
    p = (t + RNG.normal(size=t.shape)/2).astype(np.float32)
    arrays = (p, t) if reference else (p,)
    @jax.jit
    def run(arrays):
        def epoch(s, _): return jax.lax.scan(lambda s, b: (metric.update(s, *b), None), s, arrays)[0], None
        return metric.compute(jax.lax.scan(epoch, metric.init(), None, length=100)[0])
    wanted = reference(*(a.astype(np.float64) for a in arrays)) if reference else ((p.astype(float) - p.astype(float).mean())**3).mean()/p.astype(float).std()**3
    np.testing.assert_allclose(run(arrays), wanted, rtol=2e-5, atol=2e-4 if name == 'skewness' else 0)


def test_sharing_is_decided_by_declarations_not_by_numbers():
    "The first batch gives both thresholds the same counts, which makes torchmetrics take them for one"
    both = streaming_together({'half': streaming('f1_score', threshold=.5), 'more': streaming('f1_score', threshold=.7)})
    assert len(both.init()) == 2
    state = both.init()
    for p, t in (([.9, .1], [1, 0]), ([.6, .6], [1, 0])): state = both.update(state, np.float32(p), np.int32(t))
    values = both.compute(state)
    p, t = np.float32([.9, .1, .6, .6]), np.int32([1, 0, 1, 0])
    for k, threshold in (('half', .5), ('more', .7)): np.testing.assert_allclose(values[k], C.f1_score(p, t, threshold=threshold))
    assert values['half'] != values['more']
    shared = streaming_together({n: streaming(n, num_classes=3, average='macro') for n in ('f1_score', 'precision', 'recall')})
    assert len(shared.init()) == 1
    kept = streaming_together({n: streaming(n, capacity=50) for n in ('roc_auc', 'average_precision')})
    assert len(kept.init()) == 1


def test_nested_collections_and_keywords():
    inner = streaming_together({'mse': streaming('mse'), 'mae': streaming('mae')})
    outer = streaming_together({'errors': inner, 'r2': streaming('r_squared')})
    p, t, w = RNG.normal(size=(3, 20)).astype(np.float32)
    values = outer.compute(outer.update(outer.init(), predictions=p, targets=t, weights=abs(w)))
    np.testing.assert_allclose(values['errors_mse'], R.mse(p, t, weights=abs(w)), rtol=1e-5)
    np.testing.assert_allclose(values['r2'], R.r_squared(p, t, weights=abs(w)), rtol=1e-5)
    with pytest.raises(MetricError, match='expected a streaming metric'): streaming_together({'a': 'mse'})


def test_mask_and_weights_in_every_batch():
    metric, (p, t) = streaming('r_squared'), RNG.normal(size=(2, 30)).astype(np.float32)
    keep, w = RNG.random(30) < .6, RNG.uniform(.5, 2, 30).astype(np.float32)
    p[~keep] = np.nan
    state = metric.init()
    for i in (0, 10, 20): state = metric.update(state, p[i:i + 10], t[i:i + 10], mask=keep[i:i + 10], weights=w[i:i + 10])
    np.testing.assert_allclose(metric.compute(state), R.r_squared(p, t, mask=keep, weights=w), rtol=1e-5)


def test_nan_and_infinity_are_not_hidden():
    metric = streaming('mae')
    for bad in (np.inf, np.nan):
        state = metric.update(metric.init(), np.float32([1, bad]), np.float32([1, 0]))
        assert float(metric.compute(metric.update(state, np.float32([0]), np.float32([0])))) == pytest.approx(bad, nan_ok=True)
    labels = streaming('f1_score', num_classes=3, average='macro')
    assert np.isnan(labels.compute(labels.update(labels.init(), [0, 5], [0, 1])))


def test_capacity_counts_what_is_left_out_and_the_mask_takes_no_place():
    metric = streaming('roc_auc', capacity=4)
    s, t = RNG.normal(size=10).astype(np.float32), (np.arange(10) % 2).astype(np.int32)
    state = metric.update(metric.init(), s, t, mask=np.arange(10) < 4)
    assert int(state['missed']) == 0 and float(metric.compute(state)) == float(curves.roc_auc(s[:4], t[:4]))
    more = metric.update(state, s, t, mask=np.arange(10) < 3)
    assert int(more['missed']) == 3 and np.isnan(metric.compute(more))
    assert int(metric.merge(state, state)['missed']) == 4
    assert np.isnan(jax.jit(metric.compute)(more))
    with pytest.raises(MetricError, match='other shapes'): metric.update(state, np.zeros((2, 3), np.float32), t[:2])
    with pytest.raises(MetricError, match='one leading axis'): metric.update(state, s, t[:3])


@pytest.mark.parametrize('name', ['median_absolute_error', 'spearman_rank_correlation', 'kendall_tau', 'average_precision'])
def test_metrics_that_sort_keep_samples(name):
    metric, entry = streaming(name, capacity=64), __import__('calibrax.metrics', fromlist=['MetricRegistry']).MetricRegistry().get(name)
    p, t = RNG.normal(size=(2, 50)).astype(np.float32)
    if name == 'average_precision': t = (t > 0).astype(np.int32)
    state = metric.init()
    for i in (0, 20, 40): state = metric.update(state, p[i:i + 20], t[i:i + 20])
    np.testing.assert_allclose(metric.compute(state), entry.fn(p, t), rtol=1e-5)


def test_a_decomposition_of_your_own():
    geometric = Decomposition(statistics=lambda values: {'logs': jnp.log(values).sum(), 'n': jnp.float32(values.size)}, finalize=lambda s: jnp.exp(s['logs']/s['n']))
    metric = streaming(geometric, name='geometric mean')
    state = metric.init(np.ones(3, np.float32))
    for batch in ([1., 2.], [4.]): state = metric.update(state, np.float32(batch))
    np.testing.assert_allclose(metric.compute(state), 2, rtol=1e-6)


def test_double_precision_is_kept_with_an_example():
    with double_precision():
        metric = streaming('mse')
        state = metric.init(np.zeros(2), np.zeros(2))
        assert jax.tree.leaves(state)[0].dtype == np.float64
        state = metric.update(state, np.array([1 + 1e-12]), np.array([0.]))
        assert float(metric.compute(state)) == pytest.approx((1 + 1e-12)**2, rel=1e-15)


@pytest.mark.parametrize('name', ['covariance', 'pearson_correlation', 'r_squared', 'explained_variance', 'concordance_correlation', 'nrmse'])
def test_batches_far_from_zero_lose_no_digits(name):
    "Means of a million keep what rounding takes from them"
    from calibrax.metrics.registry import MetricRegistry
    x = (RNG.normal(size=300)*3 + 1e6).astype(np.float32)
    y = (x + RNG.normal(size=300)).astype(np.float32)
    metric = streaming(name)
    state = metric.init()
    for i in range(0, 300, 7): state = metric.update(state, x[i:i + 7], y[i:i + 7])
    np.testing.assert_allclose(metric.compute(state), MetricRegistry().get_function(name)(x, y), rtol=5e-6)


def test_whole_numbers_first_do_not_cut_what_comes_after():
    for held in (StatefulMetric('median_absolute_error', capacity=10), StatefulMetric('roc_auc', capacity=10)):
        labels = held.name == 'roc_auc'
        held.update([1, 2], [0, 1]); held.update([1.5, .25, 3.75], [1, 0, 1] if labels else [1.5, 1.5, 1.5])
        wanted = held.entry.fn([1, 2, 1.5, .25, 3.75], [0, 1, 1, 0, 1] if labels else [0, 1, 1.5, 1.5, 1.5])
        assert held.compute()[held.name] == pytest.approx(float(wanted))
    kept = streaming('roc_auc', capacity=9)
    with pytest.raises(MetricError, match='whole numbers'): kept.update(kept.init(), [.5, .2], [.5, 1.])


def test_double_precision_without_an_example():
    with double_precision():
        assert streaming('mse').init()['sums'].pairs.dtype == np.float64
        held = StatefulMetric('roc_auc', capacity=10)
        held.update(1 + 1e-9*np.arange(10), [0, 1]*5)
        assert held.compute()['roc_auc'] == pytest.approx(.6)


def test_names_that_clash_and_settings_that_are_wrong():
    with pytest.raises(MetricError, match='two metrics are called a_b'): streaming_together({'a': streaming_together({'b': streaming('mse')}), 'a_b': streaming('mae')})
    with pytest.raises(MetricError, match='a dictionary|names with metrics'): streaming_together([streaming('mse')])
    with pytest.raises(MetricError, match='num_predictors'): StatefulMetric('r_squared_adjusted').update([1., 2.], [1., 3.])
    with pytest.raises(MetricError, match='needs num_classes'): streaming('f1_score', average='macro').init([0], [1])
    assert float(StatefulMetric('mse', capacity=2).metric.compute(streaming('mse').update(streaming('mse').init(), [1., 2., 3.], [0., 0., 0.]))) == pytest.approx(14/3)


# --- the object ------------------------------------------------------------------------------------------------------------

def test_state_is_checkpointed_as_a_plain_pytree(tmp_path):
    held = StatefulMetric('f1_score', num_classes=3, average='macro')
    held.update([0, 1, 2, 1], [0, 1, 1, 1])
    assert pickle.loads(pickle.dumps(held)).compute() == held.compute()
    orbax = pytest.importorskip('orbax.checkpoint')
    checkpointer = orbax.StandardCheckpointer()
    checkpointer.save(tmp_path/'module', nnx.state(held)); checkpointer.wait_until_finished()
    fresh = StatefulMetric('f1_score', num_classes=3, average='macro')
    nnx.update(fresh, checkpointer.restore(tmp_path/'module', nnx.state(fresh)))
    assert fresh.compute() == held.compute()
    metric = held.metric
    state = metric.update(metric.init(), [0, 1, 2, 1], [0, 1, 1, 1])
    checkpointer.save(tmp_path/'state', state); checkpointer.wait_until_finished()
    assert float(metric.compute(checkpointer.restore(tmp_path/'state', metric.init()))) == held.compute()['f1_score']


def test_in_an_nnx_training_loop():
    class Classifier(nnx.Module):
        def __init__(self, rngs): self.linear = nnx.Linear(2, 2, rngs=rngs)
        def __call__(self, x): return self.linear(x)
    model, metrics = Classifier(nnx.Rngs(0)), StatefulMetric(streaming_together({'accuracy': streaming('accuracy', num_classes=2), 'loss': streaming('softmax_cross_entropy')}))
    metrics.reset()
    traced = []
    @nnx.jit
    def step(model, metrics, x, y):
        traced.append(1)
        def loss(model): return C.softmax_cross_entropy(model(x), y)
        gradients = nnx.grad(loss)(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - g, nnx.state(model, nnx.Param), gradients))
        metrics.update(model(x), y)
    history = []
    for _ in range(3):
        for _ in range(5):
            x = RNG.normal(size=(64, 2)).astype(np.float32)
            step(model, metrics, x, (x[:, 0] > 0).astype(np.int32))
        history.append(metrics.compute()); metrics.reset()
    assert history[-1]['accuracy'] > .9 and history[-1]['loss'] < history[0]['loss']
    assert len(traced) <= 2


def test_forward_gives_the_batch_and_keeps_the_sum():
    held = StatefulMetric(streaming_together({'mse': streaming('mse'), 'r2': streaming('r_squared')}))
    p, t = RNG.normal(size=(2, 40)).astype(np.float32)
    for i in range(0, 40, 10): np.testing.assert_allclose(held.forward(p[i:i + 10], t[i:i + 10])['mse'], R.mse(p[i:i + 10], t[i:i + 10]), rtol=1e-5)
    np.testing.assert_allclose(held.compute()['r2'], R.r_squared(p, t), rtol=1e-5)


def test_protocol_names_and_errors():
    held = StatefulMetric('pearson_correlation')
    assert isinstance(held, StatefulMetricProtocol) and held.name == 'pearson_correlation' and held.entry.bounds == (-1, 1)
    held.update(predictions=[1., 2., 3.], targets=[1., 2., 5.]); held.update(a=[1.], b=[2.])
    assert held.compute()['pearson_correlation'] == pytest.approx(float(S.pearson_correlation([1., 2., 3., 1.], [1., 2., 5., 2.])), rel=1e-5)
    for wrong, says in ((lambda: StatefulMetric('mse_'), 'Unknown metric'), (lambda: StatefulMetric(streaming('mse'), name='x'), 'arguments already'), (lambda: held.update([1., 2.], [1.]), 'Shape mismatch'),
                        (lambda: StatefulMetric('f1_score', average='macro').update([0], [1]), 'num_classes'), (lambda: held.update(['a'], ['b']), 'real numbers')):
        with pytest.raises(MetricError, match=says) as e: wrong()
        assert e.value.hint
    assert held.compute()['pearson_correlation'] > 0, 'what failed left the state as it was'


def test_clones_and_snapshots_outlive_updates():
    held = StatefulMetric('mse')
    held.update([1.], [2.])
    clone, before = nnx.clone(held), jax.tree.map(lambda v: v, nnx.state(held))
    held.update([1.], [4.])
    assert clone.compute() == {'mse': 1} and held.compute() == {'mse': 5}
    nnx.update(held, before)
    assert held.compute() == {'mse': 1}
    giving = StatefulMetric('mse', donate=True)
    giving.update([1.], [2.]); giving.update([1.], [4.])
    assert giving.compute() == {'mse': 5}


def test_made_of_collections_and_partials_and_of_several_classes():
    from calibrax.metrics import MetricCollection
    held = StatefulMetric(MetricCollection(['mse', 'mae']))
    held.update([1.], [3.])
    assert held.compute() == {'mse': 4, 'mae': 2}
    macro = StatefulMetric(partial(C.f1_score, average='macro', num_classes=3))
    macro.update([0, 1, 2], [0, 1, 1])
    assert macro.compute()['f1_score'] == pytest.approx(float(C.f1_score([0, 1, 2], [0, 1, 1], average='macro', num_classes=3)))
    areas = StatefulMetric('roc_auc', capacity=10)
    areas.update(np.eye(3, dtype=np.float32), [0, 1, 2])
    assert areas.compute()['roc_auc'] == 1 and 'beyond' not in areas._repr_html_()
    areas.update(np.eye(3, dtype=np.float32).repeat(4, 0), [0, 1, 2]*4)
    assert np.isnan(areas.compute()['roc_auc']) and 'samples beyond the capacity' in areas._repr_html_()


@pytest.mark.parametrize('made', [lambda: streaming('mse').entry, lambda: streaming('roc_auc', capacity=5), lambda: StatefulMetric('max_error')])
def test_pickles(made):
    again = pickle.loads(pickle.dumps(made()))
    assert again == made() or again.metric == made().metric


@pytest.mark.parametrize('metric, wrong', [('f1_score', {'average': 'marco', 'num_classes': 3}), ('roc_auc', {'average': 'marco', 'capacity': 10}), ('confusion_matrix', {'normalize': 'rows', 'num_classes': 2}),
                                           ('mse', {'reduction': 'maen'}), ('mean_iou', {'absent': 'drop', 'num_classes': 3})])
def test_a_choice_that_does_not_exist_is_refused_at_once(metric, wrong):
    value = next(v for v in wrong.values() if isinstance(v, str))
    with pytest.raises(MetricError, match=f'{value!r}|with reduction'): streaming(metric, **wrong)

def test_tables_stream_by_name():
    m = streaming('confusion_matrix', num_classes=3)
    state = m.update(m.update(m.init(), [0, 1, 2], [0, 1, 1]), [2], [2])
    assert np.asarray(m.compute(state)).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    with pytest.raises(MetricError, match='Unknown metric') as said: streaming('confusion_matrx')
    assert len(str(said.value)) < 400
