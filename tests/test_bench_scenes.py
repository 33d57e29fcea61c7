"The renderer is exact and the same everywhere; a frame's truth, carried into the next frame, is the next frame's truth."
import hashlib, os, pickle, subprocess, sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrax.bench import geometry, scenes
from calibrax.bench.geometry import camera_intrinsics, correspond, look_at, project, relative_pose, transform, unproject
from calibrax.bench.samples import DIFFICULTIES, PHASES, Sample
from calibrax.bench.scenes import Light, Shape, make_scene, render, scene_dataset, scene_samples
from calibrax.core.errors import ConfigError, DatasetError, MetricError


def rays(size=64, focal=70.4):
    v, u = np.mgrid[:size, :size] - (size - 1)/2
    return np.stack([u/focal, v/focal, np.ones_like(u)], -1)


# --- exact depth ---------------------------------------------------------------------------------------------------------

def test_depth_of_a_sphere_is_the_analytic_one():
    radius, distance = .7, 3.
    frame = render([Shape(kind='capsule', center=(0., 0., 1.), size=(radius, radius, 0.), instance=4)], look_at((0, -distance, 1), (0, 0, 1)))
    d = rays()      # the sphere's middle is at (0, 0, distance) in the camera's frame
    a, b, c = (d**2).sum(-1), distance, distance**2 - radius**2
    expected = np.where(b*b > a*c, (b - np.sqrt(np.maximum(b*b - a*c, 0)))/a, 0)
    assert np.array_equal(frame.mask == 4, expected > 0)
    np.testing.assert_allclose(frame.depth, expected, rtol=1e-6)
    assert frame.depth.dtype == np.float32 and frame.mask.dtype == np.int32 and frame.rgb.dtype == np.uint8


def test_depth_of_the_floor_is_the_analytic_one():
    height, pose = 1.5, look_at((.3, -2, 1.5), (0, 0, 0))
    frame = render([Shape(kind='box', center=(0., 0., -.5), size=(50., 50., .5))], pose, max_depth=6.)
    down = (rays()@pose[:3, :3].T)[..., 2]
    expected = np.where(down < 0, -height/np.minimum(down, -1e-9), np.inf)
    np.testing.assert_allclose(frame.depth, np.where(expected <= 6, expected, 0), rtol=1e-6)
    assert (frame.depth == 0).any() and frame.mask.max() == 0


def test_depth_of_a_turned_box_and_a_capsule_by_marching():
    "Against the signed distance of the shape: its zero lies at the depth, and nothing lies before it"
    box = Shape(kind='box', center=(.1, .2, .4), size=(.3, .2, .4), turn=(.8, .6), instance=2)
    capsule = Shape(kind='capsule', center=(-.6, 0., .5), size=(.15, .15, .35), instance=3)
    pose = look_at((.4, -2.2, 1.3), (0, 0, .4))
    frame = render([box, capsule], pose, size=32)
    d = rays(32, 35.2)@pose[:3, :3].T
    def inside(points):
        x, y, z = np.moveaxis(points - np.array(box.center), -1, 0)
        turned = np.stack([.8*x + .6*y, .8*y - .6*x, z], -1)
        in_box = (np.abs(turned) <= np.array(box.size)).all(-1)
        x, y, z = np.moveaxis(points - np.array(capsule.center), -1, 0)
        return in_box | (x**2 + y**2 + (z - np.clip(z, -.35, .35))**2 <= .15**2)
    steps = np.arange(.5, 4, .004)
    hit = inside(pose[:3, 3] + steps[:, None, None, None]*d)
    marched = np.where(hit.any(0), steps[hit.argmax(0)], 0)
    both = (marched > 0) & (frame.depth > 0)
    assert (both | ((marched == 0) & (frame.depth == 0))).mean() > .995      # but for a graze between two steps
    assert np.all((marched[both] - frame.depth[both] >= -1e-6) & (marched[both] - frame.depth[both] <= .004 + 1e-6))


def test_nearest_thing_is_seen_and_shadows_darken():
    light, pose = Light(direction=(0., 0., 1.)), look_at((0, -3, 1.5), (0, 0, .2))
    floor = Shape(kind='box', center=(0., 0., -.5), size=(9., 9., .5), color=(.8, .8, .8))
    near, far = (Shape(kind='capsule', center=(0., y, .5), size=(.3, .3, 0.), instance=n) for y, n in ((-.5, 2), (.5, 3)))
    for shapes in ([floor, near, far], [far, near, floor]):
        assert render(shapes, pose).mask[28:40, 30:34].max() == 2
    bright, shaded = render([floor], pose, light=light).rgb, render([floor, near], pose, light=light)
    floor_only = shaded.mask == 0
    assert (shaded.rgb[floor_only].astype(int) - bright[floor_only] < -50).any() and (shaded.rgb[floor_only] <= bright[floor_only]).all()


# --- the same everywhere -------------------------------------------------------------------------------------------------

FINGERPRINT = '''
import hashlib, numpy as np
from calibrax.bench.scenes import scene_samples
seen = hashlib.sha256()
for split in ('easy', 'hard', 'train'):
    for s in scene_samples(split, scenes=1, frames=2):
        seen.update(s.id.encode())
        for a in (s.input('rgb'), s.target('depth').round(4), s.target('mask'), s.pose.round(6)): seen.update(np.ascontiguousarray(a).tobytes())
print(seen.hexdigest())
'''

def test_frames_are_the_same_in_another_process(capsys):
    exec(FINGERPRINT, {})
    here = capsys.readouterr().out
    there = subprocess.run([sys.executable, '-c', FINGERPRINT], capture_output=True, text=True, check=True, env={**os.environ, 'PYTHONHASHSEED': '7', 'OMP_NUM_THREADS': '1'}).stdout
    assert here == there


def test_frames_are_those_of_this_version():
    "Bits that changed want another RENDERER_VERSION, and a line in the changelog"
    s = next(scene_samples('hard'))
    found = [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:12] for a in (s.input('rgb'), s.target('depth'), s.target('mask'))]
    assert (scenes.RENDERER_VERSION, found) == (1, ['85a50761845b', '30d790a6cf54', 'e8d87f9d0e0c'])


def test_order_and_repetition_change_nothing():
    data = scene_dataset('medium', scenes=1, frames=2)
    first, again = [data[i].input('rgb') for i in range(len(data))], [data[i].input('rgb') for i in reversed(range(len(data)))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    copy = pickle.loads(pickle.dumps(data))
    assert np.array_equal(copy[3].target('depth'), data[3].target('depth')) and copy.identity == data.identity


# --- splits --------------------------------------------------------------------------------------------------------------

def test_every_split_has_every_phase_and_consecutive_frames():
    for split, (difficulties, number, frames) in scenes.SPLITS.items():
        entries = scene_dataset(split).entries
        assert len(entries) == len(difficulties)*number*len(PHASES)*frames and len({e.id for e in entries}) == len(entries)
        assert {(e.difficulty, e.phase) for e in entries} == {(d, p) for d in difficulties for p in PHASES}
        groups = [key for i, e in enumerate(entries) if (key := (e.scene, e.phase)) and (i == 0 or key != (entries[i - 1].scene, entries[i - 1].phase))]
        assert len(groups) == len(set(groups)), 'the frames of a recording are next to each other'


def test_training_scenes_are_others_and_test_is_the_three_difficulties():
    ids = {split: [e.id for e in scene_dataset(split).entries] for split in scenes.SPLITS}
    assert ids['test'] == ids['easy'] + ids['medium'] + ids['hard']
    assert not {e.scene for e in scene_dataset('train').entries} & {e.scene for e in scene_dataset('test').entries}
    assert len({scene_dataset(split).identity for split in scenes.SPLITS}) == len(scenes.SPLITS)
    assert scene_dataset('easy', scenes=2).identity != scene_dataset('easy').identity


def test_difficulties_are_monotone():
    easy, medium, hard = (scenes.DIFFICULTY_SETTINGS[d] for d in DIFFICULTIES)
    for name, worse in {'contrast': -1, 'objects': 1, 'spread': -1, 'light': -1, 'noise': 1, 'step': 1, 'sway': 1}.items():
        a, b, c = (worse*getattr(s, name) for s in (easy, medium, hard))
        assert a < b < c, name


def test_phases_are_what_they_say():
    scene = make_scene('a-room', 'hard')
    counts = {p: [len(set(np.unique(scene.frame(p, i).mask)) - {0}) for i in (0, 5)] for p in PHASES}
    assert max(counts['clean']) <= 3 < min(counts['clutter'])
    centers = {p: [{s.instance: s.center for s in scene.shapes(p, i) if s.instance} for i in range(8)] for p in PHASES}
    for phase in ('clutter', 'clean'): assert all(a == b for a, b in pairwise(centers[phase]))
    assert all(a != b and scenes.PERSON in a for a, b in pairwise(centers['interaction']))
    assert sum(a[2] != b[2] for a, b in pairwise(centers['interaction'])) >= 3       # a thing is carried
    assert {s.instance for s in scene.shapes('clean') if s.instance} <= set(centers['clutter'][0])


def test_camera_moves_smoothly():
    for d in DIFFICULTIES:
        scene = make_scene('a-room', d)
        for phase in PHASES:
            p = np.array([scene.pose(phase, i)[:3, 3] for i in range(8)])
            steps = np.linalg.norm(np.diff(p, axis=0), axis=1)
            assert steps.max() < 1.3*scene.settings.step and steps.min() > .6*scene.settings.step
            assert np.abs(np.diff(p, n=2, axis=0)).max() < .02


@pytest.mark.parametrize('call, told', [(lambda: scene_dataset('tets'), "no split 'tets'"), (lambda: scene_dataset('easy', scenes=0), 'make no data'), (lambda: make_scene('a', 'x'), "no difficulty 'x'"),
                                        (lambda: make_scene('a', 'easy').frame('cluter'), "no phase 'cluter'"), (lambda: make_scene('a', 'easy').shapes('dirty'), "no phase 'dirty'"),
                                        (lambda: make_scene('a', 'easy').pose('clean', -1), 'no frame -1'), (lambda: Shape(kind='cone', center=(0., 0., 0.), size=(1., 1., 1.)), "no kind 'cone'"),
                                        (lambda: Shape(kind='box', center=(0., 0., 0.), size=(1., 1., 1.), pattern='dots'), "no pattern 'dots'")])
def test_what_is_not_there_is_named(call, told):
    with pytest.raises(ConfigError, match=told) as e: call()
    assert e.value.hint


# --- cameras -------------------------------------------------------------------------------------------------------------

places = st.tuples(*[st.floats(-3, 3)]*3)

@given(places, places, places, st.floats(20, 200))
@settings(max_examples=50, deadline=None)
def test_points_come_back(position, other, target, focal):
    flat = [np.hypot(p[0] - target[0], p[1] - target[1]) for p in (position, other)]
    if min(flat) < .1: return
    a, b, k = look_at(position, target), look_at(other, target), camera_intrinsics(16, focal)
    np.testing.assert_allclose(a[:3, :3].T@a[:3, :3], np.eye(3), atol=1e-12)
    points = unproject(np.full((16, 16), 2.5), k)
    np.testing.assert_allclose(transform(transform(points, relative_pose(a, b)), relative_pose(b, a)), points, atol=1e-9)
    pixels, depth = project(points, k)
    np.testing.assert_allclose(pixels, np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1), atol=1e-9)
    seen, _ = project(transform(np.array([target]), np.linalg.inv(a)), k)
    np.testing.assert_allclose(seen[0], [7.5, 7.5], atol=1e-6)       # what a camera looks at is in the middle


@pytest.mark.parametrize('phase', PHASES)
@pytest.mark.parametrize('difficulty', DIFFICULTIES)
def test_true_depth_carried_over_is_the_next_true_depth(phase, difficulty):
    samples = [s for s in scene_samples(difficulty, scenes=1, frames=6) if s.phase == phase]
    for a, b in pairwise(samples):
        seen = correspond(a, b)
        assert seen.coverage > .45
        warped, truth = geometry.warp_depth(a.target('depth'), seen), b.target('depth')
        both = warped > 0
        assert np.abs(warped - truth)[both].mean() < .01 and np.quantile(np.abs(warped - truth)[both]/truth[both], .99) < .03
        labels = geometry.warp_labels(a.target('mask'), seen)
        assert (labels == b.target('mask'))[labels >= 0].mean() > (.95 if phase == 'interaction' else .97) and (labels[~seen.visible] == -1).all()


def test_walking_towards_a_wall_is_compensated_by_translation():
    k = camera_intrinsics(32, 30)
    def at(y, depth): return Sample(id=str(y), inputs={}, targets={'depth': np.full((32, 32), depth)}, pose=look_at((0, y, 0), (0, 5, 0)), intrinsics=k)
    seen = correspond(at(-2, 2.), at(-1, 1.))
    assert seen.coverage == 1
    np.testing.assert_allclose(geometry.warp_depth(np.full((32, 32), 2.), seen), 1.)
    np.testing.assert_allclose(geometry.warp_depth(np.full((32, 32), 2.5), seen), 1.5)       # half a metre too far stays half a metre too far


def test_what_was_hidden_is_left_out():
    "A ball before a wall, and the camera goes sideways: the wall that comes out behind it was not seen before"
    wall, ball = Shape(kind='box', center=(0., 2., 0.), size=(5., .1, 5.)), Shape(kind='capsule', center=(0., 0., 0.), size=(.3, .3, 0.), instance=1)
    a, b = (render([wall, ball], look_at((x, -2, 0), (x, 0, 0))) for x in (0., .3))
    seen = correspond(*(Sample(id=n, inputs={}, targets={'depth': f.depth}, pose=f.pose, intrinsics=f.intrinsics) for n, f in (('a', a), ('b', b))))
    was = transform(unproject(b.depth, b.intrinsics), relative_pose(b.pose, a.pose))
    pixels, depth = project(was, a.intrinsics)
    inside = ((pixels >= 1) & (pixels <= 62)).all(-1)
    nearest = geometry._nearest(a.depth, pixels)
    hidden, open_ = inside & (nearest < depth - .5), inside & (np.abs(nearest - depth) < .05)
    assert hidden.sum() > 40 and not seen.visible[hidden].any() and seen.visible[open_].mean() > .9


def test_missing_geometry_is_named():
    s = next(scene_samples('easy'))
    assert geometry.missing_geometry(s, s) is None
    bare = Sample(id='bare', inputs={}, targets={})
    assert geometry.missing_geometry(s, bare) == "sample 'bare' has no pose and no intrinsics and no true depth"
    with pytest.raises(DatasetError, match='cannot be aligned') as e: correspond(bare, s)
    assert e.value.hint


def test_maps_of_another_size_are_not_carried_over():
    "They would be looked up at pixels of another grid"
    a, b = list(scene_samples('easy', scenes=1, frames=2))[:2]
    seen = correspond(a, b)
    for warp, small in ((geometry.warp_labels, a.target('mask')[::2, ::2]), (geometry.warp_depth, a.target('depth')[:, :60])):
        with pytest.raises(MetricError, match='cannot be carried over') as e: warp(small, seen)
        assert e.value.hint


@pytest.mark.parametrize('wrong', [np.eye(4), np.zeros((3, 3)), np.full((3, 3), np.nan), np.diag([-70., 70., 1.])])
@pytest.mark.parametrize('which', [0, 1])
def test_intrinsics_that_are_none_are_refused(wrong, which):
    frames = list(scene_samples('easy', scenes=1, frames=2))[:2]
    frames[which] = replace(frames[which], intrinsics=wrong)
    with pytest.raises(DatasetError, match='no camera matrix') as e: correspond(*frames)
    assert e.value.hint


@pytest.mark.filterwarnings('error')
def test_a_true_depth_that_is_not_finite_is_unknown():
    a, b = list(scene_samples('easy', scenes=1, frames=2))[:2]
    holes = np.random.default_rng(0).random((64, 64)) < .1
    for value in (np.nan, np.inf, -np.inf, -1.):
        spoilt, bare = ([replace(s, targets={'depth': np.where(holes, v, s.target('depth'))}) for s in (a, b)] for v in (value, 0.))
        found, expected = correspond(*spoilt), correspond(*bare)
        assert np.array_equal(found.visible, expected.visible) and not found.visible[holes].any() and found.coverage > .3
        assert geometry.edge_agreement(a.target('mask'), spoilt[0].target('depth')) == geometry.edge_agreement(a.target('mask'), bare[0].target('depth'))


# --- sampling and edges against plain loops ------------------------------------------------------------------------------

@given(hnp.arrays(float, (5, 4), elements=st.sampled_from([0., 1., 2.5, 7.])), st.floats(-1, 5), st.floats(-1, 6))
@settings(max_examples=150, deadline=None)
def test_bilinear_sampling(values, column, row):
    found = float(geometry._bilinear(values, np.array([column, row])))
    if not (-1e-6 <= column <= 3 + 1e-6 and -1e-6 <= row <= 4 + 1e-6): assert found == 0; return
    column, row = min(max(column, 0.), 3.), min(max(row, 0.), 4.)
    assume(min(abs(v % 1 - e) for v in (column, row) for e in (0, 1)) > 1e-5 or {column, row} <= set(range(5)))      # but for the brink of what counts
    weights = {(r, c): (1 - abs(row - r))*(1 - abs(column - c)) for r in range(5) for c in range(4) if abs(row - r) < 1 and abs(column - c) < 1}
    expected = 0. if any(values[at] == 0 for at, w in weights.items() if w > 1e-6) else sum(w*values[at] for at, w in weights.items())
    assert found == pytest.approx(expected, abs=1e-4)


def brute_dilated(edges, pixels):
    out = np.zeros_like(edges)
    for r, c in np.argwhere(edges):
        for i in range(edges.shape[0]):
            for j in range(edges.shape[1]):
                if abs(i - r) + abs(j - c) <= pixels: out[i, j] = True
    return out

def brute_agreement(labels, depth):
    h, w = labels.shape
    mask_edges, depth_edges, known = (np.zeros((h, w), bool) for _ in range(3))
    for r in range(h):
        for c in range(w):
            mask_edges[r, c] = (c + 1 < w and labels[r, c] != labels[r, c + 1]) or (r + 1 < h and labels[r, c] != labels[r + 1, c])
            size, there = 0., [depth[r, c]]
            for at, n, line in ((r, h, depth[:, c]), (c, w, depth[r])):
                low, high = max(at - 1, 0), min(at + 1, n - 1)
                if high > low: size += ((line[high] - line[low])/(high - low))**2
                there += [line[low], line[high]]
            known[r, c] = min(there) > 0
            depth_edges[r, c] = size**.5 > .1
    a, b = brute_dilated(mask_edges, 2) & known, brute_dilated(depth_edges & known, 2) & known
    return ((a & b).sum()/a.sum() if a.any() else None, (a & b).sum()/b.sum() if b.any() else None)

@given(hnp.arrays(int, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 2)), st.data())
@settings(max_examples=100, deadline=None)
def test_edge_agreement(labels, data):
    depth = data.draw(hnp.arrays(float, labels.shape, elements=st.sampled_from([0., 1., 1., 1.05, 2., 2.3])))
    found, expected = geometry.edge_agreement(labels, depth), brute_agreement(labels, depth)
    assert [v is None for v in found] == [v is None for v in expected]
    assert all(v is None or v == pytest.approx(e) for v, e in zip(found, expected))


def test_no_edges_have_no_score():
    flat, step = np.ones((6, 6)), np.repeat([[1., 1., 1., 2., 2., 2.]], 6, 0)
    assert geometry.edge_agreement(np.zeros((6, 6), int), flat) == (None, None)
    assert geometry.edge_agreement(np.zeros((6, 6), int), step) == (None, 0)
    with pytest.raises(MetricError): geometry.edge_agreement(np.zeros((5, 6), int), flat)


def test_importing_loads_nothing_heavy():
    code = "import sys; import calibrax.bench.tasks.monocular_depth, calibrax.bench.tasks.object_segmentation; print([m for m in ('jax', 'flax', 'matplotlib', 'scipy', 'pandas', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


def test_scoring_compiles_nothing():
    "JAX would compile for each size of image: seconds for each sample of a data set of photographs"
    code = ("import sys, numpy as np; from calibrax.bench.tasks.monocular_depth import depth_metrics; from calibrax.bench.tasks.object_segmentation import instance_metrics\n"
            "depth_metrics(np.ones((4, 5)), np.ones((4, 5))); instance_metrics(np.eye(4, dtype=int), np.eye(4, dtype=int)); print('jax' in sys.modules)")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == 'False'
