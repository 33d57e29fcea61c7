"Depth metrics against plain NumPy, stability between frames, and models that learn."
import math
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibrax.bench.geometry import camera_intrinsics, look_at
from calibrax.bench.metrics import CalculatorSuite
from calibrax.bench.models import from_function, get_model, list_models
from calibrax.bench.samples import Sample
from calibrax.bench.scenes import DIFFICULTIES, scene_dataset, scene_samples
from calibrax.bench.tasks.monocular_depth import MONOCULAR_DEPTH, DepthConfig, align_depth, aligned_model, depth_metrics, depth_stability
from calibrax.bench.tasks.scene_models import _scene_batches, scene_network, trained_on_scenes
from calibrax.core.errors import ConfigError, MetricError

suite = CalculatorSuite.for_task('monocular_depth')
depths = st.sampled_from([0., .5, 1., 1.249, 1.25, 1.3, 2., 3.75, 8.])


def brute(prediction, truth):
    p, t = [], []
    for a, b in zip(np.ravel(prediction), np.ravel(truth)):
        if b > 0: p.append(max(float(a), 1e-6)); t.append(float(b))
    n, logs = len(t), [math.log(a) - math.log(b) for a, b in zip(p, t)]
    return {'absrel': sum(abs(a - b)/b for a, b in zip(p, t))/n, 'rmse': math.sqrt(sum((a - b)**2 for a, b in zip(p, t))/n), 'mae': sum(abs(a - b) for a, b in zip(p, t))/n,
            **{f'delta{k}': sum(max(a/b, b/a) < 1.25**k for a, b in zip(p, t))/n for k in (1, 2, 3)}, 'si_log': sum(d*d for d in logs)/n - (sum(logs)/n)**2}

@given(hnp.arrays(float, (3, 4), elements=st.one_of(depths, st.floats(-1, 10, width=32))), hnp.arrays(float, (3, 4), elements=depths))
@settings(max_examples=200, deadline=None)
def test_metrics_are_those_of_plain_numpy(prediction, truth):
    assume((truth > 0).any())
    found, expected = depth_metrics(prediction, truth), brute(prediction, truth)
    assert found.keys() == expected.keys() == suite.metric_defs.keys()
    for name, value in expected.items(): assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-9 if name != 'si_log' else 1e-7), name


def test_metrics_are_those_of_the_library():
    from calibrax.metrics.functional import regression
    a, b = list(scene_samples('hard', scenes=1, frames=2))[:2]
    p, t = b.target('depth') + 1, a.target('depth')
    found = depth_metrics(p, t)
    for name, metric in (('absrel', regression.mape), ('rmse', regression.rmse), ('mae', regression.mae)): assert found[name] == pytest.approx(float(metric(p, np.where(t > 0, t, 1), mask=t > 0)), rel=1e-5)


def test_float32_depth_keeps_its_deltas():
    "A ratio that is exactly 1.25 is not below 1.25, as in the definition"
    assert depth_metrics(np.full((1, 1), 1.25, np.float32), np.ones((1, 1), np.float32))['delta1'] == 0


def test_single_pixel_and_perfect_and_nothing():
    assert depth_metrics([[2.]], [[1.]])['absrel'] == 1
    truth = next(scene_samples('easy')).target('depth')
    perfect, nothing = depth_metrics(truth, truth), depth_metrics(truth*0, truth)
    assert [perfect[m] for m in ('absrel', 'rmse', 'delta1', 'si_log')] == [0, 0, 1, 0]
    assert nothing['absrel'] == pytest.approx(1, rel=1e-5) and nothing['delta3'] == 0


def test_truth_without_a_known_depth_is_invalid_and_never_perfect():
    blind = Sample(id='a', inputs={}, targets={'depth': np.zeros((4, 4), np.float32)})
    assert suite.invalid(blind) == 'no pixel has a known depth'
    assert all(v != v for v in suite.compute(np.zeros((4, 4)), blind).values())
    assert suite.invalid(replace(blind, targets={'depth': np.full((4, 4), np.nan)})) is not None
    assert suite.invalid(replace(blind, targets={'depth': np.eye(4)})) is None


@pytest.mark.parametrize('wrong, told', [(np.ones((4, 5)), 'shape'), (np.ones((4, 4, 1)), 'shape'), (np.full((4, 4), np.nan), '16 values that are not finite'),
                                         (np.ones((4, 4), bool), 'holds numbers'), (np.full((4, 4), 'a'), 'holds numbers')])
def test_what_is_no_depth_map_is_refused_with_a_hint(wrong, told):
    with pytest.raises(MetricError, match=told) as e: suite.compute(wrong, Sample(id='a', inputs={}, targets={'depth': np.ones((4, 4))}))
    assert e.value.hint


@pytest.mark.parametrize('shape, told', [((1, 4, 4), 'np.squeeze'), ((4, 4, 1), 'np.squeeze'), ((8, 8), 'ResizeToInput')])
def test_the_hint_says_how_to_mend_the_shape(shape, told):
    with pytest.raises(MetricError) as e: depth_metrics(np.ones(shape), np.ones((4, 4)))
    assert told in e.value.hint


# --- alignment -----------------------------------------------------------------------------------------------------------

@given(hnp.arrays(float, (4, 4), elements=st.floats(.5, 9)), hnp.arrays(float, (4, 4), elements=st.one_of(st.just(0.), st.floats(.5, 9))))
@settings(max_examples=100, deadline=None)
def test_alignment_is_least_squares(prediction, truth):
    valid = truth > 0
    assume(valid.sum() > 2 and prediction[valid].std() > .1)
    a, b = np.linalg.lstsq(np.stack([prediction[valid], np.ones(valid.sum())], 1), truth[valid], rcond=None)[0]
    np.testing.assert_allclose(align_depth(prediction, truth, 'scale_shift'), a*prediction + b, rtol=1e-6, atol=1e-8)
    assert np.median(align_depth(prediction, truth, 'median')[valid]) == pytest.approx(np.median(truth[valid]))
    np.testing.assert_array_equal(align_depth(prediction, truth, 'none'), prediction)


def test_alignment_of_what_has_no_shape_or_no_truth():
    np.testing.assert_allclose(align_depth(np.full((2, 2), 7.), [[1, 3], [0, 2.]], 'scale_shift'), 2)
    np.testing.assert_array_equal(align_depth([[3.]], [[0.]], 'median'), [[3.]])
    with pytest.raises(ConfigError, match='no alignment') as e: align_depth([[3.]], [[1.]], 'both')
    assert e.value.hint


def test_alignment_is_an_option_of_the_task():
    halved = from_function(lambda rgb: np.broadcast_to(np.linspace(4, 1, rgb.shape[1])[None, :, None], rgb.shape[:3])/2, task='monocular_depth', name='halved')
    assert [a.name for a in MONOCULAR_DEPTH.arguments] == ['alignment']
    with pytest.raises(ConfigError, match='alignment'): DepthConfig(model=halved, alignment='mean')
    sample = next(scene_samples('easy'))
    raw, fitted = (depth_metrics(m.predict([sample])[0], sample.target('depth'))['absrel'] for m in (halved, aligned_model(halved, 'median')))
    assert fitted < .5*raw and halved.name == 'halved'


def test_the_pipeline_aligns():
    halved = from_function(lambda rgb: np.broadcast_to(np.linspace(4, 1, rgb.shape[1])[None, :, None], rgb.shape[:3])/2, task='monocular_depth', name='halved')
    found = {a: MONOCULAR_DEPTH.run(MONOCULAR_DEPTH, DepthConfig(model=halved, alignment=a, split='easy', limit=12, batch_size=4, progress=False)).result for a in ('none', 'median')}
    assert found['median'].aggregated['absrel'] < .5*found['none'].aggregated['absrel']
    assert (found['none'].model, found['median'].model) == ('halved', 'halved+median')


# --- stability -----------------------------------------------------------------------------------------------------------

def brute_stability(p, q):
    "Of two maps in the same frame"
    valid = [(a, b) for a, b in zip(np.ravel(p), np.ravel(q)) if a > 0 and b > 0]
    if not valid: return None
    first = [a for a, _ in valid]
    return max(0., 1 - sum(abs(a - b) for a, b in valid)/len(valid)/max(max(first) - min(first), .001))

@given(hnp.arrays(float, (3, 3), elements=depths), hnp.arrays(float, (3, 3), elements=depths))
@settings(max_examples=150, deadline=None)
def test_stability_without_a_camera_is_the_plain_comparison(p, q):
    a = Sample(id='a', inputs={}, targets={})
    score, expected = depth_stability(p, a, q, a), brute_stability(p, q)
    assert not score.compensated
    assert (score.value is None and score.reason) if expected is None else score.value == pytest.approx(expected)


@pytest.mark.parametrize('difficulty', DIFFICULTIES)
def test_the_truth_is_stable_only_when_compensated(difficulty):
    samples = [s for s in scene_samples(difficulty, scenes=1, frames=5)]
    pairs = [(a, b) for a, b in pairwise(samples) if a.phase == b.phase]
    for a, b in pairs:
        score = depth_stability(a.target('depth'), a, b.target('depth'), b)
        assert score.compensated and score.value > .99
        for missing in ({'pose': None}, {'intrinsics': None}, {'targets': {}}):
            bare = depth_stability(a.target('depth'), replace(a, **missing), b.target('depth'), b)
            assert not bare.compensated and bare.value < score.value


def test_translation_counts():
    k = camera_intrinsics(16, 15)
    a, b = (Sample(id=str(y), inputs={}, targets={'depth': np.repeat(np.linspace(2 - y, 4 - y, 16)[None], 16, 0)}, pose=look_at((0, y, 0), (0, 9, 0)), intrinsics=k) for y in (0, .5))
    assert depth_stability(a.targets['depth'], a, b.targets['depth'], b).compensated
    still = depth_stability(a.targets['depth'], a, a.targets['depth'], replace(b, targets=a.targets))
    assert still.value is None or still.value < .99      # the same depths half a metre further on are wrong


def test_a_prediction_of_zeros_is_not_stable():
    a, b = list(scene_samples('easy', scenes=1, frames=2))[:2]
    score = depth_stability(a.target('depth')*0, a, b.target('depth')*0, b)
    assert score.value is None and 'no pixel' in score.reason and score.compensated
    assert depth_stability(np.zeros((2, 2)), Sample(id='a', inputs={}), np.zeros((3, 3)), Sample(id='b', inputs={})).value is None


# --- models --------------------------------------------------------------------------------------------------------------

def error(model, split):
    samples = list(scene_samples(split, scenes=2, frames=2))
    return np.mean([depth_metrics(p, s.target('depth'))['absrel'] for p, s in zip(model.predict(samples, batch_size=4), samples)])

def test_models_are_registered():
    assert [m.name for m in list_models('monocular_depth') if m.name in ('constant_depth', 'gradient_depth', 'unet_depth')] == ['constant_depth', 'gradient_depth', 'unet_depth']


def test_hand_made_cues_beat_a_constant():
    for split in DIFFICULTIES: assert error(get_model('gradient_depth'), split) < .6*error(get_model('constant_depth'), split)


def test_a_few_steps_of_training_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    sample = next(scene_samples('easy'))
    first, second = (get_model('unet_depth', steps=3).predict([sample])[0] for _ in range(2))
    assert len(list(tmp_path.rglob('unet_depth-*.npz'))) == 1 and np.array_equal(first, second)
    assert first.shape == (64, 64) and np.isfinite(first).all() and (first > 0).all()
    with pytest.raises(ConfigError, match='steps'): get_model('unet_depth', steps=0)


def test_seeds_give_other_networks_and_other_batches(tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    def one_step(network, images, depth): return network.head.kernel[...].sum()     # quick to compile
    weights = [[np.asarray(a) for a in jax.tree.leaves(nnx.state(trained_on_scenes('tried', 'monocular_depth', 1, one_step, seed=seed, steps=1, scenes=1)))] for seed in (0, 0, 1)]
    assert len(list(tmp_path.rglob('tried-*.npz'))) == 2
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1])) and sum(not np.array_equal(a, b) for a, b in zip(weights[0], weights[2])) >= 7
    batches = [next(_scene_batches('monocular_depth', 1, seed=seed, scenes=1)) for seed in (0, 0, 1)]
    assert np.array_equal(batches[0][0], batches[1][0]) and not np.array_equal(batches[0][0], batches[2][0])


@pytest.mark.parametrize('size', [(64, 64), (50, 37), (1, 9), (8, 120)])
def test_the_network_takes_any_size(size):
    assert jax.eval_shape(scene_network(2, width=4), jax.ShapeDtypeStruct((3, *size, 3), 'uint8')).shape == (3, *size, 2)


def test_the_task_has_its_data():
    data = MONOCULAR_DEPTH.dataset(DepthConfig(model_name='constant_depth', split='hard'))
    assert (data.task, data.split, len(data)) == ('monocular_depth', 'hard', len(scene_dataset('hard')))
    assert set(MONOCULAR_DEPTH.required_modalities) <= set(data.modalities)
