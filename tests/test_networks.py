"""Pretrained networks: read from the usual files without torch, and layer by layer what torch computes where torch is installed.

The torch definitions here are written for the comparison, with random weights in files that the tests write."""
import importlib.util, os, pickle, struct, subprocess, sys, zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from calibrax.core.download import file_sha256
from calibrax.core.errors import DownloadError, MetricError, ModelError
from calibrax.metrics.plugins.inception import InceptionV3
from calibrax.metrics.plugins.networks import Backbone, FrozenBatchNorm, average_pool, convolution, max_pool, pixel_values, resize_bilinear, without_weights
from calibrax.metrics.plugins.vgg import VGG16, AlexNet, imagenet_colours
from calibrax.metrics.plugins.weights import CHECKPOINTS, checkpoint_tensors, load_alexnet, load_inception, load_lpips_heads, load_vgg16, load_weights, read_checkpoint, write_safetensors

RNG = np.random.default_rng(0)


class Small(Backbone):
    checkpoint_names = {'first': 'features.0'}
    checkpoint_leaves_out = ('classifier.',)
    def __init__(self, *, rngs): self.first, self.norm = convolution(3, 4, rngs=rngs), FrozenBatchNorm(4)
    def _means(self, images): return self.norm(self.first(pixel_values(images))).mean(axis=(1, 2))
    def features(self, images): return self._compiled('_means', images)


@pytest.fixture(scope='module')
def inception(): return InceptionV3(rngs=nnx.Rngs(0))

@pytest.fixture(scope='module')
def alexnet(): return AlexNet(rngs=nnx.Rngs(0))


# --- images ------------------------------------------------------------------------------------------------------------

def test_types_say_the_range():
    image = RNG.integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    assert np.array_equal(pixel_values(image, 255), image) and np.allclose(pixel_values(image), image/255, rtol=2e-7)
    assert np.allclose(pixel_values(image/255, 255), image, atol=2e-5)
    assert pixel_values(jnp.ones((1, 2, 2, 3), jnp.bfloat16)).dtype == jnp.float32

@pytest.mark.parametrize('shape, dtype, words', [((4, 3, 8, 8), float, 'channels last'), ((8, 8, 3), float, r'images\[None\]'), ((1, 8, 8, 1), float, 'grey'), ((1, 8, 8, 3), int, 'uint8'), ((1, 8, 8, 3), bool, 'uint8')])
def test_what_is_no_image(shape, dtype, words):
    with pytest.raises(MetricError) as caught: pixel_values(np.zeros(shape, dtype))
    assert __import__('re').search(words, caught.value.hint)

def resized_as_tensorflow_1(x, height, width):
    "Pixel by pixel: the source of output pixel i is i·m/n, its neighbour the next pixel, the last one at the edge"
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            u, v = i*x.shape[0]/height, j*x.shape[1]/width
            r, c = int(u), int(v)
            below, right = min(r + 1, x.shape[0] - 1), min(c + 1, x.shape[1] - 1)
            top, bottom = x[r, c]*(1 - v + c) + x[r, right]*(v - c), x[below, c]*(1 - v + c) + x[below, right]*(v - c)
            out[i, j] = top*(1 - u + r) + bottom*(u - r)
    return out

@pytest.mark.parametrize('size, wanted', [((7, 9), (13, 31)), ((32, 32), (29, 29)), ((64, 40), (29, 29)), ((5, 5), (5, 5)), ((1, 1), (4, 4))])
def test_resize_as_tensorflow_1(size, wanted):
    image = RNG.random(size)
    assert np.allclose(resize_bilinear(image[None, ..., None], *wanted)[0, ..., 0], resized_as_tensorflow_1(image, *wanted), atol=1e-5)

@pytest.mark.parametrize('size, wanted', [((7, 9), (13, 31)), ((64, 40), (29, 29)), ((90, 90), (10, 12))])
@pytest.mark.parametrize('method', ['half_pixel', 'antialiased'])
def test_resize_as_torch(method, size, wanted):
    torch = pytest.importorskip('torch')
    image = RNG.random((2, *size, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.tensor(image).permute(0, 3, 1, 2), size=wanted, mode='bilinear', align_corners=False, antialias=method == 'antialiased')
    assert np.allclose(resize_bilinear(image, *wanted, method=method), expected.permute(0, 2, 3, 1), atol=1e-5)

@pytest.mark.parametrize('shape', [(2, 5, 7, 3), (1, 1, 1, 2), (1, 2, 2, 1)])
def test_pooling_as_torch(shape):
    torch = pytest.importorskip('torch')
    image = RNG.standard_normal(shape).astype(np.float32)
    x = torch.tensor(image).permute(0, 3, 1, 2)
    for padded in (True, False):
        expected = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=padded).permute(0, 2, 3, 1)
        assert np.allclose(average_pool(image, count_padding=padded), expected, atol=1e-6)
    assert np.array_equal(max_pool(image, stride=1, padding=1), torch.nn.functional.max_pool2d(x, 3, 1, 1).permute(0, 2, 3, 1))


# --- networks ----------------------------------------------------------------------------------------------------------

def test_shapes(inception):
    images = RNG.integers(0, 256, (2, 40, 30, 3), dtype=np.uint8)
    assert inception.features(images).shape == (2, 2048) and inception.features(images, dim=64).shape == (2, 64)
    assert inception.logits(images).shape == (2, 1008) and np.allclose(inception.probabilities(images).sum(-1), 1, atol=1e-5)
    assert [x.shape[-1] for x in jax.eval_shape(lambda: VGG16(rngs=nnx.Rngs(0)).features(np.zeros((1, 32, 32, 3))))] == list(VGG16.feature_channels)

def test_in_a_compiled_step(alexnet):
    images = RNG.random((2, 40, 40, 3)).astype(np.float32)
    outside = alexnet.features(images)
    for inside in (nnx.jit(lambda net, x: net.features(x))(alexnet, images), jax.jit(alexnet.features)(images)):
        assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(inside, outside))
    assert np.isfinite(jax.grad(lambda x: alexnet.features(x)[-1].sum())(images)).all()

def test_training_mode_changes_nothing():
    net = Small(rngs=nnx.Rngs(0))
    images = RNG.random((4, 9, 9, 3))
    before = net.features(images)
    net.train()
    assert np.array_equal(net.features(images), before) and np.array_equal(net.norm.mean[...], np.zeros(4))

def test_the_same_seed_gives_the_same_network():
    one, two, other = (checkpoint_tensors(AlexNet(rngs=nnx.Rngs(seed))) for seed in (1, 1, 2))
    assert all(np.array_equal(one[n], two[n]) for n in one) and not np.array_equal(one['features.0.weight'], other['features.0.weight'])

def test_a_network_says_where_its_weights_are_from(alexnet):
    assert 'random weights' in repr(alexnet) and alexnet.weights_from == ''
    assert 'study.pth' in repr(load_weights(alexnet, checkpoint_tensors(alexnet), weights_from='study.pth')) and alexnet.weights_from == ''


# --- files -------------------------------------------------------------------------------------------------------------

ARRAYS = {'features.0.weight': RNG.standard_normal((4, 3, 3, 3)).astype(np.float32), 'features.0.bias': np.arange(4, dtype=np.float32), 'norm.weight': np.ones(4, np.float32),
          'norm.bias': np.zeros(4, np.float32), 'norm.running_mean': np.arange(4, dtype=np.float32), 'norm.running_var': np.full(4, 2, np.float32), 'norm.num_batches_tracked': np.int64(7)}
_STORAGES = {'float32': 'FloatStorage', 'int64': 'LongStorage', 'float16': 'HalfStorage', 'float64': 'DoubleStorage'}

def pickled(arrays, around=None, shape_of=lambda a: a.shape):
    "The pickle of a torch state dict, written without torch"
    text = lambda s: b'X' + struct.pack('<I', len(s.encode())) + s.encode()
    many = lambda values: b'(' + b''.join(b'J' + struct.pack('<i', v) for v in values) + b't'
    program = b'}'
    for i, (name, a) in enumerate(arrays.items()):
        a = np.asarray(a)
        program += text(name) + b'ctorch._utils\n_rebuild_tensor_v2\n((' + text('storage') + f'ctorch\n{_STORAGES[str(a.dtype)]}\n'.encode() + text(str(i)) + text('cpu') + b'J' + struct.pack('<i', a.size)
        program += b'tQK\x00' + many(shape_of(a)) + many(s//a.itemsize for s in a.strides) + b'\x89ccollections\nOrderedDict\n)RtRs'
    return b'\x80\x02' + (b'}' + text(around) + program + b's' if around else program) + b'.'

def write_zip(path, arrays, **kwargs):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('made/data.pkl', pickled(arrays, **kwargs))
        for i, a in enumerate(arrays.values()): archive.writestr(f'made/data/{i}', np.asarray(a).tobytes(order='A'))
    return path

def write_legacy(path, arrays):
    small = [pickle.dumps(x, 2) for x in (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True})]
    numbers = b''.join(struct.pack('<q', np.asarray(a).size) + np.asarray(a).tobytes() for a in arrays.values())
    path.write_bytes(b''.join(small) + pickled(arrays) + pickle.dumps([str(i) for i in range(len(arrays))], 2) + numbers)
    return path

def write_npz(path, arrays):
    with open(path, 'wb') as f: np.savez(f, **arrays)
    return path

WRITERS = {'zip': write_zip, 'legacy': write_legacy, 'safetensors': write_safetensors, 'npz': write_npz}

@pytest.mark.parametrize('form', WRITERS)
def test_every_format_gives_the_same(form, tmp_path):
    found = read_checkpoint(WRITERS[form](tmp_path/'any.name', ARRAYS))
    assert found.keys() == ARRAYS.keys()
    assert all(found[n].shape == np.shape(a) and found[n].dtype == np.asarray(a).dtype and np.array_equal(found[n], a) for n, a in ARRAYS.items())
    assert read_checkpoint(tmp_path/'any.name', leave_out=('norm.',)).keys() == {'features.0.weight', 'features.0.bias'}

@pytest.mark.parametrize('form', WRITERS)
def test_damaged_files_are_refused(form, tmp_path):
    data = WRITERS[form](tmp_path/'file', ARRAYS).read_bytes()
    broken, rng = tmp_path/'broken', np.random.default_rng(1)
    for cut in [0, 1, 8, 20, *rng.integers(0, len(data) - 1, 40)]:
        broken.write_bytes(data[:cut])
        with pytest.raises(ModelError, match='broken') as caught: read_checkpoint(broken)
        assert caught.value.hint
    for place in rng.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        broken.write_bytes(bytes(flipped))
        try: read_checkpoint(broken)
        except ModelError: pass         # and no other exception; where it can be read, the flip was in the numbers

def test_a_state_dict_among_other_things(tmp_path):
    arrays = {f'module.{n}': a for n, a in ARRAYS.items()}
    for around in ('state_dict', 'model'): assert read_checkpoint(write_zip(tmp_path/'a.pth', arrays, around=around)).keys() == ARRAYS.keys()

def test_transposed_tensors(tmp_path):
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.array_equal(read_checkpoint(write_zip(tmp_path/'a.pth', {'w': turned}))['w'], turned)


class Bomb:
    def __reduce__(self): return os.system, ('touch exploded',)

@pytest.mark.parametrize('program', [pickle.dumps({'w': Bomb()}, 2), pickle.dumps({'w': Bomb()}), b'cbuiltins\neval\n(S"open(\'exploded\', \'w\')"\ntR.', b'cbuiltins\ngetattr\n(ctorch\nFloatStorage\nS"__class__"\ntR.',
                                     b'\x80\x04\x8c\x0acollections\x8c\x1aOrderedDict.__init__.__self__\x93.', b'ctorch\nload\n(S"x"\ntR.', b'cnumpy.core.multiarray\nscalar\n.', b'ctorch.storage\nUntypedStorage.from_file\n.'],
                         ids=['old pickle', 'new pickle', 'eval', 'getattr', 'dotted', 'torch.load', 'numpy', 'from_file'])
@pytest.mark.parametrize('form', ['zip', 'legacy'])
def test_no_code_is_run(program, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if form == 'zip':
        with zipfile.ZipFile('bomb.pth', 'w') as archive: archive.writestr('archive/data.pkl', program)
    else: Path('bomb.pth').write_bytes(b''.join(pickle.dumps(x, 2) for x in (0x1950a86a20f9469cfc6c, 1001, {})) + program)
    with pytest.raises(ModelError) as caught: read_checkpoint('bomb.pth')
    assert caught.value.hint and not Path('exploded').exists()

def test_a_small_file_does_not_become_a_large_array(tmp_path):
    write_zip(tmp_path/'a.pth', {'w': np.zeros(1, np.float32)}, shape_of=lambda a: (10**6,))
    with pytest.raises(ModelError, match='does not fit'): read_checkpoint(tmp_path/'a.pth')

@pytest.mark.parametrize('header', [b'{}', b'[1]', b'{"a": 1}', b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}', b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
                                    b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}'])
def test_safetensors_headers(header, tmp_path):
    (tmp_path/'a').write_bytes(struct.pack('<Q', len(header)) + header + b'1234')
    if header == b'{}': assert read_checkpoint(tmp_path/'a') == {}
    else:
        with pytest.raises(ModelError): read_checkpoint(tmp_path/'a')

def test_types_of_numbers(tmp_path):
    arrays = {'a': np.arange(3, dtype=np.int64), 'b': np.ones((2, 2), np.float16), 'c': np.asarray(jnp.arange(5, dtype=jnp.bfloat16)), 'd': np.array(True), 'e': np.zeros((0, 3)), 'f': np.arange(3, dtype='>f4')}
    try: found = read_checkpoint(write_safetensors(tmp_path/'a', arrays))
    except ModelError as e: assert '>f4' in str(e); found = read_checkpoint(write_safetensors(tmp_path/'a', {k: v for k, v in arrays.items() if k != 'f'}))
    assert all(np.array_equal(found[n], arrays[n]) and found[n].shape == arrays[n].shape for n in found)
    with pytest.raises(ModelError, match='complex'): write_safetensors(tmp_path/'b', {'x': np.ones(1, complex)})

def test_other_files(tmp_path):
    (tmp_path/'page.pth').write_text('<!doctype html>')
    (tmp_path/'tar.pth').write_bytes(b'\0'*257 + b'ustar' + b'\0'*600)
    for name, words in (('page.pth', 'no known format'), ('tar.pth', '2017'), ('nowhere.pth', 'cannot be read')):
        with pytest.raises(ModelError, match=words) as caught: read_checkpoint(tmp_path/name)
        assert name in str(caught.value) and caught.value.hint


# --- into networks -----------------------------------------------------------------------------------------------------

def test_there_and_back(inception):
    tensors = checkpoint_tensors(inception)
    assert len(tensors) == 472 and tensors['Mixed_6b.branch7x7_2.conv.weight'].shape == (128, 128, 1, 7) and tensors['fc.weight'].shape == (1008, 2048)
    again = checkpoint_tensors(load_weights(without_weights(lambda rngs: InceptionV3(rngs=rngs)), tensors, weights_from='there'))
    assert all(np.array_equal(tensors[n], again[n]) for n in tensors)

@pytest.mark.parametrize('form', WRITERS)
def test_loaded_networks_compute_the_same(form, tmp_path):
    images = RNG.random((3, 8, 8, 3))
    net = load_weights(Small(rngs=nnx.Rngs(0)), read_checkpoint(WRITERS[form](tmp_path/'f', ARRAYS)), weights_from=form)
    x = np.float32(images)
    conv = jax.lax.conv_general_dilated(x, ARRAYS['features.0.weight'], (1, 1), 'VALID', dimension_numbers=('NHWC', 'OIHW', 'NHWC')) + ARRAYS['features.0.bias']
    assert np.allclose(net.features(images), ((conv - np.arange(4))/np.sqrt(2 + 1e-3)).mean((1, 2)), atol=1e-5)

@pytest.mark.parametrize('change, words', [
    (lambda t: t.pop('norm.bias'), 'missing: norm.bias'), (lambda t: t.update(extra=np.ones(1)), 'unexpected: extra'),
    (lambda t: t.update({'norm.bias': np.ones(5)}), r'norm.bias is \(5,\), not \(4,\)'), (lambda t: t.update({'features.0.weight': np.ones((3, 3, 3, 4))}), r'not \(4, 3, 3, 3\)'), (lambda t: t.clear(), '2 more')])
def test_names_and_shapes(change, words):
    tensors = dict(ARRAYS)
    change(tensors)
    with pytest.raises(ModelError, match=words) as caught: load_weights(Small(rngs=nnx.Rngs(0)), tensors, weights_from='x')
    assert 'Small' in str(caught.value) and caught.value.hint and any(caught.value.details.values())

def test_what_the_network_does_not_have_is_left_out():
    load_weights(Small(rngs=nnx.Rngs(0)), ARRAYS | {'classifier.0.weight': np.ones((2, 2)), 'other.num_batches_tracked': np.int64(1)}, weights_from='x')

def test_loaders(tmp_path, alexnet):
    tensors = checkpoint_tensors(alexnet) | {'classifier.1.weight': np.ones((2, 2), np.float32)}
    file = write_safetensors(tmp_path/'alexnet.safetensors', tensors)
    net = load_alexnet(file, sha256=file_sha256(file))
    assert net.weights_from == 'alexnet.safetensors' and all(np.array_equal(tensors[n], a) for n, a in checkpoint_tensors(net).items())
    with pytest.raises(ModelError, match='alexnet.safetensors: these are not the weights of VGG16'): load_vgg16(file)
    with pytest.raises(DownloadError, match='not the file that was asked for'): load_alexnet(file, sha256='0'*64)

@pytest.mark.parametrize('load', [load_inception, load_vgg16, load_alexnet, load_lpips_heads])
def test_nothing_is_fetched_by_surprise(load, monkeypatch, tmp_path):
    monkeypatch.setattr('socket.socket.connect', lambda *_: pytest.fail('went to the network'))
    with pytest.raises(ModelError, match='which weights') as caught: load()
    assert 'https://' in caught.value.hint
    monkeypatch.setenv('CALIBRAX_OFFLINE', '1')
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    for name, c in CHECKPOINTS.items():
        if c.network == load.__name__:
            with pytest.raises(DownloadError, match='CALIBRAX_OFFLINE'): load(name)

def test_a_file_with_a_known_name_is_checked(tmp_path, alexnet):
    file = write_safetensors(tmp_path/CHECKPOINTS['alexnet'].file, checkpoint_tensors(alexnet))
    with pytest.raises(DownloadError, match='7be5be79'): load_alexnet(file)

def test_import_reads_and_fetches_nothing():
    code = 'import socket; socket.socket.connect = lambda *_: 1/0\nimport sys, calibrax.metrics.plugins.weights\nprint([m for m in ("torch", "torchvision", "safetensors", "huggingface_hub") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'

def test_heads(tmp_path):
    rows = [RNG.random((1, c, 1, 1)).astype(np.float32) for c in (64, 192, 384, 256, 256)]
    for name in ('lin{}.model.1.weight', 'lin{}.model.0.weight'):
        found = load_lpips_heads(write_zip(tmp_path/'heads.pth', {name.format(i): r for i, r in enumerate(rows)}))
        assert all(np.array_equal(f, r.ravel()) for f, r in zip(found, rows, strict=True))
    with pytest.raises(ModelError, match='shape'): load_lpips_heads(write_zip(tmp_path/'heads.pth', {'lin0.model.1.weight': np.ones((2, 3, 1, 1), np.float32)}))
    with pytest.raises(ModelError, match='lin0'): load_lpips_heads(write_zip(tmp_path/'heads.pth', {'w': np.ones(3, np.float32)}))

@pytest.mark.parametrize('name, file', [('lpips-vgg16', 'vgg.pth'), ('lpips-alexnet', 'alex.pth')])
def test_the_published_heads(name, file):
    "torchmetrics carries the files of LPIPS v0.1; they are of torch's older format"
    found = importlib.util.find_spec('torchmetrics')
    if found is None: pytest.skip('torchmetrics is not installed')
    path = Path(found.origin).parent/'functional/image/lpips_models'/file
    heads = load_lpips_heads(path, sha256=CHECKPOINTS[name].sha256)
    assert tuple(len(h) for h in heads) == (VGG16 if 'vgg' in name else AlexNet).feature_channels and all((h >= 0).all() for h in heads)
    if importlib.util.find_spec('torch'):
        import torch
        expected = torch.load(path, map_location='cpu', weights_only=True)
        assert all(np.array_equal(h, expected[f'lin{i}.model.1.weight'].numpy().ravel()) for i, h in enumerate(heads))


# --- torch -------------------------------------------------------------------------------------------------------------

def torch_networks():
    "Inception, VGG16 and AlexNet in torch, as the published checkpoints name their parts"
    import torch
    from torch import nn
    import torch.nn.functional as F

    class Unit(nn.Module):
        def __init__(self, i, o, size=1, **kwargs):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(i, o, size, bias=False, **kwargs), nn.BatchNorm2d(o, eps=.001)
        def forward(self, x): return F.relu(self.bn(self.conv(x)))

    wide, tall = dict(size=(1, 7), padding=(0, 3)), dict(size=(7, 1), padding=(3, 0))
    def same(size): return dict(size=size, padding=size//2)
    layers = {
        'A': lambda i, p: dict(branch1x1=Unit(i, 64), branch5x5_1=Unit(i, 48), branch5x5_2=Unit(48, 64, **same(5)), branch3x3dbl_1=Unit(i, 64), branch3x3dbl_2=Unit(64, 96, **same(3)),
                               branch3x3dbl_3=Unit(96, 96, **same(3)), branch_pool=Unit(i, p)),
        'B': lambda i: dict(branch3x3=Unit(i, 384, 3, stride=2), branch3x3dbl_1=Unit(i, 64), branch3x3dbl_2=Unit(64, 96, **same(3)), branch3x3dbl_3=Unit(96, 96, 3, stride=2)),
        'C': lambda i, m: dict(branch1x1=Unit(i, 192), branch7x7_1=Unit(i, m), branch7x7_2=Unit(m, m, **wide), branch7x7_3=Unit(m, 192, **tall), branch7x7dbl_1=Unit(i, m), branch7x7dbl_2=Unit(m, m, **tall),
                               branch7x7dbl_3=Unit(m, m, **wide), branch7x7dbl_4=Unit(m, m, **tall), branch7x7dbl_5=Unit(m, 192, **wide), branch_pool=Unit(i, 192)),
        'D': lambda i: dict(branch3x3_1=Unit(i, 192), branch3x3_2=Unit(192, 320, 3, stride=2), branch7x7x3_1=Unit(i, 192), branch7x7x3_2=Unit(192, 192, **wide), branch7x7x3_3=Unit(192, 192, **tall),
                            branch7x7x3_4=Unit(192, 192, 3, stride=2)),
        'E': lambda i: dict(branch1x1=Unit(i, 320), branch3x3_1=Unit(i, 384), branch3x3_2a=Unit(384, 384, (1, 3), padding=(0, 1)), branch3x3_2b=Unit(384, 384, (3, 1), padding=(1, 0)), branch3x3dbl_1=Unit(i, 448),
                            branch3x3dbl_2=Unit(448, 384, **same(3)), branch3x3dbl_3a=Unit(384, 384, (1, 3), padding=(0, 1)), branch3x3dbl_3b=Unit(384, 384, (3, 1), padding=(1, 0)), branch_pool=Unit(i, 192))}

    class Block(nn.Module):
        def __init__(self, kind, pool, *sizes):
            super().__init__()
            self.kind, self.pool = kind, pool
            for name, layer in layers[kind](*sizes).items(): setattr(self, name, layer)
        def run(self, x, stem):
            for name, layer in self.named_children():
                if name == stem or name.startswith(stem + '_'): x = layer(x)
            return x
        def around(self, x):
            if self.pool == 'max': return F.max_pool2d(x, 3, 1, 1)
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=self.pool == 'padded')
        def forward(self, x):
            k = self.kind
            if k == 'A': parts = [self.run(x, 'branch1x1'), self.run(x, 'branch5x5'), self.run(x, 'branch3x3dbl'), self.branch_pool(self.around(x))]
            if k == 'B': parts = [self.run(x, 'branch3x3'), self.run(x, 'branch3x3dbl'), F.max_pool2d(x, 3, 2)]
            if k == 'C': parts = [self.run(x, 'branch1x1'), self.run(x, 'branch7x7'), self.run(x, 'branch7x7dbl'), self.branch_pool(self.around(x))]
            if k == 'D': parts = [self.run(x, 'branch3x3'), self.run(x, 'branch7x7x3'), F.max_pool2d(x, 3, 2)]
            if k == 'E':
                once, twice = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
                parts = [self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once), self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.branch_pool(self.around(x))]
            return torch.cat(parts, 1)

    class Inception(nn.Module):
        def __init__(self, padded):
            super().__init__()
            around = 'padded' if padded else 'inside'
            self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = Unit(3, 32, 3, stride=2), Unit(32, 32, 3), Unit(32, 64, 3, padding=1)
            self.maxpool1 = nn.MaxPool2d(3, 2)
            self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Unit(64, 80), Unit(80, 192, 3)
            self.maxpool2 = nn.MaxPool2d(3, 2)
            self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (Block('A', around, *n) for n in ((192, 32), (256, 64), (288, 64)))
            self.Mixed_6a = Block('B', around, 288)
            self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (Block('C', around, 768, n) for n in (128, 160, 160, 192))
            self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = Block('D', around, 768), Block('E', around, 1280), Block('E', 'padded' if padded else 'max', 2048)
            self.fc = nn.Linear(2048, 1000 if padded else 1008)
        def forward(self, x):
            found = {}
            for name, layer in self.named_children():
                if name == 'fc': x = x.mean((2, 3))
                x = found[name] = layer(x)
            return found

    def vgg16():
        found, i = [], 3
        for group in ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)):
            for o in group: found += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU()]; i = o
            found.append(nn.MaxPool2d(2, 2))
        return nn.ModuleDict({'features': nn.Sequential(*found)}), (3, 8, 15, 22, 29)
    def alexnet():
        sizes = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
                 nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()]
        return nn.ModuleDict({'features': nn.Sequential(*sizes)}), (1, 4, 7, 9, 11)
    return {'inception': Inception, 'vgg16': vgg16, 'alexnet': alexnet}

def randomised(network):
    "Random statistics too, and weights of a size that keeps signals alive through ninety layers"
    import torch
    torch.manual_seed(0)
    with torch.no_grad():
        for m in network.modules():
            if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)): torch.nn.init.kaiming_normal_(m.weight)
            if isinstance(m, torch.nn.BatchNorm2d):
                for p, (low, high) in zip((m.weight, m.bias, m.running_mean, m.running_var), ((.7, 1.3), (-.2, .2), (-.2, .2), (.5, 1.5))): p.uniform_(low, high)
    return network.eval()

def channels_first(x):
    import torch
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1).copy())

def close(ours, theirs, tolerance=2e-5):
    theirs = np.asarray(theirs.detach())
    return np.abs(np.asarray(ours) - (np.moveaxis(theirs, 1, -1) if theirs.ndim == 4 else theirs)).max() <= tolerance*np.abs(theirs).max()

@pytest.mark.parametrize('variant', ['tensorflow', 'torchvision'])
def test_inception_layer_by_layer(variant, tmp_path):
    torch = pytest.importorskip('torch')
    theirs = randomised(torch_networks()['inception'](variant == 'torchvision'))
    state = theirs.state_dict()
    if variant == 'torchvision': state['AuxLogits.fc.weight'] = torch.zeros(2, 2)
    torch.save(state, tmp_path/'inception.pth', _use_new_zipfile_serialization=variant == 'torchvision')
    ours = load_inception(tmp_path/'inception.pth', variant=variant)
    x = RNG.uniform(-1, 1, (2, 107, 91, 3)).astype(np.float32)
    with torch.no_grad(): expected = theirs(channels_first(x))
    found = jax.jit(lambda x: ours.activations(x))(x)
    assert found.keys() == expected.keys() - {'fc'}
    wrong = [name for name, a in found.items() if not close(a, expected[name])]
    assert not wrong
    assert all(float(a.std()) > 1e-3 for a in found.values())       # signals are alive, so the comparison says something

def prepared_in_torch(image, variant):
    import torch
    if variant == 'tensorflow':
        x = np.stack([resized_as_tensorflow_1(image[0, ..., c].astype(float), 299, 299) for c in range(3)])[None]
        return torch.tensor((x - 128)/128, dtype=torch.float32)
    return 2*torch.nn.functional.interpolate(channels_first(image).float()/255, size=(299, 299), mode='bilinear', align_corners=False, antialias=variant == 'torchvision') - 1

@pytest.mark.parametrize('variant', ['tensorflow', 'pytorch-fid', 'torchvision'])
@pytest.mark.parametrize('size', [(23, 37), (340, 301)])
def test_preparation(variant, size):
    pytest.importorskip('torch')
    image = RNG.integers(0, 256, (1, *size, 3), dtype=np.uint8)
    network = without_weights(lambda rngs: InceptionV3(variant, rngs=rngs))
    expected = np.moveaxis(prepared_in_torch(image, variant).numpy(), 1, -1)
    for given in (image, (image/255).astype(np.float32)): assert np.allclose(network._prepared(given), expected, atol=5e-5)

def test_inception_from_images():
    "Resizing, scaling, the network and its last layer in one, for one small image"
    torch = pytest.importorskip('torch')
    theirs = randomised(torch_networks()['inception'](False))
    ours = load_weights(without_weights(lambda rngs: InceptionV3(rngs=rngs)), {n: t.numpy() for n, t in theirs.state_dict().items()}, weights_from='torch')
    image = RNG.integers(0, 256, (1, 23, 37, 3), dtype=np.uint8)
    with torch.no_grad(): expected = theirs(prepared_in_torch(image, 'tensorflow'))
    assert close(ours.logits(image), expected['fc'], 1e-4)
    assert close(ours.logits(image, bias=False), expected['fc'] - theirs.fc.bias, 1e-4)
    assert close(ours.features(image, dim=192), expected['maxpool2'].mean((2, 3)), 1e-4)

@pytest.mark.parametrize('name, load', [('vgg16', load_vgg16), ('alexnet', load_alexnet)])
@pytest.mark.parametrize('legacy', [True, False])
def test_vgg_and_alexnet_layer_by_layer(name, load, legacy, tmp_path):
    torch = pytest.importorskip('torch')
    theirs, taps = torch_networks()[name]()
    randomised(theirs)
    torch.save(dict(theirs.state_dict()) | {'classifier.0.weight': torch.zeros(3, 3)}, tmp_path/'net.pth', _use_new_zipfile_serialization=not legacy)
    image = RNG.random((2, 47, 63, 3)).astype(np.float32)
    x, expected = channels_first(imagenet_colours(image)), []
    with torch.no_grad():
        for i, layer in enumerate(theirs['features']):
            x = layer(x)
            if i in taps: expected.append(x.clone())
    found = load(tmp_path/'net.pth').features(image)
    assert [i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if not close(a, b)] == []

@pytest.mark.parametrize('legacy', [True, False])
def test_torch_files_of_every_kind(legacy, tmp_path):
    torch = pytest.importorskip('torch')
    base = torch.arange(24.)
    tensors = {'f': torch.randn(2, 3), 'half': torch.randn(4).half(), 'bf': torch.randn(4).bfloat16(), 'i': torch.arange(3), 'b': torch.tensor([True, False]), 'scalar': torch.tensor(3.), 'turned': base.view(4, 6).t(),
               'part': base[3:7], 'empty': torch.zeros(0, 2), 'parameter': torch.nn.Parameter(torch.ones(2)), 'double': torch.ones(2, dtype=torch.float64)}
    for content in (tensors, {'epoch': 3, 'state_dict': tensors, 'optimizer': {'state': {0: {'step': torch.tensor(1.)}}, 'lr': .1}}):
        torch.save(content, tmp_path/'a.pth', _use_new_zipfile_serialization=not legacy)
        found = read_checkpoint(tmp_path/'a.pth')
        assert found.keys() == tensors.keys()
        assert all(np.array_equal(found[n].astype(np.float64), t.detach().double().numpy()) and found[n].shape == tuple(t.shape) for n, t in tensors.items())

def test_a_whole_torch_model_is_refused(tmp_path):
    torch = pytest.importorskip('torch')
    torch.save(torch.nn.Linear(2, 2), tmp_path/'a.pth')
    with pytest.raises(ModelError, match='state_dict|torch.nn') as caught: read_checkpoint(tmp_path/'a.pth')
    assert 'state_dict' in caught.value.hint


# --- what is refused ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('values', [(0, 255.), (-1., 1.), (0, 1.2)])
def test_floating_point_of_another_range(values, alexnet):
    images = np.linspace(*values, 40*40*3).reshape(1, 40, 40, 3)
    for call in (pixel_values, alexnet.features):
        with pytest.raises(MetricError, match='images of floating point run from'): call(images)
    jax.jit(pixel_values)(images)

def test_a_header_beyond_the_file(tmp_path):
    (tmp_path/'a.safetensors').write_bytes(struct.pack('<Q', 2**62) + b'{}')
    with pytest.raises(ModelError, match='header'): load_alexnet(tmp_path/'a.safetensors')
    with pytest.raises(ModelError, match='source is 5'): load_alexnet(5)

@pytest.mark.parametrize('rows, words', [({0: 1., 2: 1.}, 'no lin1'), ({0: -1.}, 'negative'), ({0: np.nan}, 'NaN')])
def test_heads_that_are_none(rows, words, tmp_path):
    write_safetensors(tmp_path/'h.safetensors', {f'lin{i}.model.1.weight': np.full((1, 2, 1, 1), v, np.float32) for i, v in rows.items()})
    with pytest.raises(ModelError, match=words): load_lpips_heads(tmp_path/'h.safetensors')
