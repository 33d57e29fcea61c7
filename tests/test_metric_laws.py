"""The laws of metrics, for every registered metric that claims them. A new metric is tested by being registered; what it claims
in its declaration (differentiable, symmetric, a true metric, proper, invariances, bounds, a reference) is proved or it fails here.

Nearly all the time goes into compiling. So the laws of a metric run in one process (its name comes first in the id of a test, by which
`conftest.py` deals them out), and they use few shapes: 24, 60, 16, 11, 1 and none."""
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import CalibraxError
from calibrax.core.models import MetricDirection
from calibrax.metrics.declarations import MetricInputs as Kind
from calibrax.metrics.registry import MetricRegistry
from metric_inputs import double_precision, grid, inputs, leading, same

pytestmark = pytest.mark.filterwarnings('ignore:.*sum to one')      # scikit-learn, of rounded float32 probabilities

ENTRIES = [e for e in MetricRegistry().entries() if inputs(e) is not None]
DIFFERENTIABLE = [e for e in ENTRIES if e.properties.is_differentiable]
MERGING = [e for e in ENTRIES if e.decomposition and e.decomposition.merge]
def name(e): return getattr(e, 'name', None)
def that(condition): return pytest.mark.parametrize('entry', [e for e in ENTRIES if condition(e)], ids=name)
def takes(argument): return that(lambda e: e.takes(argument) and leading(e))


def call(entry, *arrays, **more): return entry.fn(*arrays, **{**entry.arguments, **more})
def repeat(arrays, counts): return [np.repeat(a, counts, axis=0) for a in arrays]
def real(a): return np.issubdtype(a.dtype, np.floating)
def tolerance(entry): return max(entry.tolerance, 1e-5)


@pytest.fixture(autouse=True)
def quick(request):
    "Nearly all the time goes into compiling; only where the optimiser itself is a suspect is it left on"
    careful = request.function is test_nan_is_never_lost
    if not careful: jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


def test_there_are_metrics(): assert len(ENTRIES) > 100


@pytest.mark.parametrize('entry', MetricRegistry().entries(), ids=name)
def test_is_declared_in_full(entry):
    assert entry.description.endswith('.') and len(entry.description) > 10
    assert entry.formula, 'a formula in LaTeX'
    assert entry.bounds[0] < entry.bounds[1]
    assert entry.reference or inspect.getdoc(entry.fn), 'what it is equal to'
    for parameter in inspect.signature(entry.fn).parameters.values(): assert parameter.annotation is not inspect.Parameter.empty, parameter


@that(lambda e: e.properties.is_jit_compatible)
def test_compiles(entry):
    "Under jit, and operation by operation, the same number comes out"
    arrays = inputs(entry)
    whole = jax.jit(lambda *a: call(entry, *a))(*arrays)
    with jax.disable_jit(): steps = call(entry, *map(jnp.asarray, arrays))
    same(whole, steps, 2e-5)


@that(lambda e: e.properties.is_jit_compatible)
def test_vmap_is_a_loop(entry):
    sets = [inputs(entry, seed) for seed in range(3)]
    together = jax.vmap(lambda *a: call(entry, *a))(*map(np.stack, zip(*sets)))
    for i, arrays in enumerate(sets): same(jax.tree.map(lambda x: x[i], together), call(entry, *arrays), 2e-5, 2e-6)


@that(lambda e: True)
def test_takes_lists_and_stays_in_its_bounds(entry):
    for seed in range(4):
        arrays = inputs(entry, seed)
        value = np.asarray(call(entry, *arrays))
        same(call(entry, *[a.tolist() for a in arrays]), value)
        low, high = entry.bounds
        assert np.isnan(value).any() or ((value >= low - 1e-5*max(1, abs(low) if np.isfinite(low) else 1)).all() and (value <= high + 1e-5*max(1, abs(high) if np.isfinite(high) else 1)).all()), value


def gradients(entry, *arrays):
    floats = [i for i, a in enumerate(arrays) if real(a)]
    def loss(*chosen):
        full = list(arrays)
        for i, a in zip(floats, chosen): full[i] = a
        return jnp.sum(jnp.stack([jnp.sum(x) for x in jax.tree.leaves(call(entry, *full))]))
    return jax.grad(loss, argnums=tuple(range(len(floats))))(*(arrays[i] for i in floats)) if floats else ()

@pytest.mark.parametrize('case', ['random', 'perfect match', 'constant', 'zero'])
@pytest.mark.parametrize('entry', DIFFERENTIABLE, ids=name)
def test_gradients_are_finite(entry, case):
    arrays = list(inputs(entry))
    if case == 'perfect match' and len(arrays) > 1 and real(arrays[0]):
        if arrays[0].shape == arrays[1].shape: arrays[0] = arrays[1].astype(np.float32)
        elif entry.inputs in (Kind.CLASS_PROBABILITIES, Kind.CLASS_SCORES, Kind.CLASSIFIER_PROBABILITIES, Kind.CLASSIFIER_SCORES): arrays[0] = np.eye(arrays[0].shape[1], dtype=np.float32)[arrays[1]]
        elif entry.inputs == Kind.ENSEMBLE: arrays[0] = np.repeat(arrays[1][:, None], arrays[0].shape[1], 1)
    if case == 'constant': arrays = [np.full_like(a, a.flat[0]) if real(a) else a for a in arrays]
    if case == 'zero' and entry.inputs in (Kind.VALUES, Kind.VECTORS, Kind.PAIRED_SERIES, Kind.DATA, Kind.SAMPLES, Kind.SAMPLES_1D) and 'lorentz' not in entry.name:
        arrays = [np.zeros_like(a) for a in arrays]
    for g in gradients(entry, *arrays): assert np.isfinite(g).all(), g


@that(lambda e: e.properties.is_differentiable and any(real(a) for a in inputs(e)))
def test_gradients_are_not_all_zero(entry):
    "What claims to be differentiable must be of use to an optimiser"
    assert any(np.abs(g).max() > 0 for g in gradients(entry, *inputs(entry)))


@takes('weights')
def test_integer_weights_are_repetition(entry):
    arrays = inputs(entry, n=60)
    counts = np.random.default_rng(5).permutation(np.repeat([0, 1, 2, 3], [20, 25, 10, 5])) # 60 again: the program of the references serves
    same(call(entry, *arrays, weights=counts.astype(np.float32)), call(entry, *repeat(arrays, counts)), 3e-5, 3e-6)


@takes('mask')
def test_a_false_mask_is_deletion(entry):
    "Whatever stands there: NaN, infinity or a label of no class"
    arrays = inputs(entry)
    keep = np.random.default_rng(6).permutation(len(arrays[0])) < 16
    for rubbish in (np.nan, np.inf, 1e30):
        spoiled = [np.where(keep.reshape((-1,) + (1,)*(a.ndim - 1)), a, rubbish if real(a) else -7).astype(a.dtype) for a in arrays]
        same(call(entry, *spoiled, mask=keep), call(entry, *[a[keep] for a in arrays]), 3e-5, 3e-6)
    if entry.properties.is_differentiable:
        for g in gradients_masked(entry, spoiled, keep): assert np.isfinite(g).all() and not np.asarray(g)[~keep].any(), 'the gradient of what is masked is zero'

def gradients_masked(entry, arrays, keep):
    class Masked:
        arguments, fn = {**entry.arguments, 'mask': keep}, staticmethod(entry.fn)
    return gradients(Masked, *arrays)


@takes('mask')
def test_padding_changes_nothing(entry):
    arrays = [a[:16] for a in inputs(entry)] # as many as are left above, so that its programs serve
    padded = [np.concatenate((a, np.zeros((8, *a.shape[1:]), a.dtype))) for a in arrays]
    same(call(entry, *padded, mask=np.arange(24) < 16), call(entry, *arrays), 3e-5, 3e-6)


@takes('mask')
def test_an_empty_mask_gives_a_number_or_nan(entry):
    value = call(entry, *inputs(entry), mask=np.zeros(len(inputs(entry)[0]), bool))
    assert not np.isinf(np.asarray(value)).any() or entry.bounds[1] == np.inf


@that(lambda e: leading(e) and e.inputs != Kind.DATA)
def test_one_sample_or_none_is_no_crash(entry):
    for n in (1, 0):
        try: call(entry, *[a[:n] for a in inputs(entry)])
        except CalibraxError as e: assert e.hint


@pytest.mark.parametrize('entry', [e for e in ENTRIES if e.decomposition], ids=name)
def test_is_its_decomposition(entry):
    arrays = inputs(entry)
    same(jax.jit(lambda *a: entry.decomposition(*a, **entry.arguments))(*arrays), call(entry, *arrays), 2e-5)


@pytest.mark.parametrize('entry', MERGING, ids=name)
def test_merging_is_associative_and_any_split_gives_the_same(entry):
    d, arrays = entry.decomposition, inputs(entry)
    known = inspect.signature(d.statistics).parameters
    static = {k: v for k, v in entry.arguments.items() if k in known}
    closing = {k: v for k, v in entry.arguments.items() if k in inspect.signature(d.finalize).parameters}
    statistics, merge = jax.jit(lambda *a, **k: d.statistics(*a, **k, **static)), jax.jit(d.merge)
    value = jax.jit(lambda s: d.finalize(s, **closing))
    a, b, c, one = (statistics(*[x[part] for x in arrays]) for part in (slice(0, 11), slice(11, 12), slice(12, 23), slice(23, 24)))
    whole = merge(merge(merge(a, b), c), one)
    same(whole, merge(a, merge(b, merge(c, one))), 1e-4, 1e-4)
    same(value(merge(one, merge(c, merge(b, a)))), call(entry, *arrays), 3e-5, 3e-6)
    same(value(whole), call(entry, *arrays), 3e-5, 3e-6)
    if 'mask' in known: same(value(merge(statistics(*arrays, mask=np.zeros(len(arrays[0]), bool)), whole)), call(entry, *arrays), 3e-5, 3e-6)


@that(lambda e: e.properties.is_symmetric and len(inputs(e)) > 1)
def test_is_symmetric(entry):
    p, t = inputs(entry)[:2]
    same(call(entry, p, t), call(entry, t, p), 2e-5)


@that(lambda e: e.properties.is_true_metric)
def test_triangle_inequality_and_identity(entry):
    assert entry.properties.is_symmetric
    for seed in range(20):
        (a, b), (c, _) = inputs(entry, seed, 3)[:2], inputs(entry, seed + 100, 3)[:2]
        if entry.inputs == Kind.VECTORS: a, b, c = a[0], b[0], c[0]
        ab, bc, ac = (float(call(entry, x, y)) for x, y in ((a, b), (b, c), (a, c)))
        assert ac <= ab + bc + 1e-5, (ab, bc, ac)
        assert ab >= 0 and abs(float(call(entry, a, a))) < 1e-6


def scoring(entry, prediction, truth):
    "The expected score of a prediction when the outcome follows `truth`"
    if entry.inputs == Kind.PROBABILITIES: return float(call(entry, np.float32([prediction[1]]*2), np.array([0, 1]), weights=np.float32(truth[:2]/truth[:2].sum())))
    return float(call(entry, np.tile(prediction, (len(truth), 1)).astype(np.float32), np.arange(len(truth)), weights=truth.astype(np.float32)))

@that(lambda e: e.properties.is_proper and e.inputs in (Kind.PROBABILITIES, Kind.CLASS_PROBABILITIES, Kind.CLASSIFIER_PROBABILITIES) and e.takes('weights'))
def test_honesty_is_best(entry):
    rng = np.random.default_rng(7)
    for _ in range(10):
        truth, other = rng.dirichlet(np.ones(2 if entry.inputs == Kind.PROBABILITIES else 4), 2)
        better = np.less if entry.direction == MetricDirection.LOWER else np.greater
        assert better(scoring(entry, truth, truth), scoring(entry, other, truth) + 1e-6)


CHANGES = {
    'translation': lambda arrays, r: [a + np.float32(8192) if real(a) else a for a in arrays],
    'scale': lambda arrays, r: [arrays[0]*np.float32(8), *arrays[1:]],
    'monotone': lambda arrays, r: [np.exp(arrays[0]*.5) + 3, *arrays[1:]],
    'permutation': lambda arrays, r: [a[r] for a in arrays],
    'rotation': lambda arrays, r: [(a @ np.linalg.qr(np.random.default_rng(3).normal(size=(a.shape[-1],)*2))[0]).astype(np.float32) for a in arrays],
}

@pytest.mark.parametrize('entry,change', [(e, i) for e in ENTRIES for i in e.properties.invariances if i in CHANGES], ids=lambda x: getattr(x, 'name', x))
def test_invariances(entry, change):
    "Far from zero too: a shift by 8192 is exact for these inputs, and costs no accuracy"
    arrays = inputs(entry)
    changed = CHANGES[change](list(arrays), np.random.default_rng(8).permutation(len(arrays[0])))
    same(call(entry, *changed), call(entry, *arrays), 1e-4 if change == 'translation' else 2e-5, 2e-5 if change == 'translation' else 2e-6)


@pytest.mark.parametrize('half', [jnp.float16, jnp.bfloat16], ids=['float16', 'bfloat16'])
@that(lambda e: any(real(a) for a in inputs(e)))
def test_half_precision_is_summed_in_single(entry, half):
    rounded = [np.asarray(jnp.asarray(a).astype(half)) if real(a) else a for a in inputs(entry)]
    value = call(entry, *rounded)
    same(value, call(entry, *[a.astype(np.float32) if not np.issubdtype(a.dtype, np.integer) else a for a in rounded]), 1e-5)
    assert all(x.dtype != half for x in jax.tree.leaves(value))


@pytest.mark.filterwarnings('error:scatter inputs have incompatible types')
@that(lambda e: True)
def test_double_precision_gives_the_same(entry):
    arrays = inputs(entry)
    with double_precision(): value = jax.device_get(call(entry, *[a.astype(np.float64) if real(a) else a.astype(np.int64) for a in arrays]))
    same(value, call(entry, *arrays), max(entry.tolerance, 2e-4), 1e-5)


FLAT = (Kind.VALUES, Kind.NON_NEGATIVE, Kind.POSITIVE, Kind.VECTORS, Kind.PAIRED_SERIES, Kind.DATA, Kind.SAMPLES_1D, Kind.SCORES, Kind.PROBABILITIES)

@pytest.mark.parametrize('n', [24, 300_000], ids=['few', 'many'])
@that(lambda e: real(inputs(e)[0]) and e.properties.is_jit_compatible)
def test_nan_is_never_lost(entry, n):
    "Many numbers too: XLA's maximum of an array that it splits over several threads forgets them"
    if n > 24 and entry.inputs not in FLAT: pytest.skip('not linear in time')
    arrays = list(inputs(entry, n=n))
    arrays[0] = arrays[0].copy()
    arrays[0].flat[arrays[0].size//3] = np.nan
    assert any(np.isnan(x).any() for x in jax.tree.leaves(jax.device_get(call(entry, *arrays)))), 'a NaN goes in, a number comes out'


# --- references ----------------------------------------------------------------------------------------------------------

def names_in(reference): return [n for n in ('sklearn', 'scipy', 'torchmetrics') if re.search(rf'\b{n}\b', reference)]

def reference_value(reference, arrays, weights=None):
    "The sentence of the declaration, evaluated: modules by their own names, data in float64"
    import scipy.special, scipy.stats, scipy.spatial.distance, sklearn.metrics # noqa: F401
    arrays = [a.astype(np.float64) if real(a) else a for a in arrays]
    data = dict(zip(('predictions', 'targets', 'third'), arrays))
    scope = {'np': np, 'scipy': scipy, 'sklearn': sklearn, 'weights': weights, **data}
    if 'torchmetrics' in reference:
        import torch, torchmetrics.functional # noqa: F401
        scope.update(torch=torch, torchmetrics=torchmetrics, **{k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in data.items()})
    return np.asarray(eval(reference, scope))

def there(entry):
    for module in names_in(entry.reference): pytest.importorskip(module)

@that(lambda e: e.reference)
def test_equals_its_reference(entry):
    there(entry)
    for seed in range(3):
        arrays = inputs(entry, seed, 60)
        wanted = reference_value(entry.reference, arrays)
        np.testing.assert_allclose(np.asarray(call(entry, *arrays), np.float64), wanted, rtol=tolerance(entry), atol=1e-6)


@that(lambda e: 'weights' in e.reference and e.takes('weights'))
def test_equals_its_reference_with_weights(entry):
    there(entry)
    arrays = inputs(entry, 4, 60)
    weights = np.random.default_rng(9).uniform(.5, 3, 60).astype(np.float32)
    np.testing.assert_allclose(np.asarray(call(entry, *arrays, weights=weights), np.float64), reference_value(entry.reference, arrays, weights.astype(np.float64)),
                               rtol=10*tolerance(entry), atol=1e-6)


@pytest.mark.parametrize('offset', [1e4, 1e8])
@that(lambda e: e.reference and e.inputs in (Kind.VALUES, Kind.PAIRED_SERIES, Kind.DATA) and 'torchmetrics' not in e.reference)
def test_equals_its_reference_far_from_zero(entry, offset):
    "In float32 the reference gets the same rounded inputs"
    there(entry)
    arrays = [(grid(np.random.default_rng(i), 400)*(1 if offset < 1e6 else 4096) + np.float32(offset)).astype(np.float32) for i in range(len(inputs(entry)))]
    np.testing.assert_allclose(np.asarray(call(entry, *arrays), np.float64), reference_value(entry.reference, arrays), rtol=20*tolerance(entry), atol=1e-6)
