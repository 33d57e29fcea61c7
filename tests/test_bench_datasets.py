"""Datasets of the benchmark toolkit: manifests are strict, files are checked, archives are read in place, loading ahead keeps order and memory."""
import io, json, pickle, struct, subprocess, sys, tarfile, threading, time, tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from calibrax.bench.datasets import (BenchmarkDataset, Modality, Sample, SampleEntry, TarShards, camera_matrix, checked, decode,
                                     infer_modalities, make_manifest, pose_matrix, verify_manifest, write_manifest)
from calibrax.bench import arrays
from calibrax.bench.arrays import as_numbers, guess_modality, widened
from calibrax.bench.digits import read_digits
from calibrax.bench.inventory import data_identity, snapshot_revision
from calibrax.bench.loading import Loaded, load_batches
from calibrax.bench.manifest import _ABOUT, Kind, check_path, dataset_folder, manifest_schema, parse_manifest, read_manifest, schema_table
from calibrax.bench.tasks import ROBOT_PHASES, TaskSpec, register_task
from calibrax.bench.tasks.tabular_regression import diabetes_table
from calibrax.cli.demo import load_digits
from calibrax.core.errors import ConfigError, DatasetError, ManifestError

register_task(TaskSpec(task='toy_depth', display_name='Toy', primary_metric='absrel', direction='lower', required_inputs=('rgb',), required_targets=('depth',), **ROBOT_PHASES))
register_task(TaskSpec(task='toy_any', display_name='Toy', primary_metric='rmse', direction='lower'))
SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def sample(i=0, **changed):
    rng = np.random.default_rng(i)
    return Sample(**{'id': f's{i}', 'inputs': {'rgb': rng.integers(0, 255, (6, 8, 3), np.uint8)}, 'targets': {'depth': rng.uniform(.5, 9, (6, 8)).astype(np.float32), 'label': np.int64(i)},
                     'scene': f'room{i//4}', 'phase': ('clutter', 'clean')[i % 2], 'difficulty': 'easy', 'pose': pose_matrix([i, 0, 1], [0, 0, .6, .8]),
                     'intrinsics': np.array([[8., 0, 4], [0, 8, 3], [0, 0, 1]]), 'metadata': {'lamp': 'on', 'level': i}, **changed})

def equal(a, b):
    assert (a.id, a.scene, a.phase, a.difficulty, dict(a.metadata)) == (b.id, b.scene, b.phase, b.difficulty, dict(b.metadata))
    for x, y in ((a.inputs, b.inputs), (a.targets, b.targets)):
        assert set(x) == set(y)
        for k in x:
            assert np.asarray(x[k]).dtype == np.asarray(y[k]).dtype and np.asarray(x[k]).shape == np.asarray(y[k]).shape
            np.testing.assert_array_equal(x[k], y[k])
    for x, y in ((a.pose, b.pose), (a.intrinsics, b.intrinsics)):
        assert (x is None) == (y is None)
        if x is not None: np.testing.assert_array_equal(x, y)

def refused(error, *words, action, **named):
    with pytest.raises(error) as e: action(**named)
    for word in words: assert word in e.value.message, e.value.message
    assert e.value.hint
    return e.value


# --- the manifest ----------------------------------------------------------------------------------------------------------

def plain():
    return {'version': 1, 'task': 'toy_depth', 'name': 'rooms', 'split': 'easy',
            'modalities': {'rgb': {'role': 'input', 'kind': 'image', 'dtype': 'uint8', 'shape': [None, None, 3]}, 'depth': {'role': 'target', 'kind': 'depth', 'dtype': 'float32', 'unit': 'm', 'scale': .001}},
            'samples': [{'id': f'{i}', 'inputs': {'rgb': f'rgb/{i}.png'}, 'targets': {'depth': {'file': f'all/{i}.npz', 'key': 'depth'}}, 'phase': 'clean',
                         'camera': {'pose': f'pose/{i}.npz', 'intrinsics': [[8, 0, 4], [0, 8, 3], [0, 0, 1]]}} for i in range(5)]}

FAULTS = {      # what is changed, the place that must be named, a word of the message
    'no version': (lambda d: d.pop('version'), 'version', 'missing'),
    'newer': (lambda d: d.update(version=2), 'version', 'unknown'),
    'version as text': (lambda d: d.update(version='1'), 'version', 'unknown'),
    'version true': (lambda d: d.update(version=True), 'version', 'unknown'),
    'unknown key': (lambda d: d.update(sample=[]), 'sample', 'no such key'),
    'unknown key of a sample': (lambda d: d['samples'][3].update(scen='x'), 'samples[3].scen', 'no such key'),
    'unknown key of a modality': (lambda d: d['modalities']['rgb'].update(units='m'), 'modalities.rgb.units', 'no such key'),
    'no task': (lambda d: d.pop('task'), 'task', 'expected'),
    'empty task': (lambda d: d.update(task=' '), 'task', 'empty'),
    'samples no list': (lambda d: d.update(samples={}), 'samples', 'expected a list'),
    'no samples': (lambda d: d.update(samples=[]), 'samples', 'none'),
    'no modalities': (lambda d: d.update(modalities={}), 'modalities', 'none'),
    'no inputs': (lambda d: d['modalities']['rgb'].update(role='target'), 'modalities', 'input'),
    'role': (lambda d: d['modalities']['rgb'].update(role='see'), 'modalities.rgb.role', 'expected one of'),
    'kind': (lambda d: d['modalities']['rgb'].update(kind='picture'), 'modalities.rgb.kind', 'expected one of'),
    'dtype': (lambda d: d['modalities']['depth'].update(dtype='float31'), 'modalities.depth.dtype', 'no type'),
    'dtype object': (lambda d: d['modalities']['depth'].update(dtype='object'), 'modalities.depth.dtype', 'no type'),
    'shape': (lambda d: d['modalities']['rgb'].update(shape=[2, -1]), 'modalities.rgb.shape[1]', 'no length'),
    'shape as text': (lambda d: d['modalities']['rgb'].update(shape='2x3'), 'modalities.rgb.shape', 'expected'),
    'scale': (lambda d: d['modalities']['depth'].update(scale=0), 'modalities.depth.scale', 'scale'),
    'scale of integers': (lambda d: d['modalities']['rgb'].update(scale=.5), 'modalities.rgb.scale', 'uint8'),
    'twice': (lambda d: d['samples'][4].update(id='1'), 'samples[4].id', 'samples[1]'),
    'empty id': (lambda d: d['samples'][2].update(id=''), 'samples[2].id', 'empty'),
    'number as id': (lambda d: d['samples'][2].update(id=7), 'samples[2].id', 'expected text'),
    'missing modality': (lambda d: d['samples'][2]['targets'].clear(), 'samples[2].targets', 'depth'),
    'undeclared modality': (lambda d: d['samples'][2]['inputs'].update(rbg='x.png'), 'samples[2].inputs.rbg', 'declared'),
    'null': (lambda d: d['samples'][3]['inputs'].update(rgb=None), 'samples[3].inputs.rgb', 'null'),
    'escaping': (lambda d: d['samples'][3]['inputs'].update(rgb='../x.png'), 'samples[3].inputs.rgb', 'leads out'),
    'absolute': (lambda d: d['samples'][3]['inputs'].update(rgb='/etc/passwd'), 'samples[3].inputs.rgb', 'not below'),
    'drive': (lambda d: d['samples'][3]['inputs'].update(rgb='C:x.png'), 'samples[3].inputs.rgb', 'not below'),
    'backslash': (lambda d: d['samples'][3]['inputs'].update(rgb='..\\x.png'), 'samples[3].inputs.rgb', 'backslash'),
    'escaping file': (lambda d: d['samples'][3]['targets'].update(depth={'file': 'a/../../x.npz'}), 'samples[3].targets.depth.file', 'leads out'),
    'no file': (lambda d: d['samples'][3]['targets'].update(depth={'key': 'x'}), 'samples[3].targets.depth.file', 'path'),
    'other key': (lambda d: d['samples'][3]['targets'].update(depth={'file': 'x.npz', 'name': 'x'}), 'samples[3].targets.depth.name', 'file and key'),
    'camera key': (lambda d: d['samples'][0]['camera'].update(position=[0, 0, 0]), 'samples[0].camera.position', 'no such key'),
    'empty phase': (lambda d: d['samples'][0].update(phase=''), 'samples[0].phase', 'empty'),
    'hash': (lambda d: d.update(files={'rgb/0.png': {'sha256': 'abc', 'bytes': 1}}), "files['rgb/0.png'].sha256", 'no hash'),
    'size': (lambda d: d.update(files={'rgb/0.png': {'sha256': '0'*64, 'bytes': -1}}), "files['rgb/0.png'].bytes", 'no size'),
    'unlisted': (lambda d: d.update(files={'rgb/0.png': {'sha256': '0'*64, 'bytes': 1}}), "files['all/0.npz']", 'not listed'),
    'packed shard': (lambda d: d.update(shards=['a.tar.gz']), 'shards[0]', 'no plain tar'),
    'shard twice': (lambda d: d.update(shards=['a.tar', 'a.tar']), 'shards[1]', 'twice'),
    'shard outside': (lambda d: d.update(shards=['../a.tar']), 'shards[0]', 'leads out'),
}

@pytest.mark.parametrize('name', FAULTS)
def test_a_fault_is_named_with_its_place(name, tmp_path):
    change, place, word = FAULTS[name]
    data = plain()
    change(data)
    (tmp_path/'manifest.json').write_text(json.dumps(data))
    error = refused(ManifestError, str(tmp_path/'manifest.json'), f' {place}: ', word, action=lambda: read_manifest(tmp_path))
    assert error.details['path'] == place and error.details['file'] == str(tmp_path/'manifest.json')


@pytest.mark.parametrize('text', ['', '{', '[1,2', '{"version": 1,}', '\x00', '"text"', '[]', 'null', '7', '{"version": NaN}', '['*5000])
def test_what_is_no_manifest(text, tmp_path):
    (tmp_path/'manifest.json').write_text(text)
    refused(ManifestError, 'manifest.json', action=lambda: read_manifest(tmp_path/'manifest.json'))


def test_a_manifest_that_is_not_there(tmp_path):
    refused(ManifestError, 'no such file', action=lambda: BenchmarkDataset.from_manifest(tmp_path/'x.json'))
    refused(ManifestError, 'no manifest.json', action=lambda: BenchmarkDataset.from_manifest(tmp_path))
    for split in ('a', 'b'): write_manifest([sample()], tmp_path/split, task='toy_any', name='x')
    (tmp_path/'manifests'/'t').mkdir(parents=True)
    for split in ('a', 'b'): (tmp_path/'manifests'/'t'/f'{split}.json').write_text('{}')
    assert 'manifests/t/a.json, manifests/t/b.json' in refused(ManifestError, action=lambda: read_manifest(tmp_path)).hint


def test_the_task_is_known_and_gets_what_it_needs(tmp_path):
    def opened(**changes):
        (tmp_path/'manifest.json').write_text(json.dumps({**plain(), **changes}))
        return BenchmarkDataset.from_manifest(tmp_path)
    assert len(opened()) == 5
    assert "'toy_depth'" in refused(ManifestError, 'manifest.json: task: ', 'toy_depht', action=lambda: opened(task='toy_depht')).hint
    samples = plain()['samples']
    refused(ManifestError, 'samples[1].phase', "'cluter'", action=lambda: opened(samples=[samples[0], {**samples[1], 'phase': 'cluter'}]))
    refused(ManifestError, 'samples[0].difficulty', action=lambda: opened(samples=[{**samples[0], 'difficulty': 'expert'}]))
    refused(ManifestError, "needs the target 'depth'", action=lambda: opened(modalities={'rgb': plain()['modalities']['rgb']}, samples=[{'id': 'a', 'inputs': {'rgb': 'a.png'}}]))


junk = st.recursive(st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=6) | st.sampled_from(['../x', 'a.tar', 'x/y.npy', 'NaN', 'input']),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(['id', 'file', 'key', 'inputs', 'role', 'rgb']), inner, max_size=3), max_leaves=6)

def places(value, here=()):
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items: yield from places(inner, (*here, key))

@SOME
@given(st.data())
def test_a_manifest_that_was_changed_at_random_gives_only_errors_of_ours(data):
    d = plain()
    for _ in range(data.draw(st.integers(1, 3))):
        way = data.draw(st.sampled_from([p for p in places(d) if p] or [()]))
        if not way: break
        holder = d
        for key in way[:-1]: holder = holder[key]
        what = data.draw(st.sampled_from(['replace', 'remove', 'add']))
        if what == 'replace': holder[way[-1]] = data.draw(junk)
        elif what == 'remove': del holder[way[-1]]
        elif isinstance(holder, dict): holder[data.draw(st.text(max_size=5))] = data.draw(junk)
    try: manifest = parse_manifest(d, 'm.json')
    except ManifestError as e: assert e.hint and e.message.startswith('m.json')
    else:
        assert parse_manifest(json.loads(manifest.to_json())) == manifest
        dataset = BenchmarkDataset(task='t', name='n', split='s', entries=manifest.samples, load=lambda i: sample(), identity=manifest.identity(), modalities=manifest.modalities)
        repr(dataset)


@SOME
@given(st.data())
def test_what_the_reader_takes_the_schema_takes(data):
    "A manifest that is read without complaint follows the JSON Schema; one that breaks the schema is refused"
    jsonschema = pytest.importorskip('jsonschema', reason='jsonschema, which compares the schema with the reader, is not installed')
    validator = jsonschema.Draft202012Validator(manifest_schema())
    d = plain()
    assert validator.is_valid(d)
    way = data.draw(st.sampled_from([p for p in places(d) if p]))
    holder = d
    for key in way[:-1]: holder = holder[key]
    if data.draw(st.booleans()): holder[way[-1]] = data.draw(junk)
    elif isinstance(holder, dict): holder[data.draw(st.text(max_size=5))] = data.draw(junk)
    try: d = json.loads(json.dumps(d, allow_nan=False))
    except ValueError: return       # NaN is no JSON
    if not validator.is_valid(d):
        with pytest.raises(ManifestError): parse_manifest(d)


def test_the_schema_says_something_about_every_field():
    from calibrax.bench import manifest as module
    import dataclasses
    for name, about in _ABOUT.items(): assert set(about) == {f.name for f in dataclasses.fields(getattr(module, name))}
    assert {r[0].split('.')[-1] for r in schema_table().rows} >= {n for about in _ABOUT.values() for n in about}
    assert json.loads(json.dumps(manifest_schema())) == manifest_schema()


def test_paths_and_folders():
    for path in ('a', 'a/b.png', 'ä/ö.npy', '...', 'a b/c', '.hidden/x'): assert not check_path(path), path
    for path in ('', '.', '..', 'a/..', '/a', 'a/', './a', 'a//b', 'a\\b', 'C:', 'c:/x', 'a\nb', 'a\x00b', 3, None): assert check_path(path), path
    assert dataset_folder('/data/manifests/t/easy.json').as_posix() == '/data' and dataset_folder('/data/easy.json').as_posix() == '/data' and dataset_folder('/x.json') == Path('/')


# --- what a file holds -----------------------------------------------------------------------------------------------------

def png(pixels, **options):
    out = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(out, options.pop('format', 'PNG'), **options)
    return out.getvalue()

def test_depth_in_millimetres_becomes_metres():
    modality = Modality(role='target', kind='depth', dtype='float32', unit='m', scale=.001)
    values = np.array([[0, 1, 1500], [65535, 40000, 7]], np.uint16)
    found = checked(decode(png(values), '.png', 'depth', modality), modality, place='x')
    assert found.dtype == np.float32 and np.array_equal(found, (values/1000).astype(np.float32))
    assert np.array_equal(checked(np.float32([[1.5]]), modality, place='x'), [[1.5]])       # metres already


def test_pictures_masks_and_palettes():
    image, mask = Modality(role='input', kind='image', dtype='uint8', shape=(None, None, 3)), Modality(role='target', kind='mask', dtype='int32', shape=(None, None))
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert('L')
    palette = Image.frombytes('P', palette.size, palette.tobytes())
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert np.array_equal(checked(decode(png(palette), '.png', 'mask', mask), mask, place='x'), [[0, 1], [2, 1]])
    assert np.array_equal(decode(png(palette), '.png', 'rgb', image)[0, 0], [255, 0, 0])
    grey = np.array([[7, 9]], np.uint8)
    assert decode(png(grey), '.png', 'rgb', image).shape == (1, 2, 3)
    assert checked(decode(png(grey.astype(np.uint16)*300), '.png', 'mask', mask), mask, place='x').tolist() == [[2100, 2700]]
    alpha = np.dstack([np.zeros((1, 2, 3), np.uint8), grey[..., None]])
    assert decode(png(alpha), '.png', 'rgb', image).shape == (1, 2, 3)
    assert decode(png(alpha), '.png', 'rgba', Modality(role='input', kind='image', dtype='uint8', shape=(None, None, 4))).shape == (1, 2, 4)
    assert decode(png(np.full((8, 8, 3), 90, np.uint8), format='JPEG'), '.JPG', 'rgb', image).shape == (8, 8, 3)


def npy(array, **options):
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()

ANY = Modality(role='input', dtype='float64')

@pytest.mark.parametrize('data, suffix', [(b'', '.npy'), (b'\x93NUMPY', '.npy'), (npy(np.zeros(9))[:-3], '.npy'), (npy(np.array([{}], object), allow_pickle=True), '.npy'), (b'PK\x03\x04 broken', '.npz'),
                                          (b'\x89PNG\r\n\x1a\n broken', '.png'), (b'GIF89a', '.png'), (png(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))[:500], '.png'), (b'\xff\xd8\xff', '.jpg'), (b'{', '.json'), (b'\xff\xfe', '.txt'),
                                          (b'', '.json'), (b'x', '.exe'), (b'x', '')], ids=range(14))
def test_a_damaged_file_is_named(data, suffix):
    error = refused(DatasetError, 'rgb/0', action=lambda: decode(data, suffix, 'rgb', ANY, place='rgb/0'))
    assert ' at 0x' not in error.message


def test_an_array_file_that_claims_to_be_huge():
    "A header of terabytes and no data"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + '\n'
    refused(DatasetError, 'x.npy', action=lambda: decode(b'\x93NUMPY\x01\x00' + struct.pack('<H', 118) + header.encode(), '.npy', 'x', ANY, place='x.npy'))


def test_one_array_out_of_several():
    out = io.BytesIO()
    np.savez(out, depth=np.ones(2), other=np.zeros(3))
    assert decode(out.getvalue(), '.npz', 'depth', ANY).tolist() == [1, 1] and decode(out.getvalue(), '.npz', 'depth', ANY, key='other').tolist() == [0, 0, 0]
    assert 'depth, other' in refused(DatasetError, 'x.npz', "'rgb'", action=lambda: decode(out.getvalue(), '.npz', 'rgb', ANY, place='x.npz')).hint
    assert decode(b'{"a": [1, 2], "b": 3}', '.json', 'x', ANY, key='b') == 3 and decode(b'[1, 2]', '.json', 'x', ANY) == [1, 2]


@pytest.mark.parametrize('value, dtype, fine', [(3, 'int64', True), (3, 'float32', True), (3.0, 'int64', True), (3.5, 'int64', False), (300, 'uint8', False), (-1, 'uint8', False), (.1, 'float32', True), (True, 'bool', True),
                                                (1, 'bool', False), (1e300, 'float32', False), (float('nan'), 'float32', True), (float('nan'), 'int64', False), (2**60 + 1, 'float32', False), ('x', 'float32', False), (None, 'float32', False)])
def test_values_are_converted_where_nothing_is_lost(value, dtype, fine):
    modality = Modality(role='target', dtype=dtype)
    if fine: assert checked(value, modality, place='x').dtype == dtype
    else: refused(DatasetError, 'x: expected', action=lambda: checked(value, modality, place='x'))


def test_shapes():
    modality = Modality(role='input', dtype='float64', shape=(None, 3))
    assert checked(np.zeros((7, 3)), modality, place='x').shape == (7, 3)
    for wrong in ((3,), (7, 4), (1, 7, 3), ()): assert refused(DatasetError, 'x: expected the shape –×3', action=lambda: checked(np.zeros(wrong), modality, place='x')).details['expected'] == '–×3'


@SOME
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(v*v for v in q) > 1e-3), st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_a_quaternion_is_a_rotation(q, p):
    pose = camera_matrix('pose', pose_matrix(p, q))
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.isclose(np.linalg.det(pose[:3, :3]), 1) and np.array_equal(pose[:3, 3], p)
    axis = np.array(q[:3])       # which does not turn
    assert np.allclose(pose[:3, :3] @ axis, axis, atol=1e-6)


@pytest.mark.parametrize('name, value', [('pose', np.eye(3)), ('pose', np.diag([1, 1, -1, 1])), ('pose', np.full((4, 4), np.nan)), ('pose', {'position': [0, 0, 0]}), ('pose', {'position': [0, 0, 0], 'orientation': [0, 0, 0, 0]}),
                                         ('pose', 'x'), ('pose', [[1], [2, 3]]), ('intrinsics', np.eye(4)), ('intrinsics', np.diag([-1, 1, 1])), ('intrinsics', np.zeros((3, 3)))])
def test_a_camera_that_is_none(name, value):
    refused(DatasetError, 'the place', action=lambda: camera_matrix(name, value, place='the place'))


def test_what_is_no_array_of_numbers_is_named():
    for value in ([[1], [2, 3]], 'text', None, {'a': 1}, np.array(['a']), np.array([{}], object), 10**40): refused(DatasetError, 'place', 'expected numbers', action=as_numbers, value=value, place='place')
    assert as_numbers(np.array([1, 2], '>u2'), place='x').dtype == np.dtype('uint16')

def test_a_guess_is_widened_as_far_as_needed():
    assert guess_modality('mask', np.zeros((4, 4), np.uint8)).kind is Kind.MASK and guess_modality('mask_rgb', np.zeros((4, 4, 3), np.uint8)).kind is Kind.IMAGE
    assert guess_modality('depth', np.zeros((4, 4), np.int32)).kind is Kind.ARRAY and guess_modality('label', np.int64(3)).kind is Kind.LABEL
    m = guess_modality('x', np.zeros((4, 4)))
    assert widened(m, np.ones((4, 4))) is m and widened(m, np.zeros((5, 4))).shape == (None, 4) and widened(m, np.zeros(4)).shape is None
    assert widened(widened(m, np.zeros(4)), np.zeros((4, 4))).shape is None
    assert infer_modalities([sample(1), sample(2)]) == infer_modalities([sample(2)], infer_modalities([sample(1)]))


# --- tar archives ----------------------------------------------------------------------------------------------------------

def tar(path, members, mode='w', **options):
    with tarfile.open(path, mode, **options) as archive:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path

@pytest.mark.parametrize('form', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_read_in_any_order_by_many_threads(tmp_path, form):
    content = {f'deep/{"x"*60}/{i}.bin': bytes([i])*(i*37) for i in range(40)}
    tar(tmp_path/'a.tar', list(content.items())[:20], format=form)
    tar(tmp_path/'b.tar', list(content.items())[20:], format=form)
    shards = TarShards(tmp_path, ['a.tar', 'b.tar'])
    names, wrong = list(content)*4, []
    np.random.default_rng(0).shuffle(names)
    def work(part): wrong.extend(n for n in part if shards.read(n) != content[n])
    threads = [threading.Thread(target=work, args=(names[k::4],)) for k in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert not wrong and set(shards.index) == set(content)
    again = pickle.loads(pickle.dumps(shards))
    assert again.read(names[0]) == content[names[0]]


def link(name, kind, target=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info

@pytest.mark.parametrize('member, word', [('../x', 'leads out'), ('/etc/x', 'not below'), ('a/../../x', 'leads out'), (link('x', tarfile.SYMTYPE, '/etc/passwd'), 'link'), (link('x', tarfile.LNKTYPE, 'y'), 'link'), (link('x', tarfile.CHRTYPE), 'device')])
def test_members_that_do_not_belong(tmp_path, member, word):
    tar(tmp_path/'a.tar', [(member, b'')])
    refused(DatasetError, 'a.tar', word, action=lambda: TarShards(tmp_path, ['a.tar']).index)


@pytest.mark.parametrize('mode', ['w:gz', 'w:bz2', 'w:xz'])
def test_a_compressed_archive_is_refused(tmp_path, mode):
    tar(tmp_path/'a.tar', [('x', b'1')], mode)
    assert 'unpack' in refused(DatasetError, 'compressed', mode[2:4] if mode != 'w:bz2' else 'bzip2', action=lambda: TarShards(tmp_path, ['a.tar']).index).hint


def test_damaged_archives(tmp_path):
    whole = tar(tmp_path/'a.tar', [('x', b'1'*5000), ('y', b'2'*5000)]).read_bytes()
    for size in (0, 100, 700, 3000, 6000, 9000):
        (tmp_path/'a.tar').write_bytes(whole[:size])
        refused(DatasetError, action=lambda: [TarShards(tmp_path, ['a.tar']).read(n) for n in 'xy'])
    (tmp_path/'a.tar').write_bytes(b'no archive at all '*200)
    refused(DatasetError, 'no readable tar', action=lambda: TarShards(tmp_path, ['a.tar']).index)
    tar(tmp_path/'a.tar', [('x', b'1')]), tar(tmp_path/'b.tar', [('x', b'1')])
    refused(DatasetError, 'also in', action=lambda: TarShards(tmp_path, ['a.tar', 'b.tar']).index)
    refused(DatasetError, 'no such file', action=lambda: TarShards(tmp_path, ['c.tar']).index)


# --- datasets --------------------------------------------------------------------------------------------------------------

def test_written_and_read_again(tmp_path):
    samples = [sample(i) for i in range(10)]
    dataset = BenchmarkDataset.from_samples(samples, task='toy_depth', name='rooms', split='easy')
    plain_, packed = write_manifest(dataset, tmp_path/'plain'), write_manifest(dataset, tmp_path/'packed', per_shard=4)
    for path in (plain_, packed):
        found = BenchmarkDataset.from_manifest(path, verify=True)
        assert (found.task, found.name, found.split, len(found)) == ('toy_depth', 'rooms', 'easy', 10)
        assert found.entries[3] == SampleEntry(index=3, id='s3', scene='room0', phase='clean', difficulty='easy') and found.modalities == dataset.modalities
        for a, b in zip(found, samples): equal(a, b)
    assert len(list((tmp_path/'packed').rglob('*'))) == 1 + 1 + 3
    assert write_manifest(dataset, tmp_path/'again', per_shard=4).read_bytes() == packed.read_bytes()      # equal data, equal archives
    refused(DatasetError, 'there already', action=lambda: write_manifest(dataset, tmp_path/'plain'))


shapes = st.sampled_from([(), (3,), (20,), (4, 5), (4, 5, 3), (2, 0), (4, 5, 4)])
dtypes = st.sampled_from(['bool', 'uint8', 'int32', 'int64', 'uint16', 'float16', 'float32', 'float64', 'complex64'])

@SOME
@given(modalities=st.dictionaries(st.sampled_from(['rgb', 'depth', 'mask', 'x', 'label']), st.tuples(shapes, dtypes), min_size=1), count=st.integers(1, 4), per_shard=st.sampled_from([None, 1, 3]), seed=st.integers(0, 99),
       names=st.lists(st.text(min_size=1, max_size=8).filter(lambda t: t.strip() and t.isprintable()), min_size=4, max_size=4, unique=True), texts=st.lists(st.text(max_size=9).filter(lambda t: '\x00' not in t), min_size=4, max_size=4))
def test_any_arrays_survive_the_way_to_disk_and_back(tmp_path_factory, modalities, count, per_shard, seed, names, texts):
    rng = np.random.default_rng(seed)
    def array(shape, dtype):
        raw = rng.integers(0, 2**16, shape) if dtype != 'bool' else rng.integers(0, 2, shape)
        with np.errstate(all='ignore'): a = np.asarray(raw).astype(dtype)
        if np.dtype(dtype).kind == 'f' and a.size: a = np.where(np.asarray(raw) % 5 == 0, np.asarray([np.nan, np.inf, -np.inf, .1], dtype)[np.asarray(raw) % 4], a).astype(dtype)
        return a
    samples = [Sample(id=names[i], inputs={'first': np.float32(i), 'words': np.asarray(texts[i]), **{n: array(*m) for n, m in modalities.items()}}, scene=names[-1]) for i in range(count)]
    folder = tmp_path_factory.mktemp('round')
    found = BenchmarkDataset.from_manifest(write_manifest(samples, folder, task='toy_any', name='x', per_shard=per_shard), verify=True)
    for a, b in zip(found, samples, strict=True): equal(a, b)


def test_files_that_are_wrong(tmp_path):
    path = write_manifest([sample(i) for i in range(6)], tmp_path, task='toy_depth', name='rooms')
    dataset, files = BenchmarkDataset.from_manifest(path), sorted(tmp_path.rglob('*.npy'))
    files[0].unlink()
    files[1].write_bytes(b'')
    files[2].write_bytes(npy(np.zeros((6, 8), np.float64)))
    files[3].write_bytes(npy(np.zeros((6, 9), np.float32)))
    files[4].write_bytes(files[4].read_bytes()[:-1] + bytes([files[4].read_bytes()[-1] ^ 1]))
    for i, words in enumerate([('no such file',), ('no npy file',), ('expected float32, found float64',), ('expected the shape 6×8, found 6×9',)]):
        error = refused(DatasetError, str(files[i]), *words, action=lambda: dataset[i])
        assert error.details['sample'] == f's{i}'
    found = verify_manifest(path)
    assert not found.ok and [f for f, _ in found.problems] == [f.relative_to(tmp_path).as_posix() for f in files[:5]] and found.hashed
    assert 'missing' in repr(found) and 'SHA-256' in repr(found)
    refused(DatasetError, 'missing', '4 more', action=lambda: BenchmarkDataset.from_manifest(path, verify=True))


def test_verify_looks_into_the_shards(tmp_path):
    path = write_manifest([sample(i) for i in range(6)], tmp_path, task='toy_depth', name='rooms', per_shard=3)
    assert verify_manifest(path).ok and verify_manifest(tmp_path).files == 2
    data = json.loads(path.read_text())
    data['samples'][0]['inputs']['rgb'] = 'nowhere.png'
    path.write_text(json.dumps(data))
    assert verify_manifest(path).problems == (('nowhere.png', 'it is in no shard'),)


def test_parts(tmp_path):
    dataset = BenchmarkDataset.from_function([f's{i}' for i in range(20)], sample, task='toy_depth', name='rooms', identity='1')
    part = dataset.select([3, 9, 4])
    assert [s.id for s in part] == ['s3', 's9', 's4'] and [e.index for e in part.entries] == [0, 1, 2]
    assert [s.id for s in part.take(2)] == ['s3', 's9'] and part[-1].id == 's4' and dataset.take(None) is dataset is dataset.take(99)
    assert len({dataset.identity, part.identity, part.take(2).identity, dataset.take(3).identity}) == 4 and dataset.take(3).identity == dataset.take(3).identity
    for wrong in (0, -1, True, 2.5): refused(DatasetError, 'limit', action=lambda: dataset.take(wrong))
    for wrong in (20, -21, 'a', None, 1.5, slice(0, 2)):
        refused(DatasetError, 'no sample', action=lambda: dataset[wrong])
        refused(DatasetError, 'no sample', action=lambda: dataset.select([wrong]))
    assert [s.id for s in dataset.select(np.array([-1, 2]))] == ['s19', 's2']
    refused(DatasetError, 'no samples', action=lambda: dataset.select([]))


def test_identity_tells_contents_apart():
    def made(*samples): return BenchmarkDataset.from_samples(samples, task='toy_any', name='x').identity
    assert made(sample(0)) == made(sample(0)) != made(sample(1))
    assert len({made(sample(0)), made(sample(0, scene='x')), made(sample(0, pose=None)), made(sample(0, id='y')), made(sample(0), sample(1)), made(sample(1), sample(0)), made(sample(0, metadata={'lamp': 'off'})), made(sample(0, metadata={}))}) == 8
    assert made(sample(0, metadata={'a': 1, 'b': object()})) == made(sample(0, metadata={'b': object(), 'a': 1}))      # what no record can hold has no part in it


@pytest.mark.parametrize('load, word', [(lambda i: 1/0, 'ZeroDivisionError'), (lambda i: None, 'NoneType'), (lambda i: sample(7), "'s7'"), (lambda i: {}['x'], 'KeyError')])
def test_a_function_that_does_not_make_samples(load, word):
    dataset = BenchmarkDataset.from_function(['s0'], load, task='toy_any', name='x', identity='1')
    assert refused(DatasetError, word, action=lambda: dataset[0]).details['sample'] == 's0'


def test_arguments_that_make_no_dataset():
    def function(entries=('a',), load=sample, **named): return BenchmarkDataset.from_function(entries, load, **{'task': 't', 'name': 'n', 'identity': '1', **named})
    for named in ({'entries': ()}, {'entries': ('a', 'a')}, {'entries': ('',)}, {'entries': (3,)}, {'load': 3}, {'task': ''}, {'identity': None}): refused(DatasetError, action=lambda: function(**named))
    refused(DatasetError, 'expected samples', action=lambda: BenchmarkDataset.from_samples([1], task='t', name='n'))
    with pytest.raises(DatasetError, match="'s1'"): infer_modalities([sample(0), sample(1, targets={})])
    with pytest.raises(DatasetError, match='float64'): infer_modalities([sample(0), sample(1, targets={'depth': np.zeros((6, 8)), 'label': np.int64(1)})])
    with pytest.raises(DatasetError, match='input and a target'): infer_modalities([sample(0, targets={'rgb': np.zeros(3)})])
    with pytest.raises(DatasetError, match='give task and name|do not say'): write_manifest([sample()], 'x')
    with pytest.raises(DatasetError, match='per_shard'): write_manifest([sample()], 'x', task='t', name='n', per_shard=0)
    for path in (None, 3):
        for action in (lambda: BenchmarkDataset.from_manifest(path), lambda: write_manifest([sample()], path, task='t', name='n'), lambda: make_manifest(path, task='toy_any')):
            refused(ManifestError, 'is no path', action=action)


@pytest.mark.parametrize('samples, word', [([], 'no samples'), (None, 'found NoneType'), ([3], 'found int'), ([sample(inputs={'rgb': np.zeros(3, np.longdouble)})], 'longdouble'),
                                           ([sample(inputs={'rgb': np.array(['a', 'b'])})], 'expected one text'), ([sample(metadata={'a': object()})], 'metadata.a')],
                         ids=['none', 'nothing', 'numbers', 'wide', 'texts', 'metadata'])
def test_samples_that_cannot_be_written(tmp_path, samples, word):
    refused(DatasetError, word, action=lambda: write_manifest(samples, tmp_path, task='toy_depth', name='n'))
    assert not (tmp_path/'manifest.json').exists()


def test_the_order_of_bytes_is_no_other_type(tmp_path):
    wide, small = np.arange(200, dtype='>f4').reshape(10, 20), np.arange(3, dtype='>i2')
    samples = [sample(i, inputs={'rgb': wide, 'gray': small}) for i in range(2)]
    assert {n: m.dtype for n, m in infer_modalities(samples).items()}['rgb'] == 'float32'
    found = BenchmarkDataset.from_manifest(write_manifest(samples, tmp_path/'written', task='toy_depth', name='n'))[1].inputs
    assert found['rgb'].dtype == np.float32 and np.array_equal(found['rgb'], wide) and found['gray'].dtype == np.int16 and np.array_equal(found['gray'], small)
    (tmp_path/'made'/'x').mkdir(parents=True)
    np.save(tmp_path/'made'/'x'/'0.npy', wide)
    assert np.array_equal(BenchmarkDataset.from_manifest(make_manifest(tmp_path/'made', task='toy_any'))[0].input('x'), wide)


def test_a_folder_called_manifests(tmp_path):
    path = write_manifest([sample()], tmp_path/'manifests'/'rooms', task='toy_depth', name='n')
    equal(BenchmarkDataset.from_manifest(path)[0], sample())


def test_names_in_any_writing(tmp_path):
    for name in ('1²2', '1²10', 'ä 日本', 'x٣'):
        (tmp_path/'rgb').mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path/'rgb'/f'{name}.png')
    dataset = BenchmarkDataset.from_manifest(make_manifest(tmp_path, task='toy_any'))
    assert [e.id for e in dataset.entries] == ['1²2', '1²10', 'x٣', 'ä 日本'] and dataset[3].input('rgb').shape == (4, 4, 3)


def test_display():
    dataset = BenchmarkDataset.from_samples([sample(i) for i in range(6)], task='toy_depth', name='rooms <1>', split='easy')
    text, html = repr(dataset), dataset._repr_html_()
    assert '6 samples, 2 scenes' in text and 'depth     target  depth  float32  6×8     m' in text and 'rooms &lt;1&gt;' in html and html.count('<table>') == 2
    assert dataset.counts().rows == (('clutter', '3', '3'), ('clean', '3', '3'), ('all', '6', '6'))
    import matplotlib
    matplotlib.use('Agg')
    figure, axes = dataset.plot(3)
    assert axes.shape == (3, 3) and axes[0, 1].get_title() == 's1 clean easy' and len({i.get_clim() for a in axes[1] for i in a.images}) == 1


def test_what_was_looked_at_can_still_be_written(tmp_path):
    "The modalities that a display shows are those of the first sample; what is written has room for all"
    def load(i): return Sample(id=f's{i}', inputs={'x': np.zeros((20 + i, 3))})
    dataset = BenchmarkDataset.from_function(['s0', 's1'], load, task='toy_any', name='growing', identity='1')
    assert '20×3' in repr(dataset)
    assert read_manifest(write_manifest(dataset, tmp_path)).modalities['x'].shape == (None, 3)

def test_a_snapshot_of_the_hub_is_known_by_its_folder():
    assert snapshot_revision(Path('a/snapshots')/('0af1'*10)) == '0af1'*10
    for other in ('a/snapshots/main', 'a/b/' + '0af1'*10, 'a/snapshots/' + '0AF1'*10, '/'): assert snapshot_revision(Path(other)) is None

def test_a_dataset_travels_between_processes(tmp_path):
    path = write_manifest([sample(i) for i in range(4)], tmp_path, task='toy_depth', name='rooms', per_shard=2)
    dataset = BenchmarkDataset.from_manifest(path).select([1, 3])
    equal(pickle.loads(pickle.dumps(dataset))[1], sample(3))


def test_importing_is_quick():
    code = 'import sys, calibrax.bench.hub, calibrax.bench.loading; print([m for m in ("jax", "flax", "matplotlib", "scipy", "pandas", "PIL", "huggingface_hub", "torch") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'


# --- folders ---------------------------------------------------------------------------------------------------------------

def folder(root, splits=('easy',), scenes=('kitchen',), phases=('clutter',), count=3):
    for split in splits:
        for scene in scenes:
            for phase in phases:
                place = root.joinpath(*filter(None, (split, scene, phase)))
                for kind in ('rgb', 'depth', 'pose'): (place/kind).mkdir(parents=True, exist_ok=True)
                for i in range(count):
                    (place/'rgb'/f'{i}.png').write_bytes(png(np.full((4, 5, 3), i, np.uint8)))
                    (place/'depth'/f'{i}.png').write_bytes(png(np.full((4, 5), 1000 + i, np.uint16)))
                    np.savez(place/'pose'/f'{i}.npz', position=[i, 0, 0], orientation=[0, 0, 0, 2])
    return root

def test_a_folder_becomes_a_dataset(tmp_path):
    folder(tmp_path, ('easy', 'hard'), ('kitchen', 'hall'), ('clutter', 'clean'), 12)
    info = make_manifest(tmp_path, task='toy_depth', split='hard', name='rooms')
    assert info.path == tmp_path/'manifests'/'toy_depth'/'hard.json' and info.scenes == 2 and info.bytes > 0 and len(info.manifest.files) == 2*2*12*3
    dataset = BenchmarkDataset.from_manifest(info, verify=True)
    assert len(dataset) == 48 and [e.id for e in dataset.entries][:12] == [f'hall/clean/{i}' for i in range(12)]       # 2 before 10
    s = dataset[11]
    assert (s.scene, s.phase, s.difficulty) == ('hall', 'clean', 'hard') and s.pose[0, 3] == 11 and s.target('depth')[0, 0] == np.float32(1.011)
    assert list(dataset.modalities) == ['rgb', 'depth'] and dataset.modalities['depth'] == Modality(role='target', kind='depth', dtype='float32', shape=(4, 5), unit='m', scale=.001)
    assert 'easy, hard' in refused(ManifestError, 'several splits', action=lambda: make_manifest(tmp_path, task='toy_depth')).hint
    refused(ManifestError, "no split 'medium'", action=lambda: make_manifest(tmp_path, task='toy_depth', split='medium'))
    refused(ManifestError, 'there already', action=lambda: make_manifest(tmp_path, task='toy_depth', split='hard'))


def test_a_flat_folder_with_single_values(tmp_path):
    folder(tmp_path, ('',), ('',), ('',))
    (tmp_path/'samples.json').write_text(json.dumps({str(i): {'label': i, 'phase': 'clean', 'difficulty': 'hard', 'scene': 'attic', 'metadata': {'k': i}} for i in range(3)}))
    (tmp_path/'scene.json').write_text('{"difficulty": "easy", "intrinsics": [[5, 0, 2], [0, 5, 2], [0, 0, 1]]}')
    info = make_manifest(tmp_path, task='toy_depth')
    assert info.path == tmp_path/'manifest.json'
    s = BenchmarkDataset.from_manifest(tmp_path)[2]
    assert (s.scene, s.phase, s.difficulty, dict(s.metadata), int(s.target('label'))) == ('attic', 'clean', 'hard', {'k': 2}, 2) and s.intrinsics[0, 0] == 5


def test_folders_that_do_not_fit(tmp_path):
    def made(change, *words, **named):
        root = folder(tmp_path/str(len(list(tmp_path.iterdir()))))
        change(root/'easy'/'kitchen'/'clutter')
        return refused((ManifestError, DatasetError), *words, action=lambda: make_manifest(root, **{'task': 'toy_depth', **named}))
    made(lambda p: (p/'depth'/'1.png').unlink(), "'kitchen/clutter/1' has no depth")
    made(lambda p: (p/'rgb'/'1.npy').write_bytes(npy(np.zeros(3))), 'same sample')
    made(lambda p: (p/'rgb'/'1.png').write_bytes(b'x'), '1.png', 'no png')
    made(lambda p: (p/'pose'/'1.npz').write_bytes(b'x'), '1.npz')
    made(lambda p: (p/'samples.json').write_text('[]'), 'samples.json')
    made(lambda p: (p/'samples.json').write_text('{"0": 3}'), 'samples.json: 0')
    made(lambda p: (p/'samples.json').write_text('{"0": {"label": 1}}'), 'has no label')
    made(lambda p: (p/'samples.json').write_text('{"0": {"v": [[1], [2, 3]]}}'), "'kitchen/clutter/0': v", 'regular shape')
    made(lambda p: (p/'scene.json').write_text('{'), 'scene.json')
    made(lambda p: (p/'scene.json').write_text('{"difficulty": 3}'), 'difficulty')
    made(lambda p: (p/'scene.json').write_text('{"difficulty": "expert"}'), 'difficulty')
    made(lambda p: p.rename(p.with_name('cluter')), "'cluter' is no phase")
    made(lambda p: (p/'a'/'rgb').mkdir(parents=True) or (p/'a'/'rgb'/'0.png').write_bytes(png(np.zeros((2, 2), np.uint8))), 'too deep')
    made(lambda p: (p.parents[1]/'0.png').write_bytes(b''), 'no folder of a modality')
    made(lambda p: [(p/'depth'/f'{i}.png').unlink() for i in range(3)], "target 'depth'")
    made(lambda p: [(p/'zz').mkdir(), *((p/'zz'/f'{i}.npy').write_bytes(npy(np.zeros(2))) for i in range(3))], "'zz' an input or a target")
    made(lambda p: None, 'toy_depht', task='toy_depht')
    made(lambda p: None, 'expected the shape', modalities={'rgb': Modality(role='input', kind='image', dtype='uint8', shape=(9, 9, 3))})
    refused(ManifestError, 'no folder', action=lambda: make_manifest(tmp_path/'nowhere', task='toy_depth'))
    (tmp_path/'empty').mkdir()
    refused(ManifestError, 'no data', action=lambda: make_manifest(tmp_path/'empty', task='toy_depth'))


def test_sizes_that_differ_become_any_length(tmp_path):
    folder(tmp_path)
    place = tmp_path/'easy'/'kitchen'/'clutter'
    (place/'rgb'/'2.png').write_bytes(png(np.zeros((9, 5, 3), np.uint8)))
    (place/'extra').mkdir()
    for i in range(3): (place/'extra'/f'{i}.npy').write_bytes(npy(np.zeros(i + 1, np.float32)))
    (place/'notes.md').write_text('left out')
    info = make_manifest(tmp_path, task='toy_depth', inputs=['extra'])
    assert info.manifest.modalities['rgb'].shape == (None, 5, 3) and info.manifest.modalities['extra'] == Modality(role='input', dtype='float32', shape=(None,))
    assert BenchmarkDataset.from_manifest(info)[2].input('rgb').shape == (9, 5, 3)


def test_shards_and_folder_hold_the_same(tmp_path):
    folder(tmp_path/'data', phases=('clutter', 'clean'))
    dataset = BenchmarkDataset.from_manifest(make_manifest(tmp_path/'data', task='toy_depth'))
    packed = BenchmarkDataset.from_manifest(write_manifest(dataset, tmp_path/'packed', per_shard=2), verify=True)
    for a, b in zip(dataset, packed, strict=True): equal(a, b)
    assert {k: (m.dtype, m.shape, m.unit) for k, m in packed.modalities.items()} == {k: (m.dtype, m.shape, m.unit) for k, m in dataset.modalities.items()}


# --- loading ahead ---------------------------------------------------------------------------------------------------------

def counted(n, load=None, **named):
    seen = []
    def make(i):
        seen.append(i)
        if load: load(i)
        return Sample(id=f's{i}', inputs={'x': np.float32(i)})
    return BenchmarkDataset.from_function([f's{i}' for i in range(n)], make, task='toy_any', name='n', identity='1', **named), seen

def loading_threads(): return [t for t in threading.enumerate() if t.name.startswith('calibrax-loading')]

@SOME
@given(n=st.integers(1, 30), size=st.integers(1, 9), first=st.integers(0, 5), workers=st.integers(0, 4), ahead=st.integers(0, 4))
def test_order_is_kept_and_nothing_is_lost(n, size, first, workers, ahead):
    dataset, seen = counted(n)
    batches = list(load_batches(dataset, size, start=first*size, workers=workers, ahead=ahead))
    assert [b.index for batch in batches for b in batch] == list(range(first*size, n)) and sorted(seen) == list(range(first*size, n))
    assert all(len(batch) == size for batch in batches[:-1]) and all(b.sample.id == b.entry.id == f's{b.index}' for batch in batches for b in batch)
    assert not loading_threads()


def test_order_is_kept_when_some_samples_take_longer():
    dataset, _ = counted(40, load=lambda i: time.sleep(.02 if i % 7 == 0 else 0))
    assert [b.index for batch in load_batches(dataset, 4, workers=4, ahead=3) for b in batch] == list(range(40))


def test_errors_are_carried():
    def broken(i):
        if i % 3 == 1: raise RuntimeError(f'no {i}')
    dataset, _ = counted(10, load=broken)
    for workers in (0, 2):
        found = [b for batch in load_batches(dataset, 4, workers=workers) for b in batch]
        assert [b.sample is None for b in found] == [i % 3 == 1 for i in range(10)] and isinstance(found[1], Loaded)
        assert isinstance(found[1].error, DatasetError) and 'no 1' in found[1].error.message and found[1].entry.id == 's1' and found[0].error is None


def test_reading_ahead_is_bounded_and_stops_with_the_consumer():
    dataset, seen = counted(1000)
    batches = load_batches(dataset, 5, workers=3, ahead=2)
    assert not seen        # nothing happens before the first batch is asked for
    next(batches)
    until = time.monotonic() + 5
    while len(seen) < 15 and time.monotonic() < until: time.sleep(.005)
    time.sleep(.05)
    assert len(seen) == 15
    batches.close()
    assert not loading_threads() and len(seen) == 15
    try:
        for batch in load_batches(dataset, 5): raise KeyError('the consumer fails')
    except KeyError: pass
    assert not loading_threads()


def test_ten_thousand_samples_need_no_more_memory_than_a_hundred():
    def peak(n):
        dataset = BenchmarkDataset.from_function([f's{i}' for i in range(n)], lambda i: Sample(id=f's{i}', inputs={'rgb': np.zeros((64, 64, 3), np.uint8)}), task='toy_any', name='n', identity='1')
        tracemalloc.start()
        try:
            for batch in load_batches(dataset, 10, workers=2, ahead=2): pass
            return tracemalloc.get_traced_memory()[1]
        finally: tracemalloc.stop()
    peak(20)
    small, large = peak(100), peak(10_000)
    assert large < small + 1_000_000        # all of them together are 123 MB


@pytest.mark.parametrize('named', [{'batch_size': 0}, {'batch_size': 2.0}, {'batch_size': True}, {'batch_size': 4, 'start': 2}, {'batch_size': 4, 'start': -4}, {'batch_size': 4, 'workers': -1}, {'batch_size': 4, 'ahead': -1}])
def test_numbers_that_make_no_sense(named):
    refused(ConfigError, next(reversed(named)) if named['batch_size'] == 4 else 'batch_size', action=lambda: load_batches(counted(8)[0], **named))


# --- which data it is --------------------------------------------------------------------------------------------------------

def unlisted(tmp_path, count=4):
    "A manifest without a list of files, and its folder"
    path = write_manifest([sample(i) for i in range(count)], tmp_path, task='toy_depth', name='rooms')
    path.write_text(json.dumps({**json.loads(path.read_text()), 'files': {}}))
    return path, sorted(tmp_path.rglob('*.npy'))

def changed_in_place(file):
    "The same file with another value in it, and of the same size"
    file.write_bytes(file.read_bytes()[:-4] + struct.pack('<f', 77.5))

@pytest.mark.parametrize('per_shard', [None, 2])
def test_a_file_that_changed_is_an_error_when_data_is_opened(tmp_path, per_shard):
    path = write_manifest([sample(i) for i in range(4)], tmp_path, task='toy_depth', name='rooms', per_shard=per_shard)
    before, files = BenchmarkDataset.from_manifest(path), sorted(tmp_path.rglob('*.npy' if per_shard is None else '*.tar'))
    assert before.identity == read_manifest(path).identity() and 'contents of' in before.covers and 'sizes' not in before.covers
    kept = files[1].read_bytes()
    changed_in_place(files[1])
    error = refused(DatasetError, str(files[1]), 'SHA-256', action=lambda: BenchmarkDataset.from_manifest(path))
    assert error.details['path'] == str(files[1]) and '--replace' in error.hint
    files[1].write_bytes(kept + b'!')
    refused(DatasetError, str(files[1]), 'bytes', action=lambda: data_identity(path, limit=0))     # sizes always
    files[1].write_bytes(kept)
    assert BenchmarkDataset.from_manifest(path).identity == before.identity

def test_beyond_the_limit_sizes_are_compared(tmp_path):
    path = write_manifest([sample(i) for i in range(4)], tmp_path, task='toy_depth', name='rooms')
    files = sorted(tmp_path.rglob('*.npy'))
    changed_in_place(files[0])
    found = data_identity(path, limit=0)
    assert found.identity == read_manifest(path).identity() and 'the sizes alone of 8 files' in found.covers
    refused(DatasetError, files[0].name, 'SHA-256', action=lambda: data_identity(path, limit=0, verify=True))
    refused(DatasetError, files[0].name, 'SHA-256', action=lambda: data_identity(path))

def test_the_identity_follows_files_that_no_manifest_lists(tmp_path):
    path, files = unlisted(tmp_path)
    opened = lambda: BenchmarkDataset.from_manifest(path)
    first = opened()
    assert first.identity == opened().identity != read_manifest(path).identity() and '-' not in first.identity
    changed_in_place(files[2])
    second = opened()
    assert second.identity != first.identity and second.take(2).identity != first.take(2).identity
    files[0].unlink()
    third = opened()
    assert len({first.identity, second.identity, third.identity}) == 3 and '1 missing' in third.covers
    refused(DatasetError, 'missing', action=lambda: BenchmarkDataset.from_manifest(path, verify=True))

def test_an_identity_says_what_it_does_not_cover(tmp_path):
    path, files = unlisted(tmp_path)
    whole, some, none = data_identity(path), data_identity(path, limit=800), data_identity(path, limit=0)
    assert len({whole.identity, some.identity, none.identity}) == 3 and data_identity(path, limit=0, verify=True) == whole
    assert all(found.identity.endswith('-partial') and 'the sizes alone of' in found.covers for found in (some, none)) and 'contents of' in some.covers
    changed_in_place(max(files, key=lambda f: (f.stat().st_size, f.as_posix())))
    assert data_identity(path, limit=0) == none and data_identity(path, limit=800) == some and data_identity(path) != whole

def test_parts_of_what_is_covered_in_part_say_so_too():
    dataset = BenchmarkDataset.from_function([f's{i}' for i in range(9)], sample, task='toy_any', name='n', identity='0123-partial')
    assert dataset.take(3).identity.endswith('-partial') and dataset.select([1]).take(1).identity.endswith('-partial')

def test_a_snapshot_without_a_list_is_known_by_its_commit(tmp_path):
    place = tmp_path/'snapshots'/('ab'*20)
    path, files = unlisted(place)
    first = data_identity(path)
    files[0].unlink()      # a part of a snapshot is fetched, or none of it
    assert data_identity(path) == first and 'commit abababababab' in first.covers and data_identity(unlisted(tmp_path/'snapshots'/('cd'*20))[0]).identity != first.identity

def test_values_in_the_manifest_need_no_files(tmp_path):
    tiny = [Sample(id=f's{i}', inputs={'x': np.float32([i, 1])}) for i in range(3)]
    path = write_manifest(tiny, tmp_path, task='toy_any', name='n')
    assert data_identity(path).identity == read_manifest(path).identity() and 'all values' in data_identity(path).covers


# --- what users put into folders ---------------------------------------------------------------------------------------------

def pictures(root, modality='rgb', count=3, **labels):
    (root/modality).mkdir(parents=True)
    for i in range(count): (root/modality/f'{i}.png').write_bytes(png(np.full((4, 4, 3), i, np.uint8)))
    if labels: (root/'samples.json').write_text(json.dumps({name.strip('_'): {'label': label} for name, label in labels.items()}))
    return root

def test_a_manifest_is_replaced_where_it_lies_beside_the_modalities(tmp_path):
    pictures(tmp_path, _0=0, _1=1, _2=0)
    first = make_manifest(tmp_path, task='image_classification', split='test')
    refused(ManifestError, 'is there already', action=lambda: make_manifest(tmp_path, task='image_classification', split='test'))
    (tmp_path/'rgb'/'2.png').write_bytes(png(np.full((4, 4, 3), 99, np.uint8)))
    again = make_manifest(tmp_path, task='image_classification', split='test', replace_old=True)
    assert again.path == first.path and BenchmarkDataset.from_manifest(again)[2].input('rgb').max() == 99 and again.manifest.identity() != first.manifest.identity()
    (tmp_path/'other.json').write_text('{}')
    refused(ManifestError, 'other.json', 'no folder of a modality', action=lambda: make_manifest(tmp_path, task='image_classification', replace_old=True))

def test_images_in_folders_of_classes(tmp_path):
    for name, count in (('blue', 3), ('green', 2), ('red', 2)): pictures(tmp_path, name, count)
    for named in ({}, {'inputs': ('blue', 'green', 'red')}):
        error = refused(ManifestError, 'blue, green, red', "'rgb'", 'one modality', action=lambda: make_manifest(tmp_path, task='image_classification', **named))
        assert 'samples.json' in error.hint and 'one folder rgb' in error.hint and '"label": 0' in error.hint

def test_labels_that_are_not_there_or_are_words(tmp_path):
    error = refused(ManifestError, "target 'label'", action=lambda: make_manifest(pictures(tmp_path/'none'), task='image_classification'))
    assert 'samples.json' in error.hint and '"label"' in error.hint
    error = refused(ManifestError, 'none of the 3 samples', "the word 'cat'", action=lambda: make_manifest(pictures(tmp_path/'words', _0='cat', _1='dog', _2='cat'), task='image_classification'))
    assert 'number of a class' in error.hint and not (tmp_path/'words'/'manifest.json').exists()
    assert len(BenchmarkDataset.from_manifest(make_manifest(pictures(tmp_path/'some', _0=-1, _1=-1, _2=0), task='image_classification'))) == 3     # one of them will do

def test_the_command_speaks_of_its_own_options(tmp_path):
    from calibrax.cli.bench_data import bench_data
    from click.testing import CliRunner
    pictures(tmp_path, _0=0, _1=1, _2=0)
    (tmp_path/'zz').mkdir()
    for i in range(3): (tmp_path/'zz'/f'{i}.npy').write_bytes(npy(np.zeros(3)))
    call = lambda *more: CliRunner().invoke(bench_data, ['make-manifest', str(tmp_path), '--task', 'image_classification', '--split', 'test', *more])
    hint = call().exception.hint
    assert '--input zz' in hint and '--target zz' in hint and 'inputs=' not in hint
    assert call('--input', 'zz').exit_code == 0 and '--replace' in call('--input', 'zz').exception.hint and call('--input', 'zz', '--replace').exit_code == 0
    bare = {**json.loads((tmp_path/'manifest.json').read_text()), 'files': {}}
    (tmp_path/'manifest.json').write_text(json.dumps(bare))
    told = json.loads(CliRunner().invoke(bench_data, ['info', str(tmp_path), '--json']).output)
    assert told['identity'] == BenchmarkDataset.from_manifest(tmp_path).identity


# --- files that come along -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('content', [None, b'', b'PK\x03\x04 and no more', b'no archive'])
@pytest.mark.parametrize('read, name', [(read_digits, 'digits.npz'), (lambda: diabetes_table('test'), 'diabetes.npz'), (load_digits, 'digits.npz')], ids=['digits', 'diabetes', 'demo'])
def test_a_damaged_file_that_came_along_is_a_dataset_error(monkeypatch, tmp_path, read, name, content):
    (tmp_path/'data').mkdir()
    if content is not None: (tmp_path/'data'/name).write_bytes(content)
    monkeypatch.setattr(arrays, 'files', lambda package: tmp_path)
    for cached in (read_digits, diabetes_table): cached.cache_clear()
    try:
        with pytest.raises(DatasetError, match=f'{name} .* cannot be read') as e: read()
        assert e.value.hint
    finally:
        for cached in (read_digits, diabetes_table): cached.cache_clear()
