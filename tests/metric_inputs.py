"""Inputs for metrics, made from what their declaration says: used by the laws, so that a new metric is tested by being registered."""
import jax
import numpy as np

from calibrax.metrics.declarations import MetricInputs as Kind

def double_precision():
    "A block in which arrays may have 64 bits; JAX has moved it"
    return jax.enable_x64(True) if hasattr(jax, 'enable_x64') else jax.experimental.enable_x64()


CLASSES, LABELS = 4, 5


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return (e/e.sum(-1, keepdims=True)).astype(np.float32)

def grid(rng, shape):
    "Numbers on a grid of 1/64, so that adding 8192 is exact in float32; ties included"
    return (np.round(rng.normal(size=shape)*64)/64).astype(np.float32)

def ball(rng, shape):
    x = rng.normal(size=shape)
    return (0.9*x/(1 + np.linalg.norm(x, axis=-1, keepdims=True))).astype(np.float32)

def hyperboloid(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    return np.concatenate((np.sqrt(1 + (x**2).sum(-1, keepdims=True)), x), -1).astype(np.float32)


MAKE = {                                                    # kind → (rng, n, classes) → the leading arguments
    Kind.VALUES: lambda r, n, c: (grid(r, n), grid(r, n)),
    Kind.PAIRED_SERIES: lambda r, n, c: (grid(r, n), grid(r, n)),
    Kind.POSITIVE: lambda r, n, c: tuple(np.exp(r.normal(size=(2, n))).astype(np.float32)),
    Kind.NON_NEGATIVE: lambda r, n, c: (np.exp(r.normal(size=n)).astype(np.float32), np.where(r.random(n) < .2, 0, np.exp(r.normal(size=n))).astype(np.float32)),
    Kind.LABELS: lambda r, n, c: (r.integers(0, c, n).astype(np.int32), r.integers(0, c, n).astype(np.int32)),
    Kind.BINARY_LABELS: lambda r, n, c: (r.integers(0, 2, n).astype(np.int32), r.integers(0, 2, n).astype(np.int32)),
    Kind.SCORES: lambda r, n, c: (np.round(r.normal(size=n)*4).astype(np.float32)/4, both(r, n)),
    Kind.PROBABILITIES: lambda r, n, c: (r.uniform(.02, .98, n).astype(np.float32), both(r, n)),
    Kind.CLASS_PROBABILITIES: lambda r, n, c: (softmax(r.normal(size=(n, c))), r.permutation(np.arange(n) % c).astype(np.int32)),
    Kind.CLASS_SCORES: lambda r, n, c: (r.normal(size=(n, c)).astype(np.float32), r.permutation(np.arange(n) % c).astype(np.int32)),
    Kind.CLASSIFIER_PROBABILITIES: lambda r, n, c: MAKE[Kind.CLASS_PROBABILITIES](r, n, c),
    Kind.CLASSIFIER_SCORES: lambda r, n, c: MAKE[Kind.CLASS_SCORES](r, n, c),
    Kind.MULTILABEL: lambda r, n, c: (r.uniform(.02, .98, (n, LABELS)).astype(np.float32), np.stack([both(r, LABELS) for _ in range(n)])),
    Kind.MASKS: lambda r, n, c: (r.integers(0, c, (n, 6, 7)).astype(np.int32), r.integers(0, c, (n, 6, 7)).astype(np.int32)),
    Kind.ENSEMBLE: lambda r, n, c: (r.normal(size=(n, 6)).astype(np.float32), r.normal(size=n).astype(np.float32)),
    Kind.VECTORS: lambda r, n, c: (grid(r, (n, 3)), grid(r, (n, 3))),
    Kind.DISTRIBUTIONS: lambda r, n, c: tuple(softmax(r.normal(size=(2, 8)))),
    Kind.JOINT: lambda r, n, c: (softmax(r.normal(size=12)).reshape(3, 4),),
    Kind.SAMPLES: lambda r, n, c: (grid(r, (n, 3)), grid(r, (n, 3))),
    Kind.SAMPLES_1D: lambda r, n, c: (grid(r, n), grid(r, n)),
    Kind.RELEVANCE: lambda r, n, c: (r.normal(size=(n, 8)).astype(np.float32), np.stack([r.permutation([0, 0, 1, 0, 2, 3, 0, 1]) for _ in range(n)]).astype(np.int32)),
    Kind.DATA: lambda r, n, c: (grid(r, n),),
}
def segments(rng, n):
    "Classes and objects of blocks of pixels, some of them changed: (n, 6, 8, 2)"
    blocks = np.stack((rng.integers(0, 3, (n, 3, 4)), rng.integers(0, 4, (n, 3, 4))), -1).repeat(2, 1).repeat(2, 2)
    noise = np.stack((rng.integers(0, 3, (n, 6, 8)), rng.integers(0, 4, (n, 6, 8))), -1)
    return np.where(rng.random((n, 6, 8, 1)) < .2, noise, blocks).astype(np.int32), blocks.astype(np.int32)


SPECIAL = {                                                 # metrics whose inputs lie on a surface or the like
    'coverage': lambda r, n, c: (r.integers(0, 20, n).astype(np.int32),),
    'poincare_distance': lambda r, n, c: (ball(r, (n, 3)), ball(r, (n, 3))),
    'lorentz_distance': lambda r, n, c: (hyperboloid(r, (n, 3)), hyperboloid(r, (n, 3))),
    'haversine_distance': lambda r, n, c: tuple(r.uniform((-1.5, -3.1), (1.5, 3.1), (2, n, 2)).astype(np.float32)),
    'jaccard_distance': lambda r, n, c: tuple(np.abs(grid(r, (2, n)))),
    'hamming_distance': lambda r, n, c: (r.integers(0, 3, (n, 4)).astype(np.int32), r.integers(0, 3, (n, 4)).astype(np.int32)),
    **{name: lambda r, n, c: segments(r, n) for name in ('panoptic_quality', 'segmentation_quality', 'recognition_quality')},
}


def both(rng, n):
    "Zeros and ones, never only one of them"
    t = (rng.random(n) < .4).astype(np.int32)
    t[:2] = (0, 1)
    return rng.permutation(t)


def inputs(entry, seed=0, n=24):
    "The leading arguments of a call; None where no inputs are known"
    make = SPECIAL.get(entry.name) or MAKE.get(entry.inputs)
    return None if make is None else make(np.random.default_rng(seed), n, entry.arguments.get('num_classes', 2 if entry.inputs in (Kind.LABELS, Kind.MASKS) else CLASSES))


def leading(entry):
    "Whether the first axis of every leading argument runs over samples"
    return entry.inputs not in (Kind.DISTRIBUTIONS, Kind.JOINT)


def same(a, b, rtol=1e-5, atol=1e-6):
    a, b = jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b))
    assert len(a) == len(b)
    for x, y in zip(a, b): np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=rtol, atol=atol)
