"""Collections, suites, weights and thresholds: the faults of the published package, and that streaming equals the whole."""
import json
import math
import pickle
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics import MetricRegistry
from calibrax.metrics.composition import MetricCollection, MetricSuite, ThresholdMetric, ThresholdResult, WeightedMetric, streaming_of
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.functional.classification import accuracy, f1_score
from calibrax.metrics.functional.regression import mse, r_squared
from calibrax.metrics.named import NamedValues, entry_of, evaluate_fitting
from calibrax.metrics.wrappers import TransformedMetric

RNG = np.random.default_rng(0)
LABELS, TARGETS = RNG.integers(0, 3, 120), RNG.integers(0, 3, 120)
P, T = RNG.normal(size=120).astype(np.float32), RNG.normal(size=120).astype(np.float32)


# --- faults of the published package

def test_everything_can_be_computed_of_everything():
    result = MetricSuite.from_registry_domains().compute_all(P, T)      # upstream: ValueError from classwise_ece
    assert result['general']['mse'] == pytest.approx(float(np.mean((P - T)**2)), rel=1e-5)
    assert 'classwise_ece' in result.left_out['calibration']
    everything = MetricCollection.from_registry().compute_functional(P, T)
    assert everything['mse'] == result['general']['mse'] and 'classwise_ece' in everything.left_out
    counted = sum(map(len, result.values())) + sum(map(len, result.left_out.values()))
    assert counted == sum(e.fn is not None for e in MetricRegistry().entries())

def test_an_unknown_domain_is_empty():
    assert MetricCollection.from_registry(domain='image').compute_functional(P, T) == {}

def test_nan_fails_a_threshold():
    for bounds in ({'max_value': .1}, {'min_value': .1}, {'min_value': 0, 'max_value': math.inf}):
        assert not ThresholdMetric('mse', **bounds).evaluate([math.nan], [1.0]).passed

def test_published_threshold_arguments():
    with pytest.raises(ValueError, match='no bound'): ThresholdMetric('mse')
    with pytest.raises(KeyError): ThresholdMetric('no such metric', max_value=1)
    metric = ThresholdMetric('mse', min_value=1, max_value=4)
    assert (metric.metric_name, metric.min_value, metric.max_value) == ('mse', 1, 4)
    assert metric.evaluate([1.], [0.]).passed and metric.evaluate([2.], [0.]).passed and not metric.evaluate([2.1], [0.]).passed
    result = ThresholdResult(value=1.0, passed=True, threshold=4.0, metric_name='mse')
    assert result['passed'] is True and dict(result)['metric_name'] == 'mse' and isinstance(result, Mapping)
    assert json.loads(metric.evaluate([math.nan], [0.]).to_json())['value'] == 'NaN'

def test_bounds_are_inclusive_in_float32_too():
    for tenths in range(1, 10):
        said = [1]*tenths + [0]*(10 - tenths)
        assert ThresholdMetric(accuracy, min_value=tenths/10, max_value=tenths/10).evaluate(said, [1]*10).passed

def test_published_weighted_metric():
    assert WeightedMetric({'a': .5, 'b': 2}).compute({'a': 2.0, 'b': 3.0, 'c': 7.0}) == 7.0
    assert WeightedMetric({'a': .5, 'b': 1.5}).normalized_weights == {'a': .25, 'b': .75}
    with pytest.raises(KeyError): WeightedMetric({'a': 1}).compute({'b': 1})
    with pytest.raises(ValueError): WeightedMetric({})

def test_scaled_weights_turn_errors_around():
    score = WeightedMetric({'accuracy': 3, 'rmse': 1}, scaled=True, bounds={'rmse': (0, 10)})
    assert score.compute({'accuracy': 1.0, 'rmse': 0.0}) == 1 and score.compute({'accuracy': 0.0, 'rmse': 10.0}) == 0
    assert score.compute({'accuracy': .5, 'rmse': 5.0}) == pytest.approx(.5)
    assert math.isnan(score.compute({'accuracy': math.nan, 'rmse': 1}))


# --- collections

def test_published_collection():
    collection = MetricCollection({'a': mse, 'b': lambda p, t: jnp.max(jnp.abs(p - t))})
    collection.add('c', r_squared)
    assert collection.names == ['a', 'b', 'c']
    collection.remove('b')
    assert set(collection.compute_functional([1., 2.], [1., 3.])) == {'a', 'c'}
    with pytest.raises(KeyError, match="'x' not found in collection"): collection.remove('x')

def test_names_nest_and_values_are_those_of_the_functions():
    inner = MetricCollection({'f1': partial(f1_score, average='macro')}, prefix='p_')
    outer = MetricCollection({'own': accuracy, 'in': inner}, postfix='_q', num_classes=3)
    assert outer.names == ['own_q', 'in_p_f1_q']
    values = outer.compute_functional(LABELS, TARGETS)
    assert values == {'own_q': pytest.approx(float(accuracy(LABELS, TARGETS))), 'in_p_f1_q': pytest.approx(float(f1_score(LABELS, TARGETS, average='macro')))}
    assert pickle.loads(pickle.dumps(values)) == values and json.loads(json.dumps(values)) == values

def test_arguments_go_where_they_are_set():
    values = MetricCollection({'micro': partial(f1_score, average='micro'), 'macro': partial(f1_score, average='macro'), 'weighted': f1_score}, average='weighted').compute_functional(LABELS, TARGETS)
    assert values == {a: pytest.approx(float(f1_score(LABELS, TARGETS, average=a)), rel=1e-6) for a in ('micro', 'macro', 'weighted')}

def test_keywords_that_nobody_takes_are_named():
    with pytest.raises(MetricError, match='takes num_clases'): MetricCollection([mse]).compute_functional(P, T, num_clases=3)
    with pytest.raises(MetricError, match='takes num_clases'): MetricSuite.from_registry_domains().compute_all(P, T, num_clases=3)

def test_the_suite_says_what_it_leaves_out():
    suite = MetricSuite()
    suite.add_group('g', ['mse', 'accuracy', 'entropy'])
    result = suite.compute_all(P, T)
    assert list(result['g']) == ['mse'] and set(result.left_out['g']) == {'accuracy', 'entropy'} and 'float32' in result.left_out['g']['accuracy']
    assert suite.list_groups() == ['g']
    with pytest.raises(KeyError): suite.add_group('h', ['nothing like it'])

def test_a_metric_that_refuses_is_left_out_in_its_own_words():
    values, why = evaluate_fitting({n: entry_of(n) for n in ('accuracy', 'boundary_iou')}, LABELS, TARGETS, {})
    assert list(values) == ['accuracy'] and 'axes of space' in why['boundary_iou']


# --- streaming

def batches(*arrays, size=50):
    return [tuple(a[i:i + size] for a in arrays) for i in range(0, len(arrays[0]), size)]

@pytest.fixture(scope='module')
def streamed():
    collection = MetricCollection({'accuracy': 'accuracy', 'f1': f1_score, 'kappa': 'cohen_kappa', 'recall': 'recall'}, num_classes=3, average='macro')
    for p, t in batches(LABELS, TARGETS): collection.update(p, t)
    return collection

def test_streaming_equals_the_whole(streamed):
    assert streamed.compute() == {k: pytest.approx(v, rel=1e-5) for k, v in streamed.compute_functional(LABELS, TARGETS).items()}
    assert list(streamed.compute()) == streamed.names

def test_equal_statistics_have_one_state(streamed):
    assert len([k for k in streamed.state if k in ('f1', 'kappa', 'recall')]) == 1

def test_thresholds_do_not_share():
    collection = MetricCollection({'half': TransformedMetric(accuracy, threshold=.5), 'more': TransformedMetric(accuracy, threshold=.7)})
    collection.update([.9, .1], [1, 0])                                 # both have all right, and their states coincide
    collection.update([.6, .6], [1, 1])
    assert collection.compute() == {'half': 1.0, 'more': .5}

def test_forward_merge_reset_and_state(streamed):
    first, second = (MetricCollection(['mse', 'r_squared']) for _ in range(2))
    assert first.forward(P[:60], T[:60])['mse'] == pytest.approx(float(mse(P[:60], T[:60])), rel=1e-6)
    second.update(P[60:], T[60:])
    first.merge(second)
    assert first.compute()['r_squared'] == pytest.approx(float(r_squared(P, T)), rel=1e-5)
    again = MetricCollection(['mse', 'r_squared'])
    again.state = pickle.loads(pickle.dumps(jax.device_get(first.state)))
    assert again.compute() == first.compute()
    first.reset()
    with pytest.raises(MetricError, match='no batch yet'): first.compute()
    with pytest.raises(MetricError, match='the same metrics'): first.merge(streamed)

def test_masks_and_weights_stream():
    collection, mask, weights = MetricCollection([mse, 'mae']), RNG.random(120) < .7, RNG.random(120).astype(np.float32)
    for p, t, m, w in batches(P, T, mask, weights): collection.update(p, t, mask=m, weights=w)
    assert collection.compute() == {k: pytest.approx(float(v), rel=1e-5) for k, v in calculate_all(P, T, metrics=['mse', 'mae'], mask=mask, weights=weights).items()}

def test_a_domain_streams_as_far_as_it_can():
    collection = MetricCollection.from_registry(domain='general')
    for p, t in batches(P, T): collection.update(p, t)
    values = collection.compute()
    assert values['mse'] == pytest.approx(float(mse(P, T)), rel=1e-5) and 'do not merge' in values.left_out['median_absolute_error'] and 'crps' not in values

def test_the_pure_functions_scan():
    metric = MetricCollection(['mse', 'r_squared']).streaming
    state, _ = jax.lax.scan(lambda s, b: (metric.update(s, *b), None), metric.init(), (P.reshape(6, 20), T.reshape(6, 20)))
    assert float(metric.compute(state)['r_squared']) == pytest.approx(float(r_squared(P, T)), rel=1e-4)
    assert streaming_of(metric) is metric and streaming_of(partial(f1_score, average='macro', num_classes=3)).name == 'f1_score'

def test_displays_and_plots(streamed):
    import matplotlib.pyplot as plt
    suite = MetricSuite.from_registry_domains()
    for shown in (streamed, streamed.compute(), suite, suite.compute_all(P, T), WeightedMetric({'mse': 1.0}), ThresholdMetric('mse', max_value=1).judge(.5)):
        assert '<table' in shown._repr_html_() and repr(shown)
    for figure, _ in (streamed.plot(), streamed.compute().plot(), suite.compute_all(P, T).plot('general'), WeightedMetric({'a': 1.0}).plot({'a': 2.0}), ThresholdMetric('mse', min_value=1).judge(.5).plot()): plt.close(figure)
    assert NamedValues({'a': 1}) == {'a': 1}


# --- names, states and arguments that do not fit together

def test_results_of_the_same_name_are_refused():
    several = [partial(f1_score, average='macro'), partial(f1_score, average='micro')]
    for made in (lambda: MetricCollection(several), lambda: MetricCollection(['mse', 'mse']), lambda: MetricCollection({'a': MetricCollection({'b': 'mse'}), 'a_b': 'mae'}),
                 lambda: MetricCollection([MetricCollection(['mse']), 'mse'])):
        with pytest.raises(MetricError, match='two results are called'): made()
    collection = MetricCollection({'a': MetricCollection({'b': 'mse'})})
    with pytest.raises(MetricError, match="'a_b'"): collection.add('a_b', 'mae')
    collection.add(name='other', fn='mae')
    assert collection.names == ['a_b', 'other']

def test_only_equal_metrics_merge_and_only_their_state_is_set():
    a, b = (MetricCollection({'f1': f1_score}, average=average, num_classes=3) for average in ('macro', 'micro'))
    for c in (a, b): c.update([0, 1, 2], [0, 1, 1])
    with pytest.raises(MetricError, match='not the same arguments'): a.merge(b)
    errors = MetricCollection(['mse'])
    with pytest.raises(MetricError, match='state'): errors.state = a.state
    with pytest.raises(MetricError, match='state'): MetricCollection({'f1': f1_score}, average='macro', num_classes=4).state = a.state
    again = MetricCollection({'f1': f1_score}, average='macro', num_classes=3)
    again.state = pickle.loads(pickle.dumps(a.state))
    assert again.compute() == a.compute()

def test_reset_forgets_the_choice_of_a_domain():
    whole = MetricCollection.from_registry(domain='classification')
    scores, labels = np.float32([.1, .8, .4]), np.int32([0, 1, 1])
    whole.update(scores, labels)
    first = set(whole.compute())
    whole.reset()
    whole.update(labels, labels)
    assert 'accuracy' in whole.compute() and 'accuracy' not in first
    with pytest.raises(MetricError, match='reset'): whole.prefix = 'val_'
    whole.reset()
    whole.prefix = 'val_'
    whole.update(labels, labels)
    assert whole.compute()['val_accuracy'] == 1

def test_what_is_added_within_stays_there():
    inner = MetricCollection(['mse'])
    outer = MetricCollection({'in': inner})
    outer.update([1.], [3.])
    inner.add('mae', 'mae')
    outer.update([1.], [3.])
    assert outer.compute() == {'in_mse': 4.0} and inner.names == ['mse', 'mae']

def test_collections_and_the_like_pickle():
    collection = MetricCollection(['mse', partial(f1_score, average='macro', num_classes=2)])
    collection.update([0, 1], [0, 0])
    assert pickle.loads(pickle.dumps(collection)).compute() == collection.compute()
    suite = MetricSuite()
    suite.add_group('errors', ['mse'])
    assert pickle.loads(pickle.dumps(suite)).compute_all([1.], [2.]) == suite.compute_all([1.], [2.])
    assert pickle.loads(pickle.dumps(ThresholdMetric('mse', max_value=1))).evaluate([1.], [1.]).passed

def test_weights_say_what_is_wrong():
    for wrong in (dict(weights={'accuracy': '1'}), dict(weights=['accuracy']), dict(weights={'accuracy': 1}, bounds={'acc': (0, 1)}), dict(weights={'accuracy': 1}, directions={'acc': 'higher'}),
                  dict(weights={'accuracy': 1}, bounds={'accuracy': 3}), dict(weights={'x': 1}, bounds={'x': (0, 1)}, directions={'x': 'up'})):
        with pytest.raises(MetricError): WeightedMetric(**wrong, scaled=True)
    score = WeightedMetric({'rmse': 1}, scaled=True, bounds={'rmse': (0, 10)})
    assert score.compute({'rmse': 12.}) == 0 and score.compute({'rmse': 0.}) == 1 and WeightedMetric({'rmse': 2}).compute({'rmse': 12.}) == 24
    with pytest.raises(MetricError): score.compute({'rmse': 'low'})

def test_bounds_are_rounded_to_any_float():
    assert ThresholdMetric('mse', max_value=.1).judge(jnp.bfloat16(.1)).passed and not ThresholdMetric('mse', max_value=.1).judge(jnp.bfloat16(.11)).passed

def test_suites_say_the_true_reason():
    suite = MetricSuite()
    with pytest.raises(MetricError, match='a text|the text'): suite.add_group('a', 'mse')
    suite.add_group('a', ['mse', 'accuracy'])
    assert set(suite.compute_all(np.zeros(3), np.zeros(5)).left_out['a'].values()) == {'takes as many predictions as targets, not 3 and 5'}

def test_a_clone_is_a_collection_of_its_own():
    train = MetricCollection(['mse'], prefix='train_')
    train.update([1.], [3.])
    val = train.clone(prefix='val_')
    val.add('mae', 'mae')
    val.update([1.], [2.])
    assert val.compute() == {'val_mse': 1.0, 'val_mae': 1.0} and train.compute() == {'train_mse': 4.0} and list(val) == val.keys() and val['val_mse'].name == 'mse'
