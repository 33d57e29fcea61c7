"Instance metrics against brute force over all assignments, stability and edges, and models that find things."
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrax.bench.configuration import BenchConfig
from calibrax.bench.metrics import CalculatorSuite
from calibrax.bench.models import get_model, list_models
from calibrax.bench.samples import Sample
from calibrax.bench.scenes import DIFFICULTIES, scene_samples
from calibrax.bench.tasks.object_segmentation import OBJECT_SEGMENTATION, _k_means, instance_metrics, mask_coherence, mask_stability, match_instances
from calibrax.bench.tasks.scene_models import _center_offsets, _scene_batches, group_votes, number_by_color
from calibrax.core.errors import MetricError

suite = CalculatorSuite.for_task('object_segmentation')
masks = hnp.arrays(np.int32, (5, 6), elements=st.sampled_from([0, 0, 1, 1, 4, 9]))


def iou(a, b): return (a & b).sum()/(a | b).sum()

def outline(m):
    "Pixels with a neighbour outside, the border of the image included"
    wide = np.pad(m, 1)
    return m & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])

def boundary_f(a, b):
    a, b = np.argwhere(outline(a)), np.argwhere(outline(b))
    near = lambda x, y: np.mean([min(np.hypot(*(p - q)) for q in y) <= 1 + 1e-9 for p in x])
    precision, recall = near(a, b), near(b, a)
    return 2*precision*recall/(precision + recall) if precision + recall else 0.

def brute(p, t):
    ps, ts = [n for n in np.unique(p) if n], [n for n in np.unique(t) if n]
    best = max((sum(iou(p == a, t == b) for a, b in zip(chosen, ts) if a is not None) for chosen in permutations([*ps, *[None]*len(ts)], len(ts))), default=0)
    matched = [v for a in ps for b in ts if (v := iou(p == a, t == b)) > .5]
    weight = len(matched) + (len(ps) - len(matched))/2 + (len(ts) - len(matched))/2
    return {'miou': best/len(ts), 'foreground_iou': iou(p > 0, t > 0), 'panoptic_quality': sum(matched)/weight, 'recognition_quality': len(matched)/weight,
            'segmentation_quality': np.mean(matched) if matched else np.nan}

@given(masks, masks)
@settings(max_examples=150, deadline=None)
def test_metrics_are_those_of_brute_force(p, t):
    assume((t > 0).any())
    found, expected = instance_metrics(p, t), brute(p, t)
    assert set(found) == set(suite.metric_defs) == {*expected, 'boundary_f'}
    for name, value in expected.items(): assert found[name] == pytest.approx(value, rel=1e-5, nan_ok=True), name
    pairs = match_instances(p, t)
    score = sum(boundary_f(p == a, t == b) for b, (a, _) in pairs.items())
    assert found['boundary_f'] == pytest.approx(score/(len(np.unique(t[t > 0])) + len(np.unique(p[p > 0])) - len(pairs)), rel=1e-5)


@given(masks, masks, st.permutations([3, 8, 12]))
@settings(max_examples=60, deadline=None)
def test_numbers_do_not_matter(p, t, names):
    assume((t > 0).any())
    renamed = np.select([p == 1, p == 4, p == 9], names, 0)
    a, b = instance_metrics(p, t), instance_metrics(renamed, t)
    for name in ('miou', 'foreground_iou', 'panoptic_quality', 'recognition_quality'): assert a[name] == pytest.approx(b[name], rel=1e-6)


def test_the_best_assignment_is_not_the_greedy_one():
    t, p = np.repeat([[1, 1, 1, 1, 2, 2, 2, 2, 2]], 2, 0), np.repeat([[5, 0, 0, 6, 6, 6, 6, 6, 6]], 2, 0)
    pairs = match_instances(p, t)
    assert {n: a for n, (a, _) in pairs.items()} == {1: 5, 2: 6}
    assert instance_metrics(p, t)['miou'] == pytest.approx((1/4 + 5/6)/2)


def test_perfect_empty_and_single_pixel():
    mask = next(scene_samples('hard')).target('mask')
    assert all(v == pytest.approx(1) for v in instance_metrics(mask, mask).values())
    nothing = instance_metrics(mask*0, mask)
    assert [nothing[m] for m in ('miou', 'foreground_iou', 'boundary_f', 'panoptic_quality', 'recognition_quality')] == [0]*5 and nothing['segmentation_quality'] != nothing['segmentation_quality']
    assert all(v == 1 for v in instance_metrics([[True]], [[7]]).values())


def test_many_instances():
    "Pieces count as inventions, and there may be as many as there are pixels"
    truth, pieces = np.zeros((40, 40), int), np.arange(1600).reshape(40, 40)//2
    truth[10:30, 10:30] = 3
    found = instance_metrics(pieces, truth)
    assert found['miou'] == pytest.approx(2/400) and found['panoptic_quality'] == 0 and found['boundary_f'] < .01
    assert instance_metrics(np.arange(1600).reshape(40, 40), truth)['miou'] == pytest.approx(1/400)
    assert set(instance_metrics(pieces + 1, pieces + 1).values()) == {1.}


def test_metrics_are_those_of_the_library():
    from calibrax.metrics.functional.boundaries import boundary_f_score, panoptic_quality, recognition_quality
    t = next(scene_samples('hard', scenes=1, frames=1)).target('mask')[20:57]
    p = np.roll(t, 1, 1)        # partners have the same number
    found, maps, pairs = instance_metrics(p, t), [np.stack([x > 0, x], -1)[None].astype(np.int32) for x in (p, t)], match_instances(p, t)
    assert len(pairs) > 4 and all(a == b for b, (a, _) in pairs.items())
    for name, metric in (('panoptic_quality', panoptic_quality), ('recognition_quality', recognition_quality)):
        assert found[name] == pytest.approx(float(metric(*maps, things=(1,), stuffs=(0,), max_instances=64, average='none')[0]), rel=1e-5)
    scores = np.asarray(boundary_f_score(p[None], t[None], num_classes=16, average='none', tolerance=1.))      # of classes 1, 2, …
    assert found['boundary_f'] == pytest.approx(np.mean([scores[n - 1] for n in pairs]), rel=1e-5)


def test_truth_without_instances_is_invalid():
    empty = Sample(id='a', inputs={}, targets={'mask': np.zeros((4, 4), np.int32)})
    assert suite.invalid(empty) == 'the true mask has no instance'
    assert all(v != v for v in suite.compute(np.ones((4, 4), int), empty).values())
    assert 'float64' in suite.invalid(replace(empty, targets={'mask': np.ones((4, 4))}))


@pytest.mark.parametrize('wrong, told', [(np.ones((4, 5), int), 'shape'), (np.ones((4, 4)), 'whole numbers'), (np.ones((1, 4, 4), int), 'np.squeeze'), (np.full((4, 4), np.nan), 'whole numbers'), (np.full((4, 4), -1), 'below 0')])
def test_what_is_no_mask_is_refused_with_a_hint(wrong, told):
    with pytest.raises(MetricError, match=told) as e: suite.compute(wrong, Sample(id='a', inputs={}, targets={'mask': np.eye(4, dtype=int)}))
    assert e.value.hint


# --- stability and edges -------------------------------------------------------------------------------------------------

@given(masks, masks)
@settings(max_examples=100, deadline=None)
def test_stability_without_a_camera_is_the_plain_comparison(p, q):
    a = Sample(id='a', inputs={}, targets={})
    score, numbers = mask_stability(p, a, q, a), sorted({*np.unique(p), *np.unique(q)} - {0})
    assert not score.compensated
    if not numbers: assert score.value is None and score.reason
    else: assert score.value == pytest.approx(np.mean([iou(p == n, q == n) for n in numbers]))


@pytest.mark.parametrize('difficulty', DIFFICULTIES)
def test_the_truth_is_stable_only_when_compensated(difficulty):
    found, bare = [], []
    for a, b in pairwise(scene_samples(difficulty, scenes=1, frames=4)):
        if a.phase != b.phase or a.phase == 'interaction': continue
        score = mask_stability(a.target('mask'), a, b.target('mask'), b)
        assert score.compensated
        found.append(score.value); bare.append(mask_stability(a.target('mask'), replace(a, pose=None), b.target('mask'), b).value)
    assert np.mean(found) > .85 and np.mean(bare) < np.mean(found) - .1


def test_changing_numbers_are_not_stable():
    a, b = list(scene_samples('easy', scenes=1, frames=2))[:2]
    m, n = a.target('mask'), b.target('mask')
    assert mask_stability(m, a, np.where(n > 0, n + 50, 0), b).value == 0
    assert mask_stability(m*0, a, n*0, b).value is None
    assert mask_stability(m, Sample(id='a', inputs={}), n[1:], Sample(id='b', inputs={})).reason


def test_edges_of_the_truth_lie_on_edges_of_depth():
    for s in scene_samples('easy', scenes=1, frames=1):
        (p, r), (q, v) = mask_coherence(s.target('mask'), s), mask_coherence(np.roll(s.target('mask'), 9, 1), s)
        assert p > q and r > v and p > .7
    assert mask_coherence(s.target('mask'), replace(s, targets={})) is None
    assert mask_coherence(s.target('mask')*0, s) == (None, 0)


# --- models --------------------------------------------------------------------------------------------------------------

def overlap(model, split):
    samples = list(scene_samples(split, scenes=2, frames=2))
    found = model.predict(samples, batch_size=4)
    assert all(m.dtype == np.int32 and m.shape == (64, 64) for m in found)
    return np.mean([instance_metrics(m, s.target('mask'))['miou'] for m, s in zip(found, samples)])

def test_models_are_registered():
    names = ('empty_mask', 'single_mask', 'kmeans_masks', 'unet_masks')
    assert tuple(m.name for m in list_models('object_segmentation') if m.name in names) == names


def test_grouping_colors_beats_one_mask_and_no_mask():
    for split in DIFFICULTIES:
        assert overlap(get_model('empty_mask'), split) == 0 < overlap(get_model('single_mask'), split) < .3*overlap(get_model('kmeans_masks'), split)


def test_groups_minimise_distances():
    "Each point is in the group whose mean is nearest"
    points = np.random.default_rng(0).normal(size=(3, 200, 4))
    groups = _k_means(points, 5, steps=60)
    for x, g in zip(points, groups):
        means = np.array([x[g == k].mean(0) for k in range(5)])
        assert (((x[:, None] - means)**2).sum(-1).argmin(1) == g).mean() > .98


def test_true_votes_give_the_truth():
    for s in scene_samples('hard', scenes=1, frames=2):
        mask = s.target('mask')
        large = np.isin(mask, [n for n in np.unique(mask[mask > 0]) if (mask == n).sum() >= 12])
        assert instance_metrics(group_votes(mask > 0, _center_offsets(mask)), np.where(large, mask, 0))['miou'] > .9
    assert not group_votes(np.zeros((9, 9), bool), np.zeros((9, 9, 2))).any()


def test_numbers_follow_colors():
    rgb, labels = np.zeros((4, 6, 3), np.uint8), np.repeat([[1, 1, 2, 2, 0, 3]], 4, 0)
    rgb[labels == 1], rgb[labels == 2], rgb[labels == 3] = (200, 10, 10), (10, 200, 10), (190, 15, 12)
    numbers = number_by_color(labels, rgb)
    swapped = number_by_color(np.array([0, 9, 4, 7])[labels], rgb)
    assert np.array_equal(numbers, swapped) and len(np.unique(numbers)) == 4 and (numbers == 0).sum() == 4


def test_mirrored_batches_keep_their_offsets():
    for rgb, foreground, offsets in _scene_batches('object_segmentation', 3, size=6, scenes=1):
        assert rgb.shape == (6, 64, 64, 3) and ((offsets != 0).any(-1) <= (foreground > 0)).all()
        for f, o in zip(foreground, offsets):
            rows, columns = np.nonzero(f)
            targets = np.stack([rows, columns], -1) + o[rows, columns]*16
            for place in np.unique(targets.round(2), axis=0):
                own = (np.abs(targets - place) < .02).all(1)
                assert np.abs(np.stack([rows[own], columns[own]], -1).mean(0) - place).max() < .05      # each votes for the middle of those who vote alike


def test_a_few_steps_of_training_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    samples = list(scene_samples('easy', scenes=1, frames=1))
    first, second = (get_model('unet_masks', steps=3).predict(samples) for _ in range(2))
    assert len(list(tmp_path.rglob('unet_masks-*.npz'))) == 1
    assert all(np.array_equal(a, b) and a.shape == (64, 64) and a.dtype == np.int32 for a, b in zip(first, second))


def test_the_pipeline_runs_it():
    outcome = OBJECT_SEGMENTATION.run(OBJECT_SEGMENTATION, BenchConfig(model_name='kmeans_masks', split='easy', limit=10, batch_size=4, progress=False))
    assert outcome.result.aggregated['miou'] > .3 and outcome.result.scored == 10
