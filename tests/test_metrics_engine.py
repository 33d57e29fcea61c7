"""The machinery under the metrics: the registry, one program for many metrics, sorting, and the names of the published package."""
import ast
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import calibrax.metrics as metrics
import calibrax.metrics.functional as functional
from calibrax.core.errors import MetricError, RegistryError
from calibrax.metrics.composition import MetricCollection
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.declarations import Decomposition, MetricEntry, MetricInputs, MetricTier
from calibrax.metrics.kernels import binned_sum, order, ranked, sort_on
from calibrax.metrics.registry import MetricRegistry, register_metric

HERE = Path(functional.__file__).parent
PUBLISHED = {           # reference: the names of the published package in the domains that are written
    'calibration': 'adaptive_calibration_error brier_decomposition brier_score classwise_ece expected_calibration_error maximum_calibration_error reliability_diagram_bins',
    'classification': 'accuracy average_precision balanced_accuracy cohen_kappa confusion_matrix f1_score fbeta_score log_loss matthews_corrcoef precision recall roc_auc sensitivity softmax_cross_entropy specificity',
    'distance': 'chebyshev_distance cosine_distance euclidean_distance hamming_distance jaccard_distance lorentz_distance mahalanobis_distance manhattan_distance minkowski_distance poincare_distance randers_distance',
    'divergence': 'SLICED_WASSERSTEIN_PROJECTIONS SLICED_WASSERSTEIN_REGISTRY_SEED bregman_divergence chi_squared_divergence f_divergence hellinger_distance js_divergence kl_divergence kolmogorov_smirnov_distance mmd mmd_squared_unbiased registry_sliced_wasserstein renyi_divergence reverse_kl_divergence sinkhorn_divergence sliced_wasserstein total_variation wasserstein_1d',
    'information': 'conditional_entropy cross_entropy entropy fisher_information_matrix mutual_information normalized_mutual_information',
    'ranking': 'coverage hit_rate mean_average_precision mean_reciprocal_rank ndcg ndcg_at_k precision_at_k recall_at_k',
    'regression': 'charbonnier_loss crps explained_variance huber_loss log_cosh_loss mae mape max_error mse per_sample_relative_l2 quantile_loss r_squared relative_error relative_l2_error rmse smape',
    'segmentation': 'dice_coefficient iou pixel_accuracy',
    'statistical': 'autocorrelation concordance_correlation kendall_tau pearson_correlation r_squared_adjusted skewness spearman_rank_correlation',
}


@pytest.mark.parametrize('module', PUBLISHED)
def test_published_names_are_there(module):
    home = __import__(f'calibrax.metrics.functional.{module}', fromlist=['x'])
    assert not [n for n in PUBLISHED[module].split() if not hasattr(home, n)]
    assert not [n for n in PUBLISHED[module].split() if not hasattr(functional, n)]


def test_the_package_hands_on_every_public_name():
    public = set()
    for file in HERE.glob('[a-z]*.py'):
        names = next(ast.literal_eval(n.value) for n in ast.parse(file.read_text()).body if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__')
        public |= {n for n in names if not n.startswith('_')}
    assert set(functional.__all__) == public
    for name in functional.__all__: getattr(functional, name)


def test_helpers_that_clients_import():
    from calibrax.metrics._utils import _prepare_arrays, safe_divide
    assert float(safe_divide(1., 2.)) == pytest.approx(.5)
    with pytest.raises(MetricError, match='Shape mismatch'): _prepare_arrays([1.], [1., 2.])


# --- the registry --------------------------------------------------------------------------------------------------------

@pytest.fixture
def registry():
    yield MetricRegistry()
    MetricRegistry.reset()

def elsewhere(predictions, targets): return jnp.sum(predictions - targets)


def test_reset_restores_the_built_ins(registry):
    before = registry.list_names()
    registry.clear()
    assert len(registry) == 0
    MetricRegistry.reset()
    assert registry.list_names() == before and len(before) > 100


def test_a_built_in_is_replaced_only_on_request(registry):
    with pytest.raises(RegistryError, match='registered already'): register_metric('mse')(elsewhere)
    register_metric('mse', replace=True)(elsewhere)
    assert registry.get_function('mse') is elsewhere
    MetricRegistry.reset()
    assert registry.get_function('mse') is functional.mse

def test_a_built_in_is_not_replaced_from_a_notebook_either(registry):
    def mse(predictions, targets): return 0.
    mse.__module__ = '__main__'
    with pytest.raises(RegistryError): register_metric('mse')(mse)

def test_a_cell_may_run_twice(registry):
    for _ in range(2):
        def mine(predictions, targets): return jnp.sum(predictions)
        mine.__module__ = '__main__'
        assert register_metric('mine')(mine) is mine
    assert registry.get_function('mine') is mine


def test_questions_to_the_registry(registry):
    names = lambda entries: {e.name for e in entries}
    assert names(registry.list_by_domain('general')) >= {'mse', 'mae', 'r_squared'}
    assert names(registry.list_by_tier(MetricTier.PURE_FUNCTION)) == set(registry)
    assert 'js_divergence' not in names(registry.list_true_metrics()), 'its root is a metric, and it is not'
    assert 'total_variation' in names(registry.list_true_metrics())
    assert 'brier_score' in names(registry.list_proper_scoring_rules())
    assert 'mse' in names(registry.list_by_invariance('translation')) and 'mse' in names(registry.list_jit_compatible())
    assert 'mse' in names(registry.search('SQUARED error'))
    with pytest.raises(RegistryError) as caught: registry.get('acuracy')
    assert "'accuracy'" in caught.value.hint
    register_metric('no_function', tier=MetricTier.LEARNED)
    registry.register('learned', MetricEntry(name='learned', fn=None, tier=MetricTier.LEARNED))
    with pytest.raises(TypeError): registry.get_function('learned')
    with pytest.raises(MetricError, match='not a pure function'): calculate_all([1.], [1.], metrics=['learned'])


# --- many metrics in one program -----------------------------------------------------------------------------------------

def test_shared_work_is_done_once(registry):
    calls = []
    def statistics(predictions, targets, *, power=2): calls.append(power); return jnp.abs(predictions - targets)**power
    for name, final in (('one', jnp.mean), ('two', jnp.max), ('three', jnp.min)):
        d = Decomposition(statistics=statistics, finalize=lambda s, final=final: final(s), merge=None)
        def fn(predictions, targets, *, power=2, d=d): return d(predictions, targets, power=power)
        fn.__module__ = '__main__'; fn.__qualname__ = name
        registry.register(name, MetricEntry(name=name, fn=fn, tier=MetricTier.PURE_FUNCTION, decomposition=d))
    p, t = np.float32([1, 2, 5]), np.float32([0, 0, 0])
    found = calculate_all(p, t, metrics=['one', 'two', 'three'])
    assert [float(found[k]) for k in ('one', 'two', 'three')] == [10, 25, 1] and calls == [2]
    calculate_all(p, t, metrics=['one', 'two', 'three'])
    assert calls == [2], 'the program is cached by its plan, not traced again'
    assert float(calculate_all(p, t, metrics=['two'], power=1)['two']) == 5 and calls == [2, 1], 'another static argument is other work'


def test_thresholds_do_not_share_by_chance():
    "torchmetrics merges two accuracies whose first batch gave the same counts; ours are told apart by their arguments"
    scores, targets = np.float32([.9, .1, .6, .8]), np.int32([1, 0, 0, 1])
    at = lambda x: float(calculate_all(scores, targets, metrics=['accuracy'], threshold=x)['accuracy'])
    assert at(.5) == .75 and at(.7) == 1.0


@pytest.mark.parametrize('domain,kind', [('general', MetricInputs.VALUES), ('classification', MetricInputs.LABELS), ('classification', MetricInputs.SCORES),
                                         ('classification', MetricInputs.CLASS_PROBABILITIES), ('calibration', MetricInputs.PROBABILITIES), ('segmentation', MetricInputs.MASKS), ('statistical', MetricInputs.PAIRED_SERIES)])
def test_all_of_a_domain_equal_one_by_one(domain, kind):
    "The flagship call: everything that fits, none of it a crash"
    from metric_inputs import MAKE, same
    p, t = MAKE[kind](np.random.default_rng(0), 40, 3)
    keywords = {} if kind in (MetricInputs.VALUES, MetricInputs.PAIRED_SERIES) else {'num_classes': 3} if kind != MetricInputs.SCORES and kind != MetricInputs.PROBABILITIES else {}
    found = calculate_all(p, t, domain=domain, **keywords)
    assert len(found) >= 3
    for name, value in found.items():
        entry = MetricRegistry().get(name)
        for_two = 'num_classes' in keywords and entry.takes('average') and inspect.signature(entry.fn).parameters['average'].default == 'binary'
        same(value, entry.fn(p, t, **{k: v for k, v in keywords.items() if entry.takes(k)}, **({'average': 'macro'} if for_two else {})), 2e-5, 2e-6)
    assert set(MetricCollection.from_registry(domain=domain).compute_functional(p, t, **keywords)) == set(found)


def test_default_set_is_the_general_domain():
    found = calculate_all([1., 2., 4.], [1., 3., 3.])
    assert list(found) == sorted(found) and {'mse', 'mae', 'rmse', 'r_squared', 'huber_loss', 'smape'} <= set(found) and 'crps' not in found


def test_collections_of_everything_do_not_crash():
    p = np.random.default_rng(0).random((8, 3), np.float32)
    assert MetricCollection.from_registry().compute_functional(p, np.zeros((8, 3), np.int32))
    assert MetricCollection.from_registry(domain='no such domain').compute_functional(p, p) == {}


def test_keywords_reach_the_metrics_that_take_them():
    values = calculate_all([1., 9.], [1., 1.], metrics=['mse', 'mae'], mask=[True, False])
    assert float(values['mse']) == float(values['mae']) == 0
    with pytest.raises(MetricError, match='takes quantil'): calculate_all([1.], [1.], metrics=['mse'], quantil=.5)


def test_many_in_one_program_inside_jit():
    step = jax.jit(lambda p, t: calculate_all(p, t, metrics=['mse', 'mae']))
    assert float(step(jnp.ones(3), jnp.zeros(3))['mse']) == 1


# --- kernels -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('shape', [(0,), (1,), (7,), (1000,), (3, 50)])
@pytest.mark.parametrize('dtype', [np.float32, np.float16, np.int32, np.int8, np.uint8, bool])
def test_orders_agree_with_numpy(shape, dtype):
    x = (np.random.default_rng(1).normal(size=shape)*3).astype(dtype)
    for where in ('auto', 'device'):
        with sort_on(where):
            assert (np.asarray(order(x)) == np.argsort(x, axis=-1, kind='stable')).all() and (np.asarray(jax.jit(order)(x)) == np.asarray(order(x))).all()
            o, first, last = map(np.asarray, ranked(x))
            for a, b in zip((o, first, last), jax.jit(ranked)(x)): assert (a == np.asarray(b)).all()
            s = np.take_along_axis(x, o, -1)
            for row, f, e in zip(s.reshape(-1, shape[-1] or 1), first.reshape(-1, shape[-1] or 1), last.reshape(-1, shape[-1] or 1)):
                assert (f == np.searchsorted(row, row, side='left')).all() and (e == np.searchsorted(row, row, side='right') - 1).all()


def test_sorting_in_threads_and_loops():
    "Sorting in threads neither hangs nor mixes"
    from concurrent.futures import ThreadPoolExecutor
    xs = [np.random.default_rng(i).random(50_000, np.float32) for i in range(8)]
    f = jax.jit(order)
    with ThreadPoolExecutor(8) as pool: found = list(pool.map(lambda x: np.asarray(order(x)), xs*3))
    assert all((np.asarray(f(x)) == o).all() for x, o in zip(xs, found))
    for x, o in zip(xs*3, found): assert (o == np.argsort(x, kind='stable')).all()
    scanned = jax.lax.scan(lambda c, x: (c, order(x)), 0, jnp.stack(xs))[1]
    assert (np.asarray(scanned) == np.argsort(np.stack(xs), axis=1, kind='stable')).all()


def test_sums_in_bins_keep_their_digits():
    rng = np.random.default_rng(2)
    index, x = rng.integers(0, 15, 1_000_000), rng.random(1_000_000, np.float32)
    np.testing.assert_allclose(binned_sum(jnp.asarray(index), jnp.asarray(x), 15), np.bincount(index, x.astype(float)), rtol=2e-6)


def test_gradients_pass_a_sort_as_zero():
    assert float(jax.grad(lambda x: jnp.sum(x*order(jax.lax.stop_gradient(x))))(jnp.array([3., 1.]))[0]) == 1
    x = jnp.array([.2, .9, .4])
    assert (np.asarray(jax.grad(lambda x: functional.roc_auc(x, jnp.array([0, 1, 0])))(x)) == 0).all()


def test_metrics_package_is_light():
    assert set(metrics.__all__) >= {'MetricCollection', 'MetricEntry', 'MetricProperties', 'MetricRegistry', 'MetricSignature', 'MetricTier', 'calculate_all', 'reduce_values', 'register_metric'}


def test_labels_are_counted_once_for_all_that_ask():
    "Accuracy, F1 and the matrix together are one program with one count"
    from calibrax.metrics.evaluation import plan_of, run_plan, step_of
    p, t = (np.random.default_rng(i).integers(0, 5, 999).astype(np.int32) for i in (0, 1))
    chosen = {'accuracy': functional.accuracy, 'f1': functional.f1_score, 'matrix': functional.confusion_matrix}
    steps = [step_of(n, MetricEntry(name=n, fn=f, tier='pure_function'), (p, t), {'num_classes': 5, 'average': 'macro'}) for n, f in chosen.items()]
    plan = plan_of(tuple(s for s, _ in steps))
    program = str(jax.make_jaxpr(lambda arrays: run_plan(plan, arrays))({'predictions': p, 'targets': t}))
    assert program.count('scatter-add') == 1
    for mask in (None, np.arange(999) % 3 > 0):
        found = MetricCollection(chosen).compute_functional(p, t, average='macro', mask=mask)
        assert found['accuracy'] == pytest.approx(float(functional.accuracy(p, t, mask=mask))) and found['f1'] == pytest.approx(float(functional.f1_score(p, t, average='macro', mask=mask)))
        assert (found['matrix'] == np.asarray(functional.confusion_matrix(p, t, mask=mask))).all()
    assert np.isnan(MetricCollection(chosen).compute_functional(p, np.where(t == 4, -1, t), num_classes=5, average='macro')['accuracy'])


def test_a_plan_is_looked_up_and_never_mixed_up():
    p, t = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])
    few, many = (calculate_all(p, t, metrics=['f1_score'], num_classes=n, average='none')['f1_score'].shape for n in (3, 4))
    assert few == (3,) and many == (4,)
    scores = np.float32([[.1, .9], [.8, .2]])
    assert float(calculate_all(scores, np.array([1, 1]), metrics=['top_k_accuracy'], k=1)['top_k_accuracy']) == .5
    with pytest.raises(MetricError, match='k must be'): calculate_all(scores, np.array([1, 1]), metrics=['top_k_accuracy'], k=0)
    for labels in (p, p + 7): assert calculate_all(labels, labels, metrics=['f1_score'], average='none')['f1_score'].shape == (labels.max() + 1,)   # counted anew
    big = np.array([0, 100_000])
    assert float(calculate_all(big, big, metrics=['accuracy'])['accuracy']) == 1
    values = jax.jit(lambda p, t: calculate_all(p, t, metrics=['mse', 'median_absolute_error']))(jnp.array([1., 2.]), jnp.array([1., 4.]))
    assert float(values['mse']) == 2 and float(jax.vmap(lambda p, t: calculate_all(p, t, metrics=['mse'])['mse'])(jnp.ones((3, 2)), jnp.zeros((3, 2))).sum()) == 3


def test_areas_inside_of_a_program():
    "Packed, a score and its label are sorted as one integer; and pairs where they do not fit"
    from sklearn.metrics import average_precision_score, roc_auc_score
    rng = np.random.default_rng(3)
    t = rng.integers(0, 2, 20_000)
    auc, ap = jax.jit(lambda s, t: functional.roc_auc(s, t)), jax.jit(lambda s, t: functional.average_precision(s, t))
    for s in (rng.random(20_000), rng.normal(size=20_000)*9, np.round(rng.normal(size=20_000), 1), np.exp(np.clip(rng.normal(0, 30, 20_000), -80, 80))*rng.choice([-1, 1], 20_000), np.where(t > 0, np.inf, rng.normal(size=20_000))):
        s = s.astype(np.float32)
        assert float(auc(s, t)) == pytest.approx(float(functional.roc_auc(s, t)), rel=1e-6) and float(ap(s, t)) == pytest.approx(float(functional.average_precision(s, t)), rel=1e-6)
        if np.isfinite(s).all(): assert float(auc(s, t)) == pytest.approx(roc_auc_score(t, s), rel=1e-5) and float(ap(s, t)) == pytest.approx(average_precision_score(t, s), rel=1e-5)
    assert (np.asarray(jax.grad(lambda s: auc(s, t))(jnp.asarray(s))) == 0).all()
    assert np.isnan(auc(np.where(np.arange(20_000) == 7, np.nan, s).astype(np.float32), t))


def test_scores_of_two_classes_have_no_third():
    with pytest.raises(MetricError, match='from 0 to 1|0 or 1'): functional.roc_auc([.1, .9, .4], [0, 1, 2], validate=True)
    with pytest.raises(MetricError, match='0 or 1'): functional.brier_score([.1, .9, .4], [0, 1, 2], validate=True)
    functional.brier_score(np.full((3, 3), 1/3), [0, 1, 2], validate=True)


def test_every_nan_is_the_same_setting():
    "A NaN that is made anew for each call must not make a new program of each call"
    from calibrax.metrics.compilation import static_value
    nans = [float('nan'), np.nan, np.float32('nan'), -float('nan')]
    assert {static_value(v, 'zero_division') for v in nans} == {static_value(float('nan'), 'zero_division')}
    assert static_value([1.0, float('nan')], 'x') == static_value([1.0, float('nan')], 'x')
