"""The laws of streaming metrics, for every registered metric that can be one: a metric with statistics that merge, or with a mask
and a capacity, is tested here by being registered."""
import pickle

import jax
import jax.numpy as jnp
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.registry import MetricRegistry
from calibrax.metrics.streaming import streaming
from metric_inputs import inputs, leading, same

ENTRIES = [e for e in MetricRegistry().entries() if inputs(e) is not None and leading(e)]
MERGING = [e for e in ENTRIES if e.decomposition and e.decomposition.merge]
KEEPING = [e for e in ENTRIES if e not in MERGING and e.takes('mask')]
BY_IMAGE = [e for e in MERGING if e.takes('aggregation')]
STREAMING = [(e, {}) for e in MERGING] + [(e, {'aggregation': 'sample'}) for e in BY_IMAGE] + [(e, {'capacity': 40}) for e in KEEPING]

def whole(entry, how, arrays): return entry.fn(*arrays, **entry.arguments, **{k: v for k, v in how.items() if k != 'capacity'})



@pytest.fixture(autouse=True)
def quick():
    "Nearly all the time goes into compiling"
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


def parts(arrays, *ends): return [[a[i:j] for a in arrays] for i, j in zip((0, *ends), (*ends, len(arrays[0])))]

def start(metric, arrays):
    "The state of no data, which is the same without an example, where there can be one"
    empty = metric.init(*arrays)
    try: same(metric.init(), empty)
    except MetricError as e: assert 'example' in e.hint
    return empty


def test_there_are_many(): assert len(MERGING) > 100 and len(KEEPING) > 10 and len(BY_IMAGE) > 5


@pytest.mark.parametrize('entry,how', STREAMING, ids=lambda x: getattr(x, 'name', ''))
def test_laws(entry, how):
    "In one test, since each law needs the same programs: any split, merging, the identity, scan, reset, copies, and constant memory"
    arrays = inputs(entry)
    metric = streaming(entry.name, **how, **entry.arguments)
    wanted = whole(entry, how, arrays)
    tolerance = dict(rtol=3e-5, atol=3e-6)
    empty = start(metric, arrays)
    # one batch, and three equal ones, in a loop
    states = [metric.update(empty, *batch) for batch in parts(arrays, 8, 16)]
    looped = empty
    for batch in parts(arrays, 8, 16): looped = metric.update(looped, *batch)
    same(metric.compute(looped), wanted, **tolerance)
    # merging: in any order of brackets, and with nothing
    a, b, c = states
    same(metric.compute(metric.merge(metric.merge(a, b), c)), wanted, **tolerance)
    same(metric.compute(metric.merge(a, metric.merge(b, c))), wanted, **tolerance)
    same(metric.merge(empty, a), a), same(metric.compute(metric.merge(looped, empty)), wanted, **tolerance)
    # a state is a plain pytree of arrays of constant shapes
    for state in (empty, a, looped): assert [(x.shape, x.dtype) for x in jax.tree.leaves(state)] == [(x.shape, x.dtype) for x in jax.tree.leaves(empty)]
    same(metric.compute(pickle.loads(pickle.dumps(jax.device_get(looped)))), wanted, **tolerance)
    # scan is the loop
    scanned, _ = jax.jit(lambda s, x: jax.lax.scan(lambda s, b: (metric.update(s, *b), None), s, x))(empty, tuple(jnp.stack(x) for x in zip(*parts(arrays, 8, 16))))
    same(metric.compute(scanned), wanted, **tolerance)
    # the value of a batch, beside taking it
    after, value = metric.forward(b, *parts(arrays, 8, 16)[0])
    same(value, whole(entry, how, parts(arrays, 8, 16)[0]), **tolerance), same(after, metric.merge(b, a), 1e-5)
    # equal metrics share their programs
    again = streaming(entry.name, **how, **entry.arguments)
    assert again == metric and hash(again) == hash(metric)
