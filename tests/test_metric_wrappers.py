"""Bootstrap, groups, trackers, transformed inputs, running windows, outputs and tasks: old and new spellings, and the faults of the published package."""
import math
import pickle
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.bootstrap import resampling_weights
from calibrax.metrics.composition import MetricCollection
from calibrax.metrics.functional.classification import accuracy, confusion_matrix, f1_score, log_loss
from calibrax.metrics.functional.curves import roc_auc
from calibrax.metrics.functional.regression import mse
from calibrax.metrics.stateful import FrozenBackboneMetric, StatefulMetric
from calibrax.metrics.streaming import streaming, streaming_together
from calibrax.metrics.wrappers import (DEFAULT_RESAMPLES, BootstrapMetric, ClasswiseWrapper, MetricTracker, MinMaxTracker, Multioutput, Multitask, Running,
                                       TransformedMetric)
from calibrax.statistics.bootstrap import BootstrapInterval, bootstrap_interval

RNG = np.random.default_rng(0)
TARGETS = RNG.integers(0, 3, 300)
LABELS = np.where(RNG.random(300) < .7, TARGETS, RNG.integers(0, 3, 300))
T = RNG.normal(size=300).astype(np.float32)
P = (T + RNG.normal(size=300)).astype(np.float32)


# --- bootstrap

def test_macro_f1_is_resampled():       # upstream: ConcretizationTypeError
    found = BootstrapMetric(partial(f1_score, average='macro'), num_resamples=100).compute(LABELS, TARGETS)
    assert found.lower < found.value < found.upper and found.value == pytest.approx(float(f1_score(LABELS, TARGETS, average='macro')))

def test_keys_of_any_kind():            # upstream: key=0 is a TypeError
    metric = BootstrapMetric('mse', num_resamples=20)
    from flax import nnx
    for key in (0, np.random.default_rng(1), jax.random.key(1), jax.random.PRNGKey(1), nnx.Rngs(0)): assert len(metric.compute(P, T, key=key).samples) == 20
    assert metric.compute(P, T, key=3) == metric.compute(P, T, key=3) != metric.compute(P, T, key=4)
    assert metric.compute(P, T, key=jax.random.key(3)) == metric.compute(P, T, key=jax.random.key(3))

def test_both_spellings():
    new, old = BootstrapMetric(mse, num_resamples=50, confidence=.9), BootstrapMetric(mse, num_bootstraps=50, confidence=.9, seed=5)
    assert (new.metric_fn, new.num_resamples, new.confidence) == (mse, 50, .9) and old.num_resamples == 50
    result = old.compute(P, T)
    assert isinstance(result, BootstrapInterval) and dict(result) == {'value': result.value, 'lower': result.lower, 'upper': result.upper, 'samples': tuple(result.samples)}
    assert result == new.compute(P, T, key=5) and pickle.loads(pickle.dumps(result)) == result
    for confidence in (0, 1, 95, -1):
        with pytest.raises(ValueError): BootstrapMetric(mse, confidence=confidence)
    assert BootstrapMetric(mse).num_resamples == DEFAULT_RESAMPLES == 1000

@pytest.mark.parametrize('ways', [(mse, lambda p, t: jnp.mean((p - t)**2), lambda p, t: float(np.mean((np.asarray(p) - np.asarray(t))**2))),
                                  (accuracy, lambda p, t: jnp.mean(p == t), lambda p, t: float(np.mean(np.asarray(p) == t)))])
def test_weights_rows_and_loop_give_the_same_samples(ways):
    p, t = (P, T) if ways[0] is mse else (LABELS, TARGETS)
    found = [BootstrapMetric(f, num_resamples=30).compute(p, t, key=2).samples for f in ways]
    assert np.allclose(found[0], found[1], rtol=1e-5) and np.allclose(found[0], found[2], rtol=1e-5)

def test_sorting_metrics_and_their_rows():
    labels = (T > 0).astype(int)
    found = BootstrapMetric(roc_auc, num_resamples=15).compute(P, labels, key=1).samples
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 300, 300) for _ in range(15)]
    assert np.allclose(found, [float(roc_auc(P[r], labels[r])) for r in rows], atol=1e-6)

def test_masks_and_weights_of_the_user_stay():
    mask, weights = RNG.random(300) < .5, RNG.random(300).astype(np.float32)
    known = BootstrapMetric(mse, num_resamples=20).compute(P, T, key=0, mask=mask, weights=weights)
    draws = resampling_weights(300, key=0)
    assert np.allclose(known.samples, [float(mse(P, T, mask=mask, weights=weights*next(draws))) for _ in range(20)], rtol=1e-5)
    plain = BootstrapMetric(lambda p, t, mask=None: jnp.sum(jnp.where(mask, (p - t)**2, 0))/jnp.sum(mask), num_resamples=20).compute(P, T, key=0, mask=mask)
    rows = np.random.default_rng(0)
    assert np.allclose(plain.samples, [float(mse(P[r], T[r], mask=mask[r])) for r in (rows.integers(0, 300, 300) for _ in range(20))], rtol=1e-5)

@pytest.mark.parametrize('resampling', ['multinomial', 'poisson'])
def test_intervals_agree_with_the_formula_and_with_statistics(resampling):
    errors = (P - T)**2
    found = BootstrapMetric('mse', num_resamples=2000, resampling=resampling).compute(P, T, key=0)
    plain = bootstrap_interval(np.mean, errors, key=0, num_resamples=2000, method='percentile')
    assert found.upper - found.lower == pytest.approx(2*1.96*errors.std(ddof=1)/math.sqrt(300), rel=.08)
    assert found.lower == pytest.approx(plain.lower, abs=.03) and found.upper == pytest.approx(plain.upper, abs=.03)

@pytest.mark.parametrize('metric, arguments, data', [('mse', {}, (P, T)), (partial(f1_score, average='macro'), {'num_classes': 3}, (LABELS, TARGETS)), ('accuracy', {'num_classes': 3}, (LABELS, TARGETS))])
def test_batches_are_resampled_as_the_whole(metric, arguments, data):
    passing = BootstrapMetric(metric, resampling='poisson', seed=3, **arguments)
    weights = np.where(np.arange(300) % 3, 1., 2.).astype(np.float32)
    whole = BootstrapMetric(metric, resampling='poisson').compute(*data, key=5, weights=weights, **arguments)
    for _ in range(2):              # after a reset, the same draws again
        passing.reset()
        for start in range(0, 300, 77): passing.update(*(x[start:start + 77] for x in data), weights=weights[start:start + 77])
        found = passing.compute()
        first = locals().get('first', found)
    assert found.value == pytest.approx(whole.value, rel=1e-6) and (found.samples == first.samples).all() and len(found.samples) == 1000
    assert found.upper - found.lower == pytest.approx(whole.upper - whole.lower, rel=.15) and abs(np.mean(found.samples) - np.mean(whole.samples)) < .2*np.std(whole.samples)
    again = pickle.loads(pickle.dumps(passing))
    assert (again.compute().samples == found.samples).all()

def test_resamples_of_batches_are_made_some_at_a_time(monkeypatch):
    "As many as a processor's cache holds; their number does not show"
    found = []
    for at_once in (1, 300*7, 2**30):
        monkeypatch.setattr('calibrax.metrics.bootstrap._AT_ONCE', at_once)
        passing = BootstrapMetric('mse', resampling='poisson', num_resamples=20, seed=1)
        for part in (slice(0, 150), slice(150, 300)): passing.update(P[part], T[part])
        found.append(passing.compute().samples)
        assert len(passing._state[1]) == {1: 20, 300*7: 2, 2**30: 1}[at_once]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6), np.testing.assert_allclose(found[0], found[2], rtol=1e-6)

def test_batches_that_cannot_be_resampled():
    for made, says in ((BootstrapMetric('mse'), 'how many samples'), (BootstrapMetric(lambda p, t: jnp.mean(p - t), resampling='poisson'), 'takes no weights'), (BootstrapMetric('roc_auc', resampling='poisson'), 'do not merge')):
        with pytest.raises(MetricError, match=says): made.update(P, T)
        with pytest.raises(MetricError, match='no batch yet'): made.compute()
    with pytest.raises(MetricError, match='takes no confidense'): BootstrapMetric('mse', confidense=.9)
    passing = BootstrapMetric('mse', resampling='poisson', num_resamples=5)
    passing.update(P[:3], T[:3])
    with pytest.raises(MetricError, match='taken already'): passing.compute(key=1)
    with pytest.raises(MetricError): passing.update(P[:3], T[:2])
    assert passing.compute().note.startswith('fewer than') and passing.compute().value == pytest.approx(float(mse(P[:3], T[:3])))

def test_what_has_no_value():
    labels = np.zeros(40, int)
    labels[:2] = 1                                                      # absent from 13 % of the resamples
    found = BootstrapMetric('roc_auc', num_resamples=200).compute(P[:40], labels, key=0)
    assert 'resamples have no value' in found.note and not math.isnan(found.lower) and np.isnan(found.samples).any()
    broken = BootstrapMetric('mse', num_resamples=5).compute([math.nan, 1.], [1., 1.])
    assert math.isnan(broken.value) and math.isnan(broken.lower) and 'not a number' in broken.note and 'fewer than 30' in broken.note

def test_words_and_host_metrics():
    found = BootstrapMetric(lambda said, heard: np.mean([s == h for s, h in zip(said, heard)]), num_resamples=20).compute(['a', 'bb'], ['a', 'c'])
    assert set(found.samples) <= {0., .5, 1.}
    with pytest.raises(MetricError, match='one number'): BootstrapMetric(lambda p, t: p).compute(P, T)
    with pytest.raises(MetricError, match='3 predictions vs 2 targets'): BootstrapMetric(mse).compute([1, 2, 3], [1, 2])
    with pytest.raises(MetricError, match='one row a sample'): BootstrapMetric(mse).compute(1., 2.)

def test_a_large_bootstrap_stays_small():
    code = ("import resource, numpy as np; from calibrax.metrics.wrappers import BootstrapMetric; rng = np.random.default_rng(0); p, t = rng.normal(size=(2, 200_000)).astype(np.float32);"
            "b = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; BootstrapMetric('mse', num_resamples=60).compute(p, t); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - b)")
    grown = int(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)
    assert grown < 400_000                                              # kB; 60 resamples of 200,000 rows at once would be more than the data 60 times


# --- groups

def test_classes_that_are_not_contiguous():
    found = ClasswiseWrapper(mse, class_names=['cat', 'dog', 'bird']).compute([1, 1, 5, 5], 0, [0, 0, 2, 2])     # upstream: dog 25, mean 9
    assert found == {'cat': 1.0, 'bird': 25.0, 'mean': 13.0}
    assert ClasswiseWrapper(mse).compute([1, 1, 5, 5], [0]*4, [7, 7, -2, -2]) == {'-2': 25.0, '7': 1.0, 'mean': 13.0}

@pytest.mark.parametrize('metric', [mse, 'mae', roc_auc, lambda p, t: float(np.max(np.abs(p - t)))])
def test_each_group_is_its_rows(metric):
    from calibrax.metrics.named import entry_of
    groups, t = RNG.integers(0, 4, 300), (T > 0).astype(int)
    found = ClasswiseWrapper(metric).compute(P, t, groups)
    own = {str(g): float(entry_of(metric).fn(P[groups == g], t[groups == g])) for g in range(4)}
    assert found == {**{k: pytest.approx(v, rel=1e-5) for k, v in own.items()}, 'mean': pytest.approx(np.mean(list(own.values())), rel=1e-5)}

@pytest.mark.parametrize('metric, arguments', [('mse', {}), (partial(f1_score, average='macro'), {'num_classes': 3}), ('roc_auc', {'capacity': 300}), ('confusion_matrix', {'num_classes': 3})])
def test_groups_batch_by_batch(metric, arguments):
    metric = metric if metric != 'confusion_matrix' else confusion_matrix
    data = {'mse': (P, T), 'roc_auc': (P, T > 0)}.get(metric, (LABELS, TARGETS))
    groups, mask = np.where(np.arange(300) < 150, 'late', np.array(['a', 'b'])[RNG.integers(0, 2, 300)]), RNG.random(300) < .8
    streamed = ClasswiseWrapper(metric, **arguments)
    for start in range(0, 300, 64): streamed.update(*(x[start:start + 64] for x in data), groups[start:start + 64], mask=mask[start:start + 64])
    found, whole = streamed.compute(), ClasswiseWrapper(metric).compute(*data, groups, mask=mask, **{k: v for k, v in arguments.items() if k != 'capacity'})
    assert list(found) == list(whole) == ['a', 'b', 'late', 'mean']
    for k in found: np.testing.assert_allclose(found[k], whole[k], rtol=1e-5)
    before = streamed.compute()['mean']
    with pytest.raises(MetricError): streamed.update(data[0][:3], data[1][:3], groups[:2])
    np.testing.assert_array_equal(streamed.compute()['mean'], before)
    streamed.reset()
    assert streamed.compute() == {'mean': 0.0}

def test_groups_that_are_wrong():
    assert ClasswiseWrapper(mse).compute([], [], []) == {'mean': 0.0}
    for labels, words in (([0], 'do not fit'), ([0, 9], 'a label 9'), ([0, .5], 'a label 0.5'), ([0, math.nan], 'no group')):
        with pytest.raises(MetricError, match=words): ClasswiseWrapper(mse, class_names=['a', 'b']).compute([1, 2], [1, 2], labels)


# --- trackers

def test_nan_is_never_the_best():           # upstream: best() is nan
    tracker = MetricTracker('mse')
    for value in (math.nan, 3.0, 1.0, 1.0, 2.0): tracker.append(value)
    assert tracker.best() == 1.0 and tracker.best_epoch == 2 and len(tracker.history) == 5
    extremes = MinMaxTracker(mse)
    for value in (math.nan, 3.0, 1.0): extremes.update([value], [0.0])
    assert (extremes.min, extremes.max, extremes.current) == (1.0, 9.0, 1.0)

def test_published_tracker():
    tracker = MetricTracker(lambda p, t: np.mean(np.abs(np.subtract(p, t))))
    with pytest.raises(ValueError, match='No values have been tracked yet'): tracker.best()
    with pytest.raises(ValueError, match='No values have been tracked yet'): tracker.best_epoch
    assert tracker.increment([1.], [3.]) == 2.0 and tracker.increment([1.], [2.]) == 1.0 and tracker.history == (2.0, 1.0) and tracker.best() == 1.0
    tracker.reset()
    assert tracker.history == ()
    with pytest.raises(ValueError): MetricTracker(mse, direction='best')
    assert MetricTracker(mse, direction='higher').direction == 'higher'

def test_direction_comes_from_the_registry():
    assert MetricTracker(accuracy).direction == MetricTracker('roc_auc').direction == MetricTracker(partial(f1_score, average='macro')).direction == 'higher'
    assert MetricTracker('mse').direction == MetricTracker(lambda p, t: 0.).direction == 'lower'
    assert MetricTracker(StatefulMetric('accuracy')).direction == MetricTracker(MetricCollection(['accuracy', 'mse']), of='accuracy').direction == 'higher'

def test_trackers_follow_objects():
    tracker = MetricTracker(StatefulMetric('mse'))
    for epoch in range(2):
        for i in range(0, 300, 100): tracker.update(P[i:i + 100]*(1 + epoch), T[i:i + 100])
        tracker.increment()
    assert tracker.history[0] == pytest.approx(float(mse(P, T)), rel=1e-5) and tracker.history[1] == pytest.approx(float(mse(2*P, T)), rel=1e-5) and tracker.best_epoch == 0
    class Fid(FrozenBackboneMetric):
        def reset(self): self.seen = []
        def _extract_features(self, *, real): return real
        def _accumulate(self, features): self.seen.append(features)
        def _compute_from_accumulated(self): return {'fid': sum(self.seen)}
    metric = Fid('fid')
    metric.reset()
    followed = MetricTracker(metric, direction='lower')
    assert [followed.increment(real=2.0), followed.increment(real=1.0)] == [2.0, 1.0] and followed.best_epoch == 1

def test_plots_and_tables():
    import matplotlib.pyplot as plt
    tracker = MetricTracker('mse')
    for value in (3.0, math.nan, 1.0): tracker.append(value)
    extremes = MinMaxTracker('mse')
    for shown in (tracker, extremes, BootstrapMetric(mse, num_resamples=5).compute(P, T), ClasswiseWrapper(mse).compute(P, T, LABELS)): assert '<table' in shown._repr_html_() and repr(shown)
    plt.close(tracker.plot()[0])
    with pytest.raises(MetricError): MetricTracker('mse').plot()


# --- transformed inputs

LOGITS = RNG.normal(size=(300, 3)).astype(np.float32)

def test_transformations():
    assert float(TransformedMetric('accuracy', predictions='argmax')(LOGITS, TARGETS)) == float(accuracy(LOGITS.argmax(1), TARGETS))
    assert float(TransformedMetric('log_loss', predictions='softmax')(LOGITS, TARGETS)) == pytest.approx(float(log_loss(np.asarray(jax.nn.softmax(LOGITS)), TARGETS)), rel=1e-5)
    assert float(TransformedMetric(accuracy, threshold=0)(P, (T > 0).astype(int))) == float(accuracy((P >= 0).astype(int), (T > 0).astype(int)))
    assert math.isnan(float(TransformedMetric(accuracy, threshold=0)([math.nan], [0])))

def test_transformed_metrics_are_metrics():
    metric = TransformedMetric(f1_score, predictions='argmax')
    macro = float(f1_score(LOGITS.argmax(1), TARGETS, average='macro'))
    assert float(jax.jit(lambda p, t: metric(p, t, average='macro', num_classes=3))(LOGITS, TARGETS)) == pytest.approx(macro, rel=1e-5)
    assert BootstrapMetric(partial(metric, average='macro'), num_resamples=5).compute(LOGITS, TARGETS).value == pytest.approx(macro, rel=1e-5)
    collection = MetricCollection({'f1': metric, 'accuracy': TransformedMetric('accuracy', predictions='argmax'), 'kappa': TransformedMetric('cohen_kappa', predictions='argmax')}, num_classes=3, average='macro')
    for i in range(0, 300, 100): collection.update(LOGITS[i:i + 100], TARGETS[i:i + 100])
    assert collection.compute()['f1'] == pytest.approx(macro, rel=1e-5) and ('kappa' in collection.state) + ('f1' in collection.state) == 1


# --- the last batches, outputs, tasks

@pytest.mark.parametrize('metric, arguments', [('mse', {}), ('r_squared', {}), (f1_score, {'average': 'macro', 'num_classes': 3}), (roc_auc, {'capacity': 200})])
def test_running_is_the_last_batches(metric, arguments):
    kind = 'labels' if metric is f1_score else 'scores' if metric is roc_auc else 'values'
    p, t = {'labels': (LABELS, TARGETS), 'scores': (P, (T > 0).astype(int)), 'values': (P, T)}[kind]
    running = Running(metric, window=3, **arguments)
    from calibrax.metrics.named import entry_of
    for i in range(0, 300, 30):
        running.update(p[i:i + 30], t[i:i + 30])
        first = max(0, i + 30 - 90)
        whole = entry_of(metric).fn(p[first:i + 30], t[first:i + 30], **{k: v for k, v in arguments.items() if k != 'capacity'})
        assert running.compute()[running.name] == pytest.approx(float(whole), rel=1e-4)

def test_running_keeps_its_size_and_takes_objects():
    running = Running(StatefulMetric('mse'), window=2)
    for _ in range(5): running.update(P, T, mask=TARGETS > 0)
    assert running.compute()['mse'] == pytest.approx(float(mse(P, T, mask=TARGETS > 0)), rel=1e-5)
    assert {x.shape[0] for x in jax.tree.leaves(running._state[0])} == {2}
    assert Running(streaming('mae'), window=1).name == 'mae'

def test_outputs():
    p, t = RNG.normal(size=(2, 60, 4)).astype(np.float32)
    p[3, 1] = math.nan
    metric = Multioutput('mse', skip_nan=True)
    for i in range(0, 60, 20): metric.update(p[i:i + 20], t[i:i + 20])
    own = [float(mse(np.delete(p[:, k], 3) if k == 1 else p[:, k], np.delete(t[:, k], 3) if k == 1 else t[:, k])) for k in range(4)]
    assert list(metric.compute().values()) == pytest.approx(own, rel=1e-5) == list(metric.compute_functional(p, t).values())
    assert math.isnan(Multioutput('mse').compute_functional(p, t)['1'])
    weights = RNG.random(60).astype(np.float32)
    weighted = Multioutput('mse', output_names='abcd')
    weighted.update(t, p, weights=weights)
    assert weighted.compute()['a'] == pytest.approx(float(mse(p[:, 0], t[:, 0], weights=weights)), rel=1e-5)

def test_tasks():
    tasks = Multitask({'x': 'mse', 'y': MetricCollection(['accuracy', 'cohen_kappa'], num_classes=3), 'z': StatefulMetric('mae')})
    for i in range(0, 300, 100): tasks.update({'x': P[i:i + 100], 'y': LABELS[i:i + 100], 'z': P[i:i + 100]}, {'x': T[i:i + 100], 'y': TARGETS[i:i + 100], 'z': T[i:i + 100]})
    values = tasks.compute()
    assert values['x'] == pytest.approx(float(mse(P, T)), rel=1e-5) and values['y_accuracy'] == pytest.approx(float(accuracy(LABELS, TARGETS))) and any(k.startswith('z') for k in values)
    with pytest.raises(MetricError, match='expected the tasks'): tasks.update({'x': P}, {'x': T})
    with pytest.raises(MetricError, match='has a state only'): tasks.compute_functional({'x': P, 'y': LABELS, 'z': P}, {'x': T, 'y': TARGETS, 'z': T})


# --- what was lost in silence

def test_objects_that_hold_one_metric_have_its_direction():
    for held in (MetricCollection(['accuracy']), StatefulMetric(streaming_together({'a': streaming('accuracy')})), Multitask({'A': 'accuracy'})): assert MetricTracker(held).direction == 'higher'
    assert MetricTracker(Multioutput('accuracy'), of='0').direction == 'higher'
    for unclear in (MetricCollection(['accuracy', 'mse']), MetricCollection([])):
        with pytest.raises(MetricError, match='direction'): MetricTracker(unclear)
    with pytest.raises(MetricError, match="no 'acc'"): MetricTracker(MetricCollection(['accuracy']), of='acc')
    with pytest.raises(MetricError): MetricTracker(StatefulMetric('accuracy'), of='acc').increment([1], [1])

def test_published_keywords():
    assert BootstrapMetric(metric_fn=mse, num_resamples=np.int64(3)).metric_fn is mse and ClasswiseWrapper(metric_fn=mse).entry.name == MetricTracker(metric_fn=mse).name == MinMaxTracker(metric_fn=mse).name == 'mse'

def test_results_of_the_same_name():
    with pytest.raises(MetricError): Multitask({'a': MetricCollection({'b': 'mse'}), 'a_b': 'mae'})
    with pytest.raises(MetricError): ClasswiseWrapper(mse).compute([1., 2.], [1., 1.], labels=['mean', 'x'])
    with pytest.raises(MetricError): Multioutput('mse', output_names=['a', 'a'])

def test_a_batch_of_all_tasks_or_of_none():
    tasks = Multitask({'A': 'mse', 'B': StatefulMetric('mae'), 'C': MetricCollection(['accuracy'], num_classes=2)})
    good = {'A': [1., 2.], 'B': [1., 2.], 'C': [0, 1]}
    targets = {'A': [1., 1.], 'B': [1., 1.], 'C': [0, 0]}
    tasks.update(good, targets)
    before = tasks.compute()
    with pytest.raises(MetricError, match="no task 'D'"): tasks.update(good, targets, mask={'D': [True, True]})
    with pytest.raises(MetricError): tasks.update({**good, 'C': [0, 1, 1]}, targets)
    assert tasks.compute() == before
    tasks.update(good, targets)
    assert tasks.compute() == before

@pytest.mark.parametrize('given', [MetricCollection(['accuracy']), streaming('accuracy'), StatefulMetric('accuracy')])
def test_arguments_are_not_dropped(given):
    for made in (lambda **k: Running(given, **k), lambda **k: Multioutput(given, **k)):
        for keywords in ({'num_classes': 3}, {'capacity': 10}):
            with pytest.raises(MetricError, match='has its arguments already'): made(**keywords)

@pytest.mark.parametrize('metric', ['roc_auc', MetricCollection(['roc_auc', 'mse'], capacity=50)])
def test_running_has_room_for_the_whole_window(metric):
    running = Running(metric, window=np.int64(3), **({'capacity': 50} if isinstance(metric, str) else {}))
    scores, labels = P, (T > 0).astype(np.int32)
    for i in range(0, 250, 50): running.update(scores[i:i + 50], labels[i:i + 50])
    assert running.compute()['roc_auc'] == pytest.approx(float(roc_auc(scores[100:250], labels[100:250])), rel=1e-5)

def test_equal_transformations_are_equal():
    first, second = (TransformedMetric('accuracy', threshold=.5) for _ in range(2))
    assert first == second and hash(first) == hash(second) and first.compiled is second.compiled and first != TransformedMetric('accuracy', threshold=.4) and first != TransformedMetric('f1_score', threshold=.5)
    assert streaming(first.entry) == streaming(second.entry) and hash(streaming(first.entry)) == hash(streaming(second.entry))

def test_outputs_by_name():
    outputs, by_place = Multioutput('mse'), Multioutput('mse')
    outputs.update(predictions=P[:100, None], targets=T[:100, None])
    by_place.update(P[:100, None], T[:100, None])
    assert outputs.compute() == by_place.compute()
    with pytest.raises(MetricError): outputs.update(predictions=P[:100, None])

def test_wrappers_pickle():
    for metric in (Running('mse'), MetricTracker(MetricCollection(['mse'])), Multitask({'a': 'mse'}), Multioutput('mse')):
        batch = (P[:50], T[:50]) if not isinstance(metric, (Multitask, Multioutput)) else (P[:50, None], T[:50, None]) if isinstance(metric, Multioutput) else ({'a': P[:50]}, {'a': T[:50]})
        metric.update(*batch)
        again = pickle.loads(pickle.dumps(metric))
        if not isinstance(metric, MetricTracker): assert again.compute() == metric.compute()
        else: assert again.increment() == metric.increment()
    assert pickle.loads(pickle.dumps(MetricTracker('mse'))).increment(P, T) == MetricTracker('mse').increment(P, T)
    assert pickle.loads(pickle.dumps(ClasswiseWrapper('mse'))).compute(P, T, LABELS) == ClasswiseWrapper('mse').compute(P, T, LABELS)
    assert pickle.loads(pickle.dumps(BootstrapMetric('mse', num_resamples=5))).compute(P, T) == BootstrapMetric('mse', num_resamples=5).compute(P, T)
    assert pickle.loads(pickle.dumps(TransformedMetric('accuracy', threshold=.5))) == TransformedMetric('accuracy', threshold=.5)
