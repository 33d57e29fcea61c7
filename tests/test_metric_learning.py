"""Metric-learning losses beside loops over all pairs and triplets in double precision, miners and retrieval beside loops, and what happens at the edges."""
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.errors import MetricError
from calibrax.core.protocols import MetricLearningProtocol
from calibrax.metrics import learning as L
from calibrax.metrics.learning.base import log_sum_exp, unit_vectors

RNG = nnx.Rngs


@pytest.fixture(autouse=True)
def quick():
    "Nearly all the time goes into compiling"
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


def close(value, wanted, rtol=2e-5, atol=2e-6): np.testing.assert_allclose(np.asarray(value, np.float64), wanted, rtol=rtol, atol=atol)

def batch(n=12, size=5, classes=4, seed=0):    # one shape for most tests: compiling takes most of their time
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)).astype(np.float32), rng.integers(0, classes, n)


# --- the losses again, as loops over what they are defined on -----------------------------------------------------------------
# Each takes embeddings, labels, identities (copies of one sample are no pairs) and gives (values, counts) as lists.

def dist(a, b): return math.sqrt(((a - b)**2).sum() + 1e-8)
def cosine(a, b): return float(a @ b/max(np.linalg.norm(a)*np.linalg.norm(b), 1e-300))
def partners(i, y, who): return [k for k in range(len(y)) if who[k] != who[i]]
def positives(i, y, who): return [k for k in partners(i, y, who) if y[k] == y[i]]
def negatives(i, y, who): return [k for k in partners(i, y, who) if y[k] != y[i]]
def lse(values): return max(values) + math.log(sum(math.exp(v - max(values)) for v in values))

def contrastive(x, y, who, margin=1.0):
    return [dist(x[i], x[j])**2 if y[i] == y[j] else max(0, margin - dist(x[i], x[j]))**2 for i in range(len(y)) for j in range(i) if who[i] != who[j]]

def triplet(x, y, who, margin=.2):
    return [max(0, dist(x[a], x[p]) - dist(x[a], x[n]) + margin) for a in range(len(y)) for p in positives(a, y, who) for n in negatives(a, y, who)]

def noise_contrastive(x, y, who, temperature=.5):
    return [lse([cosine(x[a], x[k])/temperature for k in partners(a, y, who)]) - np.mean([cosine(x[a], x[p])/temperature for p in positives(a, y, who)])
            for a in range(len(y)) if positives(a, y, who)]

def inside(x, y, who, temperature=.1):
    return [-math.log(np.mean([math.exp(cosine(x[a], x[p])/temperature - lse([cosine(x[a], x[k])/temperature for k in partners(a, y, who)])) for p in positives(a, y, who)]))
            for a in range(len(y)) if positives(a, y, who)]

def lifted(x, y, who, margin=1.0):
    found = []
    for i in range(len(y)):
        for j in positives(i, y, who):
            pushes = [margin - dist(x[e], x[k]) for e in (i, j) for k in negatives(e, y, who)]
            if j < i and pushes: found.append(max(0, lse(pushes) + dist(x[i], x[j]))**2/2)
    return found

def multi_similarity(x, y, who, alpha=2, beta=50, base=1, epsilon=.1):
    found = []
    for i in range(len(y)):
        p, n = ([cosine(x[i], x[k]) for k in f(i, y, who)] for f in (positives, negatives))
        kept_p, kept_n = ([s for s in p if n and s - epsilon < max(n)], [s for s in n if p and s + epsilon > min(p)]) if epsilon is not None else (p, n)
        found.append(math.log(1 + sum(math.exp(-alpha*(s - base)) for s in kept_p))/alpha + math.log(1 + sum(math.exp(beta*(s - base)) for s in kept_n))/beta)
    return found

def circle(x, y, who, margin=.25, scale=256):
    found = []
    for i in range(len(y)):
        p, n = ([cosine(x[i], x[k]) for k in f(i, y, who)] for f in (positives, negatives))
        if not p or not n: continue
        e = lse([scale*max(0, s + margin)*(s - margin) for s in n]) + lse([-scale*max(0, 1 + margin - s)*(s - 1 + margin) for s in p])
        found.append(max(e, 0) + math.log1p(math.exp(-abs(e))))
    return found

PAIR_LOSSES = {
    'contrastive': (L.ContrastiveLoss(), contrastive), 'contrastive wide': (L.ContrastiveLoss(3.), lambda *a: contrastive(*a, margin=3)),
    'triplet': (L.TripletMarginLoss(), triplet), 'triplet wide': (L.TripletMarginLoss(2.), lambda *a: triplet(*a, margin=2)),
    'ntxent': (L.NTXentLoss(), noise_contrastive), 'ntxent cold': (L.NTXentLoss(.01), lambda *a: noise_contrastive(*a, temperature=.01)),
    'supcon': (L.SupConLoss(), lambda *a: noise_contrastive(*a, temperature=.1)), 'supcon inside': (L.SupConLoss(average='inside'), inside),
    'lifted': (L.LiftedStructureLoss(), lifted), 'multi-similarity': (L.MultiSimilarityLoss(), multi_similarity),
    'multi-similarity all': (L.MultiSimilarityLoss(base=.5, epsilon=None), lambda *a: multi_similarity(*a, base=.5, epsilon=None)), 'circle': (L.CircleLoss(), circle),
}
def class_losses():
    return {'arcface': L.ArcFaceLoss(4, 5, rngs=RNG(0)), 'arcface monotone': L.ArcFaceLoss(4, 5, monotone=True, rngs=RNG(0)), 'cosface': L.CosFaceLoss(4, 5, rngs=RNG(0)),
            'proxynca': L.ProxyNCALoss(4, 5, rngs=RNG(0)), 'proxyanchor': L.ProxyAnchorLoss(4, 5, rngs=RNG(0)), 'proxyanchor all': L.ProxyAnchorLoss(4, 5, negatives='all', rngs=RNG(0))}
CLASS_LOSSES = class_losses()
LOSSES = {name: loss for name, (loss, _) in PAIR_LOSSES.items()} | CLASS_LOSSES

def again(loss, reduction):
    "The same loss with another reduction"
    other = pickle.loads(pickle.dumps(loss)) if not isinstance(loss, nnx.Module) else nnx.clone(loss)
    other._reducer = L.Reducer(reduction)
    return other


@pytest.mark.parametrize('name', PAIR_LOSSES)
def test_pair_losses_equal_the_loops(name):
    loss, loop = PAIR_LOSSES[name]
    x, y = batch()
    y[0] = 9    # a class of one
    wanted = loop(x.astype(float), y, range(len(y)))
    close(loss(x, y), np.mean(wanted))
    close(again(loss, 'sum')(x, y), np.sum(wanted))
    close(np.sum(again(loss, 'none')(x, y)), np.sum(wanted))


@pytest.mark.parametrize('name', PAIR_LOSSES)
def test_integer_weights_repeat_samples_and_masks_delete_them(name):
    loss, loop = PAIR_LOSSES[name]
    x, y = batch()
    w = np.array([1, 2, 0, 1, 3, 1, 1, 1, 1, 0, 0, 1])
    rows = np.repeat(np.arange(12), w)
    wanted = loop(x[rows].astype(float), y[rows], rows)
    x[w == 0] = np.nan
    close(loss(x, y, weights=w), np.mean(wanted))
    close(again(loss, 'sum')(x, y, weights=w), np.sum(wanted))
    keep = w != 0
    close(loss(x, y, mask=keep), np.mean(loop(x[keep].astype(float), y[keep], range(keep.sum()))))
    assert np.isfinite(jax.grad(lambda x: loss(x, y, mask=keep))(jnp.asarray(x))).all()


@pytest.mark.parametrize('name', CLASS_LOSSES)
def test_class_losses_take_weights_and_masks(name):
    loss = CLASS_LOSSES[name]
    x, y = batch()
    w = np.array([1, 2, 0, 1, 3, 1, 1, 1, 1, 0, 0, 1])
    rows = np.repeat(np.arange(12), w)
    wanted = float(loss(x[rows], y[rows]))
    broken, labels = np.where((w == 0)[:, None], np.nan, x), np.where(w == 0, -1, y)
    close(loss(broken, labels, weights=w), wanted)
    close(loss(broken, labels, mask=w != 0), float(loss(x, y, weights=(w != 0)*1.)), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: loss(x, labels, mask=w != 0))(jnp.asarray(broken))).all()


def logits_of(x, columns): return (x.astype(float)/np.linalg.norm(x.astype(float), axis=1, keepdims=True)) @ (columns/np.linalg.norm(columns, axis=0)).astype(float)
def softmax_loss(logits, y): return [lse(list(row)) - row[c] for row, c in zip(logits, y)]

def unit_rows(v): return v/np.linalg.norm(v, axis=1, keepdims=True)
CLASS_LOOPS = {
    'arcface': lambda x, y: softmax_loss(64*np.cos(np.arccos(logits_of(x, np.asarray(CLASS_LOSSES['arcface']._weight[...], float))) + .5*np.eye(4)[y]), y),
    'cosface': lambda x, y: softmax_loss(64*(logits_of(x, np.asarray(CLASS_LOSSES['cosface']._weight[...], float)) - .35*np.eye(4)[y]), y),
    'proxynca': lambda x, y: softmax_loss(-np.array([[dist(a, b) for b in unit_rows(np.asarray(CLASS_LOSSES['proxynca']._proxies[...], float))] for a in unit_rows(x.astype(float))]), y)}

@pytest.mark.parametrize('name', CLASS_LOOPS)
def test_class_losses_equal_the_published_formulas(name):
    loss, (x, y) = CLASS_LOSSES[name], batch()
    wanted = CLASS_LOOPS[name](x, y)
    close(loss(x, y), np.mean(wanted)); close(again(loss, 'sum')(x, y), np.sum(wanted)); close(again(loss, 'none')(x, y), wanted, atol=1e-4)
    assert CLASS_LOSSES['arcface']._weight[...].shape == (5, 4) and CLASS_LOSSES['proxynca']._proxies[...].shape == (4, 5)

def test_arcface_monotone_goes_on_falling():
    loss = L.ArcFaceLoss(2, 2, margin=1., monotone=True, scale=1, rngs=RNG(0))
    loss._weight[...] = jnp.array([[1., 0], [0, 1]])
    plain = L.ArcFaceLoss(2, 2, margin=1., scale=1, rngs=RNG(0))
    plain._weight[...] = loss._weight[...]
    angles = np.linspace(0, np.pi - 1e-3, 30)
    x = np.stack([np.cos(angles), -np.sin(angles)], 1).astype(np.float32)
    near = angles < np.pi - 1
    close(again(loss, 'none')(x, np.zeros(30, int))[near], np.asarray(again(plain, 'none')(x, np.zeros(30, int)))[near])
    own = np.asarray(again(loss, 'none')(x, np.zeros(30, int)))
    assert own[~near].min() > np.asarray(again(plain, 'none')(x, np.zeros(30, int)))[~near].max() - .2

@pytest.mark.parametrize('negatives_of', ['present', 'all'])
def test_proxyanchor_equals_the_formulas(negatives_of):
    x, y = batch()
    y = y % 3
    loss = CLASS_LOSSES['proxyanchor' if negatives_of == 'present' else 'proxyanchor all']
    s = logits_of(x, np.asarray(loss._proxies[...]).T)
    pull = [math.log(1 + sum(math.exp(-32*(s[i, c] - .1)) for i in range(12) if y[i] == c)) for c in range(4)]
    push = [math.log(1 + sum(math.exp(32*(s[i, c] + .1)) for i in range(12) if y[i] != c)) for c in range(4)]
    close(loss(x, y), np.mean(pull[:3]) + np.mean(push[:3] if negatives_of == 'present' else push))


# --- every loss: shapes, types, transformations, edges -------------------------------------------------------------------------

@pytest.mark.parametrize('name', LOSSES)
def test_jit_vmap_and_gradients(name):
    loss = LOSSES[name]
    x, y = batch()
    assert isinstance(loss, MetricLearningProtocol) and isinstance(loss, L.MetricLearningLoss)
    value = loss(x, y)
    assert isinstance(value, jax.Array) and value.shape == () and value.dtype == jnp.float32
    close(jax.jit(lambda x, y: loss(x, y))(x, y), float(value), rtol=1e-6)
    xs = jnp.stack([jnp.asarray(x), jnp.asarray(x)[::-1]])
    ys = jnp.stack([jnp.asarray(y), jnp.asarray(y)[::-1]])
    close(jax.vmap(lambda x, y: loss(x, y))(xs, ys), [float(value)]*2, rtol=2e-5)
    close(loss(x.tolist(), y.tolist()), float(value), rtol=1e-6)
    close(loss(x, y.astype(np.float32)), float(value), rtol=1e-6)

@pytest.mark.parametrize('name', [n for n in PAIR_LOSSES if n != 'circle'] + ['arcface', 'cosface', 'proxynca'])
def test_gradients_equal_differences_of_the_loops(name):
    loss, (x, y) = LOSSES[name], batch(seed=3)
    loop = (lambda z: PAIR_LOSSES[name][1](z, y, range(12))) if name in PAIR_LOSSES else lambda z: CLASS_LOOPS[name](z, y)
    gradient = np.asarray(jax.grad(lambda x: loss(x, y))(jnp.asarray(x)), float)
    direction = np.random.default_rng(1).normal(size=x.shape)
    slope = (np.mean(loop(x + 1e-6*direction)) - np.mean(loop(x - 1e-6*direction)))/2e-6
    np.testing.assert_allclose((gradient*direction).sum(), slope, rtol=1e-3, atol=1e-5)

def test_circle_has_the_gradient_of_its_paper():
    s_p, s_n, gamma, m = .3, .6, 8., .25
    def loss(p, n):
        unit = lambda s: jnp.stack([s, jnp.sqrt(1 - s**2)])
        x = jnp.stack([jnp.array([1., 0.]), unit(p), unit(n)])
        return L.CircleLoss(m, gamma, reduction='none')(x, jnp.array([0, 0, 1]))[0]
    gp, gn = jax.grad(loss, argnums=(0, 1))(s_p, s_n)
    z = 1/(1 + math.exp(-(gamma*(s_n + m)*(s_n - m) - gamma*(1 + m - s_p)*(s_p - 1 + m))))
    close([gp, gn], [-z*gamma*(1 + m - s_p), z*gamma*(s_n + m)])

@pytest.mark.parametrize('name', LOSSES)
def test_zero_and_equal_embeddings_have_finite_gradients(name):
    loss, (x, y) = LOSSES[name], batch()
    rows = {'zeros': np.zeros_like(x), 'one zero': np.where(np.arange(12)[:, None] == 2, 0, x), 'all equal': np.ones_like(x), 'a duplicate': x[[0, 0, 1, 2, 3, 4, 5, 5, 8, 9, 10, 11]], 'opposite': np.concatenate([x[:6], -x[:6]]), 'huge': 1e4*x, 'tiny': 1e-6*x}
    for what, z in rows.items():
        value, gradient = jax.value_and_grad(lambda x: loss(x, y))(jnp.asarray(z))
        assert np.isfinite(value) and np.isfinite(gradient).all(), what
    if isinstance(loss, nnx.Module):
        state = nnx.grad(lambda l: l(np.zeros_like(x), y))(loss)
        assert all(np.isfinite(v).all() for v in jax.tree.leaves(state))

@pytest.mark.parametrize('name', LOSSES)
def test_nothing_to_learn_from_is_zero(name):
    loss, (x, y) = LOSSES[name], batch()
    assert loss(x[:0], y[:0]) == 0 and (name in CLASS_LOSSES or loss(x[:1], y[:1]) == 0)
    cases = {'all masked': (x, y, np.zeros(12, bool))}
    if name in PAIR_LOSSES: cases['one'] = (x, y, np.arange(12) == 3)
    if name.startswith(('triplet', 'lifted', 'circle')) or name == 'multi-similarity': cases['one class'] = (x, np.zeros(12, int), None)
    if name.startswith(('triplet', 'ntxent', 'supcon', 'lifted', 'circle')) or name == 'multi-similarity': cases['no positives'] = (x, np.arange(12), None)
    for what, (z, labels, mask) in cases.items():
        value, gradient = jax.value_and_grad(lambda x: loss(x, labels, mask=mask))(jnp.asarray(z))
        assert value == 0 and not np.asarray(gradient).any(), what

@pytest.mark.parametrize('name', LOSSES)
def test_half_precision_is_summed_in_single(name):
    loss, (x, y) = LOSSES[name], batch()
    half = x.astype(np.float16)
    value = loss(half, y)
    assert value.dtype == jnp.float32
    close(value, float(loss(half.astype(np.float32), y)), rtol=1e-6)

@pytest.mark.parametrize('name', LOSSES)
def test_the_order_of_the_batch_does_not_matter(name):
    loss, (x, y) = LOSSES[name], batch()
    order = np.random.default_rng(1).permutation(12)
    close(loss(x[order], y[order]), float(loss(x, y)))

@pytest.mark.parametrize('name', LOSSES)
def test_shapes_that_do_not_fit(name):
    loss, (x, y) = LOSSES[name], batch()
    for bad in ((x, y[:5]), (x[0], y[:1]), (x, y[:, None]), (x[None], y)):
        with pytest.raises(MetricError) as e: loss(*bad)
        assert e.value.hint
    with pytest.raises(MetricError, match='mask of shape'): loss(x, y, mask=[True]*5)
    with pytest.raises(TypeError): loss(x, y, wieghts=np.ones(12))


# --- known faults of the published package -------------------------------------------------------------------------------------

def test_sum_is_not_the_mean():
    x, y = batch()
    for loss in (L.ContrastiveLoss, L.TripletMarginLoss): assert float(loss(reduction='sum')(x, y)) > 2*float(loss()(x, y))

def test_large_scales_are_finite():
    x, y = batch()
    for scale in (200, 1e4):
        loss = L.ProxyAnchorLoss(4, 5, scale=scale, rngs=RNG(0))
        assert np.isfinite(loss(x, y)) and np.isfinite(jax.grad(lambda x: loss(x, y))(jnp.asarray(x))).all()
        s = logits_of(x, np.asarray(loss._proxies[...]).T)
        here = sorted(set(y.tolist()))
        soft = lambda e: np.logaddexp(0, lse(e)) if e else 0
        close(loss(x, y), np.mean([soft([-scale*(s[i, c] - .1) for i in range(12) if y[i] == c]) + soft([scale*(s[i, c] + .1) for i in range(12) if y[i] != c]) for c in here]))
    for loss in (L.NTXentLoss(1e-4), L.CircleLoss(scale=1e5), L.MultiSimilarityLoss(beta=1e4), L.ArcFaceLoss(4, 5, scale=1e4, rngs=RNG(0)), L.CosFaceLoss(4, 5, scale=1e4, rngs=RNG(0))):
        assert np.isfinite(loss(x, y)) and np.isfinite(jax.grad(lambda x: loss(x, y))(jnp.asarray(x))).all()

@pytest.mark.parametrize('name', CLASS_LOSSES)
def test_labels_out_of_range_are_not_solved(name):
    loss, (x, y) = LOSSES[name], batch()
    inside_jit = jax.jit(lambda x, y: loss(x, y))
    for wrong in (4, -1, .5, np.nan):
        labels = np.where(np.arange(12) == 3, wrong, y).astype(np.float32)
        with pytest.raises(MetricError, match='labels hold'): loss(x, labels)
        assert np.isnan(inside_jit(x, labels))
    with pytest.raises(MetricError, match='embeddings have size 4'): loss(x[:, :4], y)

def test_settings_that_are_none():
    for make in (lambda: L.ContrastiveLoss(0), lambda: L.ContrastiveLoss(math.nan), lambda: L.TripletMarginLoss(-1), lambda: L.NTXentLoss(0), lambda: L.NTXentLoss(-.5), lambda: L.SupConLoss(0),
                 lambda: L.LiftedStructureLoss(0), lambda: L.MultiSimilarityLoss(alpha=0), lambda: L.MultiSimilarityLoss(beta=-1), lambda: L.CircleLoss(2), lambda: L.CircleLoss(scale=0), lambda: L.ArcFaceLoss(4, 5, margin=-.1, rngs=RNG(0)),
                 lambda: L.CosFaceLoss(4, 5, margin=3, rngs=RNG(0)), lambda: L.ProxyAnchorLoss(4, 5, margin=-1, rngs=RNG(0)), lambda: L.ProxyNCALoss(0, 5, rngs=RNG(0)), lambda: L.ProxyNCALoss(4, 2.5, rngs=RNG(0)),
                 lambda: L.Reducer('average'), lambda: L.ContrastiveLoss(reduction='average'), lambda: L.SemiHardMiner(0), lambda: L.DistanceWeightedMiner(2, 1)):
        with pytest.raises(MetricError) as e: make()
        assert e.value.hint and isinstance(e.value, ValueError)


# --- accuracy and memory -------------------------------------------------------------------------------------------------------

def test_distances_far_from_the_origin():
    x, y = batch()
    x = np.round(x*64)/64   # stays exact far away
    for loss in (L.ContrastiveLoss(2.), L.TripletMarginLoss(1.), L.LiftedStructureLoss()):
        close(loss(x + 1024, y), float(loss(x, y)), rtol=1e-5)
        close(jax.grad(lambda x: loss(x, y))(jnp.asarray(x + 1024)), np.asarray(jax.grad(lambda x: loss(x, y))(jnp.asarray(x))), rtol=1e-3, atol=1e-5)

def test_second_derivatives_and_forward_mode():
    x, y = batch()
    f = lambda x: L.ContrastiveLoss(3.)(x, y)
    i, j = np.tril_indices(12, -1)
    def plain(x):
        squares = jnp.sum((x[i] - x[j])**2, axis=1) + 1e-8
        return jnp.mean(jnp.where(y[i] == y[j], squares, jnp.maximum(3 - jnp.sqrt(squares), 0)**2))
    v = jnp.asarray(np.random.default_rng(0).normal(size=x.shape), jnp.float32)
    close(jax.jvp(f, (x,), (v,))[1], float(jax.jvp(plain, (x,), (v,))[1]), rtol=1e-4)
    hvp = lambda f: jax.jit(lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1])(x, v)
    close(hvp(f), np.asarray(hvp(plain)), rtol=1e-3, atol=1e-4)

@pytest.mark.parametrize('loss', [L.ContrastiveLoss(), L.TripletMarginLoss(), L.NTXentLoss(), L.LiftedStructureLoss(), L.MultiSimilarityLoss(), L.CircleLoss()], ids=lambda v: type(v).__name__)
def test_memory_grows_with_the_square_of_the_batch(loss):
    x, y = jnp.zeros((512, 64)), jnp.zeros(512, int)
    need = jax.jit(jax.grad(lambda x, y: loss(x, y))).lower(x, y).compile().memory_analysis().temp_size_in_bytes
    assert need < 30*4*512**2   # 30 tables of pairs; triplets would be 512 of them

def test_a_batch_of_a_thousand_triplets_equals_the_sum_by_anchor():
    x, y = batch(700, 3, 5)
    d = np.sqrt(((x[:, None].astype(float) - x[None])**2).sum(-1) + 1e-8)
    total = count = 0
    for a in range(700):
        same = y == y[a]
        p, n = d[a][same & (np.arange(700) != a)], d[a][~same]
        total += np.maximum(p[:, None] - n[None] + .2, 0).sum(); count += p.size*n.size
    close(L.TripletMarginLoss()(x, y), total/count, rtol=1e-5)

def test_sums_of_exponentials():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20, 7))*rng.choice([1e-3, 1, 50, 1e4], (20, 1)), rng.integers(0, 3, (20, 7))
    for plus_one in (False, True):
        wanted = [np.logaddexp.reduce([*np.repeat(row, times), *([0.] if plus_one else [])]) if times.any() or plus_one else 0 for row, times in zip(x, w)]
        close(log_sum_exp(x.astype(np.float32), w, plus_one=plus_one), wanted)
    assert float(log_sum_exp([-30.], [1], plus_one=True)) == pytest.approx(math.exp(-30), rel=1e-5)

def test_directions_of_extreme_vectors():
    close(unit_vectors(np.float32([[3e30, -4e30], [3e-11, 4e-11], [0, 0], [1e-20, 0]])), [[.6, -.8], [.6, .8], [0, 0], [0, 0]])


# --- miners ----------------------------------------------------------------------------------------------------------------------

def mined_by_loop(x, y, margin=None, keep=None):
    d, found = np.sqrt(((x[:, None].astype(float) - x[None])**2).sum(-1) + 1e-8), []
    keep = np.ones(len(y), bool) if keep is None else keep
    for a in np.flatnonzero(keep):
        for p in np.flatnonzero(keep & (y == y[a]) & (np.arange(len(y)) != a)):
            n = [k for k in np.flatnonzero(keep & (y != y[a])) if margin is None or d[a, p] < d[a, k] < d[a, p] + margin]
            if n: found.append((a, p, min(n, key=lambda k: d[a, k])))
    return found

def listed(mined): return list(zip(*(np.asarray(v).tolist() for v in (mined.anchors, mined.positives, mined.negatives))))

MINERS = {'hard': (L.HardNegativeMiner(), None), 'semi-hard': (L.SemiHardMiner(), 1.), 'semi-hard narrow': (L.SemiHardMiner(margin=.2), .2)}

@pytest.mark.parametrize('name', MINERS)
def test_miners_equal_the_loops(name):
    miner, margin = MINERS[name]
    compiled = jax.jit(lambda x, y: miner.mine(x, y))
    for seed in range(2):
        x, y = batch(25, 3, seed=seed)
        keep = np.random.default_rng(seed).random(25) > .2
        assert listed(miner.mine(x, y)) == mined_by_loop(x, y, margin)
        broken = np.where(keep[:, None], x, np.nan)
        assert listed(miner.mine(broken, y, mask=keep)) == mined_by_loop(x, y, margin, keep)
        inside_jit = compiled(x, y)
        assert inside_jit.anchors.shape == (25*24,) and listed(inside_jit.compact()) == mined_by_loop(x, y, margin)
        assert listed(miner.mine(x, y, size=5))[:5] == mined_by_loop(x, y, margin)[:5]

def test_published_form_of_mined_indices():
    x, y = batch()
    mined = L.HardNegativeMiner().mine(x, y)
    assert isinstance(mined, L.MinedIndices) and all(jnp.issubdtype(v.dtype, jnp.integer) for v in (mined.anchors, mined.positives, mined.negatives))
    own = L.MinedIndices(jnp.array([0]), jnp.array([1]), jnp.array([2]))
    assert own.counts.tolist() == [True]
    nothing = L.HardNegativeMiner().mine(x, np.zeros(12, int))
    assert nothing.anchors.shape == nothing.positives.shape == nothing.negatives.shape == (0,)
    for n in (0, 1): assert L.SemiHardMiner().mine(x[:n], y[:n]).anchors.shape == (0,)

def test_distance_weighted_draws():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 6)).astype(np.float32), rng.integers(0, 3, 60)
    unit = x/np.linalg.norm(x, axis=1, keepdims=True)
    draw = jax.jit(lambda key: L.DistanceWeightedMiner().mine(x, y, key=key))
    mined = [draw(jax.random.key(i)).compact() for i in range(40)]
    for m in mined[:3]: assert (y[m.anchors] == y[m.positives]).all() and (y[m.anchors] != y[m.negatives]).all() and len(m.anchors) == sum((y == c).sum()*((y == c).sum() - 1) for c in range(3))
    d = np.linalg.norm(unit[0] - unit, axis=1)
    usable = (y != y[0]) & (d < 1.4)
    near = np.clip(d, .5, 1.999)
    chance = np.where(usable, 1/(near**4*(1 - near**2/4)**1.5), 0)
    drawn = np.concatenate([np.asarray(m.negatives)[np.asarray(m.anchors) == 0] for m in mined])
    share = np.bincount(drawn, minlength=60)/len(drawn)
    assert np.abs(share - chance/chance.sum()).max() < 5*math.sqrt(.25/len(drawn)) and not share[~usable].any()
    high = np.random.default_rng(1).normal(size=(20, 512)).astype(np.float32)
    assert np.isfinite(np.asarray(L.DistanceWeightedMiner().mine(high, np.arange(20) % 2, key=jax.random.key(0)).negatives)).all()
    with pytest.raises(MetricError, match='no key'): L.DistanceWeightedMiner().mine(x, y)

def test_losses_take_mined_triplets():
    x, y = batch()
    miner = L.SemiHardMiner()
    found = mined_by_loop(x, y, 1.)
    d = lambda i, j: dist(x[i].astype(float), x[j].astype(float))
    close(L.TripletMarginLoss(.5)(x, y, mined=miner.mine(x, y)), np.mean([max(0, d(a, p) - d(a, n) + .5) for a, p, n in found]))
    close(jax.jit(lambda x, y: L.TripletMarginLoss(.5)(x, y, mined=miner.mine(x, y)))(x, y), np.mean([max(0, d(a, p) - d(a, n) + .5) for a, p, n in found]))
    pairs = {frozenset((a, p)) for a, p, _ in found} | {frozenset((a, n)) for a, _, n in found}
    close(L.ContrastiveLoss(3.)(x, y, mined=miner.mine(x, y)), np.mean([d(*sorted(p))**2 if len({y[i] for i in p}) == 1 else max(0, 3 - d(*sorted(p)))**2 for p in pairs]))
    for name, (loss, _) in PAIR_LOSSES.items():
        if name in ('triplet', 'contrastive', 'ntxent'): assert np.isfinite(jax.jit(jax.grad(lambda x: loss(x, y, mined=miner.mine(x, y))))(x)).all(), name
        assert float(loss(x, y, mined=L.HardNegativeMiner().mine(x, np.zeros(12, int)))) == 0, name
    with pytest.raises(MetricError, match='the batch has 3 samples'): L.TripletMarginLoss()(x[:3], y[:3], mined=miner.mine(x, y))
    with pytest.raises(MetricError, match='have shapes'): L.TripletMarginLoss()(x, y, mined=L.MinedIndices(jnp.array([0, 1]), jnp.array([1]), jnp.array([2])))

def test_everything_in_one_training_step():
    import optax
    x, y = batch(40, 6)
    model = nnx.List([nnx.Linear(6, 5, rngs=RNG(0)), L.ProxyAnchorLoss(4, 5, rngs=RNG(1))])
    optimizer, miner = nnx.Optimizer(model, optax.adam(.01), wrt=nnx.Param), L.DistanceWeightedMiner()
    @nnx.jit
    def step(model, optimizer, key):
        def objective(model):
            z = model[0](x)
            return model[1](z, y) + L.TripletMarginLoss()(z, y, mined=miner.mine(z, y, key=key))
        value, gradient = nnx.value_and_grad(objective)(model)
        optimizer.update(model, gradient)
        return value
    values = [float(step(model, optimizer, jax.random.key(i))) for i in range(30)]
    assert values[-1] < values[0]


# --- retrieval -------------------------------------------------------------------------------------------------------------------

def retrieval_by_loop(x, y, r, ry, distance, itself, k):
    found = {f'recall@{i}': [] for i in k} | {'r_precision': [], 'map@r': []}
    if distance == 'cosine': x, r = (v/np.linalg.norm(v, axis=1, keepdims=True) for v in (x, r))
    for q in range(len(y)):
        others = [i for i in range(len(ry)) if not (itself and i == q)]
        ranked = sorted(others, key=lambda i: (np.round(((x[q] - r[i])**2).sum(), 6), ry[i] == y[q]))
        hits = np.array([ry[i] == y[q] for i in ranked])
        total = int(hits.sum())
        if not total: continue
        for i in k: found[f'recall@{i}'].append(hits[:i].any())
        front = hits[:total]
        found['r_precision'].append(front.mean())
        found['map@r'].append((front*np.cumsum(front)/np.arange(1, total + 1)).sum()/total)
    return {name: np.mean(v) for name, v in found.items()}

@pytest.mark.parametrize('distance', ['cosine', 'euclidean'])
def test_retrieval_equals_the_loop(distance):
    x, y = batch(80, 4, 9)
    y[:2] = 50, 51  # nothing to find
    wanted = retrieval_by_loop(x.astype(float), y, x.astype(float), y, distance, True, (1, 4))
    for chunk in (None, 1, 7, 80, 1000):
        for name, value in L.retrieval_scores(x, y, k=(1, 4), distance=distance, chunk_size=chunk).items(): close(value, wanted[name])
    for name, value in jax.jit(lambda x, y: L.retrieval_scores(x, y, k=(1, 4), distance=distance, chunk_size=9))(x, y).items(): close(value, wanted[name])
    r, ry = batch(50, 4, 9, seed=5)
    wanted = retrieval_by_loop(x.astype(float), y, r.astype(float), ry, distance, False, (1, 4))
    for name, value in L.retrieval_scores(x, y, references=r, reference_labels=ry, k=(1, 4), distance=distance).items(): close(value, wanted[name])
    close(L.retrieval_recall_at_k(x, y, 4, references=r, reference_labels=ry, distance=distance), wanted['recall@4'])
    close(L.retrieval_r_precision(x, y, references=r, reference_labels=ry, distance=distance), wanted['r_precision'])
    close(L.retrieval_map_at_r(x, y, references=r, reference_labels=ry, distance=distance), wanted['map@r'])

def test_retrieval_masks_weights_and_single_queries():
    x, y = batch(30, 4)
    keep = np.arange(30) % 4 != 0
    broken = np.where(keep[:, None], x, np.nan)
    for name, value in L.retrieval_scores(broken, y, mask=keep).items(): close(value, float(L.retrieval_scores(x[keep], y[keep])[name]))
    each = L.retrieval_scores(x, y, reduction='none')
    w = np.arange(1, 31)
    for name, value in L.retrieval_scores(x, y, weights=w).items(): close(value, np.average(np.asarray(each[name]), weights=w))
    r, ry = batch(20, 4, seed=2)
    shown = np.arange(20) < 12
    for name, value in L.retrieval_scores(x, y, references=r, reference_labels=ry, reference_mask=shown).items(): close(value, float(L.retrieval_scores(x, y, references=r[:12], reference_labels=ry[:12])[name]))
    assert np.isnan(L.retrieval_scores(broken, y)['map@r']) and np.isnan(L.retrieval_scores(x[:0], y[:0])['map@r']) and np.isnan(L.retrieval_scores(x[:1], y[:1])['recall@1'])

def test_a_collapsed_embedding_scores_nothing():
    assert all(float(v) == 0 for v in L.retrieval_scores(np.ones((20, 3)), np.arange(20) % 4, k=(1, 5)).values())

def test_retrieval_beside_scikit_learn():
    neighbors = pytest.importorskip('sklearn.neighbors')
    x, y = batch(400, 8, 6)
    found = neighbors.NearestNeighbors(n_neighbors=6).fit(x).kneighbors(x, return_distance=False)[:, 1:]
    for k in (1, 5): close(L.retrieval_recall_at_k(x, y, k, distance='euclidean'), (y[found[:, :k]] == y[:, None]).any(1).mean())
    close(L.retrieval_map_at_r(x + 1e3, y, distance='euclidean'), float(L.retrieval_map_at_r(x, y, distance='euclidean')), rtol=5e-3)

def test_ten_thousand_samples_in_chunks():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 50, 10_000)
    x = (rng.normal(size=(50, 16))[y] + .4*rng.normal(size=(10_000, 16))).astype(np.float32)
    some = rng.choice(10_000, 40, replace=False)
    scores = L.retrieval_scores(x, y, reduction='none')
    unit = x.astype(float)/np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    for q in some:
        s = unit @ unit[q]; s[q] = -9
        total = (y == y[q]).sum() - 1
        hits = y[np.argsort(-s)[:total]] == y[q]
        assert abs(float(scores['map@r'][q]) - (hits*np.cumsum(hits)/np.arange(1, total + 1)).sum()/total) < 2e-3

def test_errors_of_retrieval():
    x, y = batch()
    for call in (lambda: L.retrieval_scores(x, y, k=0), lambda: L.retrieval_scores(x, y, k=()), lambda: L.retrieval_scores(x, y, distance='manhattan'), lambda: L.retrieval_scores(x, y, references=x), lambda: L.retrieval_scores(x, y, reference_mask=y),
                 lambda: L.retrieval_scores(x, y, references=x[:, :2], reference_labels=y), lambda: L.retrieval_scores(x, y[:3]), lambda: L.retrieval_scores(x, y, reduction='sum')):
        with pytest.raises(MetricError) as e: call()
        assert e.value.hint


# --- names -------------------------------------------------------------------------------------------------------------------------

def test_published_paths():
    from calibrax.metrics.learning.angular import ArcFaceLoss, CosFaceLoss
    from calibrax.metrics.learning.contrastive import ContrastiveLoss, NTXentLoss, TripletMarginLoss
    from calibrax.metrics.learning.miners import HardNegativeMiner, MinedIndices, SemiHardMiner
    from calibrax.metrics.learning.proxy import ProxyAnchorLoss, ProxyNCALoss
    for thing in (ArcFaceLoss, CosFaceLoss, ContrastiveLoss, NTXentLoss, TripletMarginLoss, HardNegativeMiner, MinedIndices, SemiHardMiner, ProxyAnchorLoss, ProxyNCALoss): assert getattr(L, thing.__name__) is thing

def test_a_loss_of_ones_own_as_published():
    class Own(L.MetricLearningLoss):
        def _compute_loss(self, embeddings, labels, **kwargs): return jnp.sum(embeddings**2, axis=1)*kwargs.get('factor', 1)
    x, y = batch()
    close(Own()(x, y), (x**2).sum(1).mean()); close(Own(reduction='sum')(x, y, factor=2), 2*(x**2).sum())
    close(L.Reducer('sum')(jnp.arange(4.)), 6); close(L.Reducer()(jnp.arange(4.)), 1.5)

def test_losses_can_be_pickled_and_split():
    x, y = batch()
    for name, (loss, _) in PAIR_LOSSES.items(): close(pickle.loads(pickle.dumps(loss))(x, y), float(loss(x, y)))
    for name, loss in CLASS_LOSSES.items():
        graph, state = nnx.split(loss)
        close(nnx.merge(graph, state)(x, y), float(loss(x, y)))
        assert len(jax.tree.leaves(state)) == 1


# --- large labels, near neighbours, large embeddings, programs compiled ------------------------------------------------------

def test_labels_of_64_bits_stay_apart():
    x, y = batch()
    large = 2**32*(y + 1)
    close(L.TripletMarginLoss()(x, large), float(L.TripletMarginLoss()(x, y)))
    close(L.TripletMarginLoss()(x, y + 2.**40), float(L.TripletMarginLoss()(x, y)))
    assert L.HardNegativeMiner().mine(x, large).negatives.tolist() == L.HardNegativeMiner().mine(x, y).negatives.tolist()
    for name, value in L.retrieval_scores(x, large, references=x[::-1], reference_labels=large[::-1]).items(): close(value, float(L.retrieval_scores(x, y, references=x[::-1], reference_labels=y[::-1])[name]))
    with pytest.raises(MetricError, match='labels hold NaN'): L.TripletMarginLoss()(x, np.where(y == 0, np.nan, y))
    close(L.TripletMarginLoss()(x, np.where(y == 0, np.nan, y), mask=y != 0), float(L.TripletMarginLoss()(x, y, mask=y != 0)))

def test_neighbours_much_nearer_than_the_spread():
    rng = np.random.default_rng(0)
    y = np.arange(200)//2
    c = rng.normal(size=(100, 4))*.1 + np.where(np.arange(100) < 50, 100, -100)[:, None]
    far, narrow = (c[y] + rng.normal(size=(200, 4))*.002).astype(np.float32), (5 + .005*rng.normal(size=(100, 8))[y] + rng.normal(size=(200, 8))*1e-4).astype(np.float32)
    for x, distance in ((far, 'euclidean'), (narrow, 'cosine')):
        assert L.retrieval_recall_at_k(x, y, distance=distance) > .99
        assert jax.jit(lambda x: L.retrieval_recall_at_k(x, y, distance=distance))(x) > .99

def test_retrieval_of_what_is_no_number():
    x, y = batch()
    x[0, 0] = np.inf
    assert all(np.isnan(v) for v in L.retrieval_scores(x, y).values())
    collapsed = np.outer(np.arange(1, 21), np.ones(3))
    assert all(float(v) == 0 for v in L.retrieval_scores(collapsed, np.arange(20) % 4).values())
    for k in (2., (1, 2), 'a', None):
        with pytest.raises(MetricError, match='k must'): L.retrieval_recall_at_k(x, y, k)

def test_large_embeddings():
    x, y = batch()
    for scale in (1e20, 1e25):
        large = x*np.float32(scale)
        for loss in (L.ContrastiveLoss(), L.TripletMarginLoss(), L.LiftedStructureLoss()):
            value, slope = jax.value_and_grad(lambda x: loss(x, y))(jnp.asarray(large))
            assert not np.isnan(value) and np.isfinite(slope).all()
        assert L.HardNegativeMiner().mine(large, y).negatives.tolist() == L.HardNegativeMiner().mine(x, y).negatives.tolist()
    corners = np.float32([[3e38, 3e38], [-3e38, -3e38], [3e38, -3e38], [-3e38, 3e38]])
    m = L.HardNegativeMiner().mine(corners, [0, 0, 1, 1]).compact()
    assert not (np.array([0, 0, 1, 1])[m.anchors] == np.array([0, 0, 1, 1])[m.negatives]).any()

def test_few_programs_for_many_numbers(monkeypatch):
    from calibrax.metrics.learning import contrastive, retrieval
    x, y = batch(16)
    a, p = (i.ravel() for i in np.indices((16, 16)))
    before = contrastive._chosen_triplets._cache_size()
    for slots in range(33, 65):
        mined = L.MinedIndices(*(jnp.asarray(i[:slots], jnp.int32) for i in (a, p, p)))
        assert L.TripletMarginLoss(reduction='none')(x, y, mined=mined).shape == (slots,)
        L.ContrastiveLoss()(x, y, mined=mined)
    assert contrastive._chosen_triplets._cache_size() <= before + 1
    before = retrieval._scored._cache_size()
    for largest in range(9, 17): L.retrieval_scores(np.zeros((40, 2)), np.maximum(0, np.arange(40) - largest + 1))
    assert retrieval._scored._cache_size() <= before + 1

def test_settings_and_weights_that_are_none():
    x, y = batch()
    for call in (lambda: L.ContrastiveLoss('a'), lambda: L.ArcFaceLoss(3, 2, margin='x', rngs=RNG(0)), lambda: L.TripletMarginLoss(None), lambda: L.CosFaceLoss(3, 2, margin=[1], rngs=RNG(0)), lambda: L.ProxyAnchorLoss(3, 2, margin='x', rngs=RNG(0)),
                 lambda: L.CircleLoss('a'), lambda: L.MultiSimilarityLoss(base='a'), lambda: L.SemiHardMiner('a'), lambda: L.DistanceWeightedMiner('a'), lambda: L.ContrastiveLoss()(x, y, weights=-np.ones(12)), lambda: L.retrieval_scores(x, y, weights=-np.ones(12))):
        with pytest.raises(MetricError) as e: call()
        assert e.value.hint
