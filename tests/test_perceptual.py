"LPIPS: the published formula, its weights, and that an untrained number never goes by its name."
import importlib.util, pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.errors import MetricError, ModelError
from calibrax.core.protocols import StatefulMetricProtocol
from calibrax.metrics.plugins.perceptual import LPIPSMetric, load_lpips, perceptual_distance, perceptual_distances, unit_channels
from calibrax.metrics.plugins.vgg import VGG16, AlexNet
from calibrax.metrics.plugins.weights import checkpoint_tensors, load_lpips_heads, load_weights, write_safetensors
from calibrax.metrics.stateful import LearnedMetric

RNG = np.random.default_rng(0)
CHANNELS = (4, 6, 3)

def layers(n=5, channels=CHANNELS, seed=None):
    rng = RNG if seed is None else np.random.default_rng(seed)
    return [np.maximum(rng.standard_normal((n, max(8 >> i, 2), 6, c)), 0).astype(np.float32) for i, c in enumerate(channels)]

def equation_1(a, b, heads):
    "Zhang et al. 2018, in float64, with the squares of w as in the published files"
    total = 0
    for x, y, w in zip(a, b, heads):
        x, y = (v.astype(float)/(np.sqrt((v.astype(float)**2).sum(-1, keepdims=True)) + 1e-10) for v in (x, y))
        total = total + ((x - y)**2*w).sum(-1).mean((1, 2))
    return total

HEADS = [RNG.random(c).astype(np.float32) for c in CHANNELS]
A, B = layers(), layers()


# --- the distance ------------------------------------------------------------------------------------------------------

def test_the_formula():
    assert np.allclose(perceptual_distances(A, B, HEADS), equation_1(A, B, HEADS), rtol=1e-5)
    assert np.allclose(perceptual_distances(A, B), equation_1(A, B, [1, 1, 1]), rtol=1e-5)
    assert np.isclose(perceptual_distance(A, B, HEADS), equation_1(A, B, HEADS).mean(), rtol=1e-5)

def test_equal_images_are_at_zero():
    assert np.array_equal(perceptual_distances(A, A, HEADS), np.zeros(5))
    assert np.allclose(perceptual_distances(A, [3*x for x in A], HEADS), 0, atol=1e-12)         # the length of a feature does not count
    assert np.array_equal(perceptual_distances(A, B, HEADS), perceptual_distances(B, A, HEADS))

@pytest.mark.parametrize('n_axes', [0, 1, 3])
def test_any_number_of_places(n_axes):
    a, b = (RNG.random((4, *[3]*n_axes, 7)).astype(np.float32) for _ in range(2))
    expected = equation_1([a.reshape(4, -1, 1, 7)], [b.reshape(4, -1, 1, 7)], [np.ones(7)])
    assert np.allclose(perceptual_distances([a], [b]), expected, rtol=1e-5)

def test_mask_and_weights():
    each = np.asarray(perceptual_distances(A, B, HEADS))
    keep, w = np.array([1, 0, 1, 1, 0], bool), np.array([1, 0, 2, 3, .5])
    assert np.isclose(perceptual_distance(A, B, HEADS, mask=keep), each[keep].mean(), rtol=1e-6)
    assert np.isclose(perceptual_distance(A, B, HEADS, weights=w), (each*w).sum()/w.sum(), rtol=1e-6)
    assert np.isclose(perceptual_distance(A, B, HEADS, mask=keep, weights=w), (each*w)[keep].sum()/w[keep].sum(), rtol=1e-6)
    assert np.isclose(perceptual_distance(A, B, HEADS, weights=[1, 0, 3, 1, 0]), perceptual_distance(*([np.repeat(x, [1, 0, 3, 1, 0], axis=0) for x in s] for s in (A, B)), HEADS), rtol=1e-6)
    assert np.isnan(perceptual_distance(A, B, HEADS, mask=np.zeros(5, bool)))

def test_masked_pairs_leak_nothing():
    broken = [x.copy() for x in A]
    for x in broken: x[1] = np.nan
    keep = np.array([1, 0, 1, 1, 1], bool)
    loss = lambda a: perceptual_distance(a, B, HEADS, mask=keep)
    assert np.isclose(loss(broken), loss(A))
    assert all(np.isfinite(g).all() and not g[1].any() for g in jax.grad(loss)([jnp.asarray(x) for x in broken]))
    assert np.isnan(perceptual_distance(broken, B, HEADS))

def test_gradients_are_finite_everywhere():
    for a in (A, [np.zeros_like(x) for x in A], [1e-20*x for x in A]):
        for b in (a, B): assert all(np.isfinite(g).all() for g in jax.grad(lambda a: perceptual_distance(a, b, HEADS))([jnp.asarray(x) for x in a]))

def test_transforms():
    f = lambda a, b: perceptual_distances(a, b, HEADS)
    assert np.allclose(jax.jit(f)(A, B), f(A, B), rtol=1e-6)
    stacked = jax.vmap(lambda a, b: f([x[None] for x in a], [x[None] for x in b])[0])([jnp.asarray(x) for x in A], [jnp.asarray(x) for x in B])
    assert np.allclose(stacked, f(A, B), rtol=1e-5)

@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_half_precision_is_added_in_single(dtype):
    a, b = ([jnp.asarray(x, dtype) for x in s] for s in (A, B))
    found = perceptual_distances(a, b, HEADS)
    assert found.dtype == jnp.float32 and np.allclose(found, equation_1([np.asarray(x, np.float32) for x in a], [np.asarray(x, np.float32) for x in b], HEADS), rtol=1e-5)

def test_zero_features_stay_zero(): assert np.array_equal(unit_channels(np.zeros((2, 3))), np.zeros((2, 3)))

@pytest.mark.parametrize('call, words', [
    (lambda: perceptual_distances(A, B[:2]), '3 layers, features_b 2'), (lambda: perceptual_distances(A, B, HEADS[:1]), '1 heads'), (lambda: perceptual_distances([], []), 'no layers'),
    (lambda: perceptual_distances(A, [x[:2] for x in B]), 'layer 0'), (lambda: perceptual_distances(A[0], B), 'sequence'), (lambda: perceptual_distances(A, B, HEADS[::-1]), 'channels, its head'),
    (lambda: perceptual_distances([np.ones(3)], [np.ones(3)]), r'\(3,\)'), (lambda: perceptual_distances([A[0], A[1][:2]], [B[0], B[1][:2]]), 'layer 1'),
    (lambda: perceptual_distance(A, B, weights=[1, 2]), 'weights'), (lambda: perceptual_distance(A, B, mask=np.ones((5, 2))), 'mask')])
def test_errors(call, words):
    with pytest.raises(MetricError, match=words) as caught: call()
    assert caught.value.hint and isinstance(caught.value, ValueError)


# --- the metric --------------------------------------------------------------------------------------------------------

def test_as_published():
    metric = LPIPSMetric(rngs=nnx.Rngs(0))
    assert isinstance(metric, (LearnedMetric, nnx.Module)) and isinstance(metric, StatefulMetricProtocol)
    a, b = layers(2, VGG16.feature_channels), layers(2, VGG16.feature_channels)
    metric.update(features_a=a, features_b=b)
    assert np.isclose(metric.compute()[metric.name], equation_1(a, b, metric.heads).mean(), rtol=1e-5)
    with pytest.raises(ValueError): metric.update(features_a=a, features_b=b[:4])
    metric.reset()
    assert np.isnan(metric.compute()[metric.name])

def test_an_untrained_number_is_not_called_lpips():
    random = AlexNet(rngs=nnx.Rngs(0))
    loaded = load_weights(random, checkpoint_tensors(random), weights_from='a file')
    cases = {('random', None): False, ('random', loaded): False, ('given', random): False, ('given', loaded): True, ('given', None): True, ('given', loaded.features): True, ('given', random.features): False, ('bare', None): False, ('bare', loaded): False}
    for (heads, network), trained in cases.items():
        metric = LPIPSMetric(feature_channels=CHANNELS, heads=None if heads == 'random' else HEADS, trained=True if heads == 'given' else None, network=network, rngs=nnx.Rngs(0))
        metric.update(features_a=A, features_b=B)
        name = 'lpips' if trained else 'lpips_untrained'
        assert metric.is_trained == trained and metric.name == name and list(metric.compute()) == [name] and list(metric.entries) == [name]

def test_two_seeds_disagree_which_is_why():
    found = [perceptual_distance(A, B, LPIPSMetric(feature_channels=CHANNELS, rngs=nnx.Rngs(seed)).heads) for seed in range(2)]
    assert abs(found[0] - found[1]) > 1e-3*found[0]

def test_any_split_gives_the_same():
    whole = equation_1(A, B, HEADS).mean()
    for sizes in ([5], [1]*5, [2, 3], [0, 4, 0, 1]):
        metric, start = LPIPSMetric(heads=HEADS, trained=True), 0
        for n in sizes:
            metric.update(features_a=[x[start:start + n] for x in A], features_b=[x[start:start + n] for x in B])
            start += n
        assert np.isclose(metric.compute()['lpips'], whole, rtol=1e-6)

def test_weights_run_through_batches():
    metric, w = LPIPSMetric(heads=HEADS, trained=True), np.array([1, 0, 2, 3, .5])
    for part in (slice(0, 2), slice(2, 5)): metric.update(features_a=[x[part] for x in A], features_b=[x[part] for x in B], weights=w[part])
    assert np.isclose(metric.compute()['lpips'], (equation_1(A, B, HEADS)*w).sum()/w.sum(), rtol=1e-6)

def test_merge_is_associative_and_reset_starts_again():
    parts = []
    for i in range(3):
        parts.append(LPIPSMetric(heads=HEADS, trained=True))
        parts[-1].update(features_a=layers(seed=i), features_b=layers(seed=10 + i))
    values = []
    for order in ((0, 1, 2), (2, 0, 1)):
        total = LPIPSMetric(heads=HEADS, trained=True)
        for i in order: total.merge(parts[i])
        values.append(total.compute()['lpips'])
    assert np.isclose(values[0], values[1], rtol=1e-7) and np.isclose(values[0], np.mean([p.compute()['lpips'] for p in parts]), rtol=1e-6)
    with pytest.raises(MetricError, match='do not merge'): parts[0].merge(LPIPSMetric(feature_channels=CHANNELS, rngs=nnx.Rngs(0)))

def test_counts_do_not_stop():
    "2**24 ones and then one more, in single precision"
    metric = LPIPSMetric(heads=[np.ones(3)], trained=True)
    one = [np.eye(3, dtype=np.float32)[:1]]
    metric.sums[...] = jnp.array([[2.**24, 2.**24], [0, 0]])
    for _ in range(10): metric.update(features_a=one, features_b=one)
    assert float(metric.sums[0, 1]) + float(metric.sums[1, 1]) == 2**24 + 10

def test_nan_is_refused_and_not_added():
    metric, broken = LPIPSMetric(heads=HEADS, trained=True), [x.copy() for x in A]
    broken[1][3] = np.inf
    metric.update(features_a=A, features_b=B)
    before = metric.compute()
    with pytest.raises(MetricError, match='NaN or infinite') as caught: metric.update(features_a=broken, features_b=B)
    assert 'mask' in caught.value.hint and metric.compute() == before
    metric.update(features_a=broken, features_b=B, mask=[1, 1, 1, 0, 1])
    assert np.isfinite(metric.compute()['lpips'])

@pytest.mark.parametrize('arguments, words', [({}, 'features_a and features_b'), ({'features_a': A}, 'features_a and features_b'), ({'image_a': 1, 'image_b': 2}, 'need a network'),
                                              ({'features_a': A, 'features_b': B, 'image_a': 1}, 'not both')])
def test_what_update_wants(arguments, words):
    with pytest.raises(MetricError, match=words): LPIPSMetric(heads=HEADS, trained=True).update(**arguments)

def test_merge_wants_the_same_weights():
    metric = LPIPSMetric(heads=HEADS, trained=True)
    for other in (None, 3, LPIPSMetric(heads=[2*h for h in HEADS], trained=True)):
        with pytest.raises(MetricError, match='do not merge'): metric.merge(other)

def test_heads_are_not_negative():
    for bad in (-1., np.nan):
        with pytest.raises(MetricError, match='negative'): LPIPSMetric(heads=[np.full(3, bad)])

def test_scale_of_features_does_not_matter():
    big = [[1e25*x for x in layers] for layers in (A, B)]
    assert np.allclose(perceptual_distances(*big), perceptual_distances(A, B), rtol=1e-5)

def test_heads_of_another_network(tmp_path):
    rows = write_safetensors(tmp_path/'h.safetensors', {f'lin{i}.model.1.weight': np.ones((1, c, 1, 1), np.float32) for i, c in enumerate(VGG16.feature_channels)})
    with pytest.raises(ModelError, match='alexnet has'): load_lpips('alexnet', heads=rows)

def test_needs_heads_or_random_numbers():
    with pytest.raises(MetricError, match='heads or rngs'): LPIPSMetric()
    with pytest.raises(MetricError, match='one row'): LPIPSMetric(heads=[np.ones((1, 3, 1, 1))])

def test_in_jit_and_scan():
    plain, compiled = LPIPSMetric(heads=HEADS, trained=True), LPIPSMetric(heads=HEADS, trained=True)
    batches = [(layers(seed=i), layers(seed=20 + i)) for i in range(4)]
    step = nnx.jit(lambda m, a, b: m.update(features_a=a, features_b=b))
    for a, b in batches:
        plain.update(features_a=a, features_b=b)
        step(compiled, a, b)
    assert np.isclose(plain.compute()['lpips'], compiled.compute()['lpips'], rtol=1e-6)
    stacked = [[jnp.stack([np.asarray(s[side][i]) for s in batches]) for i in range(3)] for side in range(2)]
    graphdef, state = nnx.split(LPIPSMetric(heads=HEADS, trained=True))
    def body(state, batch):
        metric = nnx.merge(graphdef, state)
        metric.update(features_a=batch[0], features_b=batch[1])
        return nnx.state(metric), None
    scanned = nnx.merge(graphdef, jax.lax.scan(body, state, tuple(stacked))[0])
    assert np.isclose(scanned.compute()['lpips'], plain.compute()['lpips'], rtol=1e-6)

def test_state_is_small_and_of_one_size():
    metric = LPIPSMetric(heads=HEADS, trained=True)
    sizes = set()
    for i in range(3):
        metric.update(features_a=layers(seed=i), features_b=layers(seed=9))
        sizes.add(metric.sums[...].nbytes)
    assert sizes == {16}

def test_pickles_and_copies():
    metric = LPIPSMetric(heads=HEADS, trained=True)
    metric.update(features_a=A, features_b=B)
    assert pickle.loads(pickle.dumps(nnx.split(metric)[1])) is not None and nnx.clone(metric).compute() == metric.compute()

def test_images_with_a_network():
    net = AlexNet(rngs=nnx.Rngs(0))
    a, b = RNG.random((2, 40, 40, 3)), RNG.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    for network in (net, net.features):
        metric = LPIPSMetric(feature_channels=AlexNet.feature_channels, network=network, rngs=nnx.Rngs(1))
        metric.update(image_a=a, image_b=b)
        assert np.isclose(metric.compute()['lpips_untrained'], perceptual_distance(a, b, metric.heads, features=net.features), rtol=1e-6)

def test_heads_are_parameters():
    metric = LPIPSMetric(feature_channels=CHANNELS, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda m: m.distances(A, B).mean(), argnums=nnx.DiffState(0, nnx.Param))(metric)
    assert len(jax.tree.leaves(gradient)) == 3 and all(np.abs(g).max() > 0 for g in jax.tree.leaves(gradient))

def test_plot(tmp_path):
    metric = LPIPSMetric(heads=HEADS, trained=True)
    metric.update(features_a=A, features_b=B)
    assert metric.plot()[1] is not None and metric.plot(output_dir=tmp_path) == tmp_path/'lpips.png'

def test_from_files(tmp_path):
    net = AlexNet(rngs=nnx.Rngs(0))
    backbone = write_safetensors(tmp_path/'net.safetensors', checkpoint_tensors(net))
    rows = {f'lin{i}.model.1.weight': RNG.random((1, c, 1, 1)).astype(np.float32) for i, c in enumerate(AlexNet.feature_channels)}
    metric = load_lpips('alexnet', backbone=backbone, heads=write_safetensors(tmp_path/'heads.safetensors', rows))
    a, b = (RNG.random((2, 40, 40, 3)) for _ in range(2))
    metric.update(image_a=a, image_b=b)
    assert metric.heads_from == 'heads.safetensors' and np.isclose(metric.compute()['lpips'], perceptual_distance(a, b, [r.ravel() for r in rows.values()], features=net.features), rtol=1e-6)
    with pytest.raises(ModelError, match='which weights'): load_lpips('alexnet', heads=tmp_path/'heads.safetensors')
    with pytest.raises(ModelError, match='which weights'): load_lpips('alexnet', backbone=backbone)


# --- torch -------------------------------------------------------------------------------------------------------------

def published_heads(file):
    found = importlib.util.find_spec('torchmetrics')
    if found is None: pytest.skip('torchmetrics, which carries the heads of LPIPS, is not installed')
    return Path(found.origin).parent/'functional/image/lpips_models'/file

@pytest.mark.parametrize('file, channels', [('vgg.pth', VGG16.feature_channels), ('alex.pth', AlexNet.feature_channels)])
def test_as_the_lpips_package(file, channels):
    "Its arithmetic in torch, with its published heads, on the same features"
    torch = pytest.importorskip('torch')
    path, a, b = published_heads(file), layers(3, channels), layers(3, channels)
    lins, expected = torch.load(path, map_location='cpu', weights_only=True), 0
    for i, pair in enumerate(zip(a, b)):
        x, y = (torch.tensor(np.moveaxis(v, -1, 1).copy()) for v in pair)
        x, y = (v/(torch.sqrt((v**2).sum(dim=1, keepdim=True)) + 1e-10) for v in (x, y))
        expected = expected + torch.nn.functional.conv2d((x - y)**2, lins[f'lin{i}.model.1.weight']).mean((1, 2, 3))
    metric = LPIPSMetric(heads=load_lpips_heads(path))
    metric.update(features_a=a, features_b=b)
    assert np.allclose(metric.distances(a, b), expected.numpy(), rtol=1e-5) and np.isclose(metric.compute()['lpips'], expected.mean().item(), rtol=1e-5)
