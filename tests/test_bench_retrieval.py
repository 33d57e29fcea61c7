"The task of embedding retrieval: metrics against brute force, labels, and models."
import json, math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from calibrax.bench.digits import digits_dataset
from calibrax.bench.models import get_model, list_models
from calibrax.bench.runner import BenchmarkRunner
from calibrax.bench.samples import Sample, SampleRecord
from calibrax.bench.tasks.embedding_retrieval import RETRIEVAL_SPLITS, RetrievalMetrics, TASK, checked_embedding
from calibrax.core.errors import CalibraxError, ConfigError, MetricError

METRICS = RetrievalMetrics()


def sample(label, id='a'): return Sample(id=id, inputs={}, targets={'label': np.asarray(label)})

def record(i, label, vector):
    s = sample(label, str(i))
    return SampleRecord(index=i, id=s.id, status='scored', batch=0, metrics=METRICS.compute(vector, s), evidence=METRICS.evidence(vector, s))

def records_of(vectors, labels): return [record(i, t, v) for i, (v, t) in enumerate(zip(vectors, labels))]

def by_hand(vectors, labels):
    "The definitions, one query at a time, in float64; the wrong ones first where the angle is the same"
    unit = vectors.astype(float)/np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    found = []
    for q in range(len(unit)):
        others = [i for i in range(len(unit)) if i != q]
        ranked = sorted(others, key=lambda i: (round(-float(unit[i] @ unit[q]), 12), labels[i] == labels[q]))
        hits = [labels[i] == labels[q] for i in ranked]
        r = sum(hits)
        if not r: found.append(dict.fromkeys(METRICS.metric_defs, math.nan)); continue
        precisions = [sum(hits[:k + 1])/(k + 1) for k in range(r) if hits[k]]
        found.append({'recall_at_1': float(any(hits[:1])), 'recall_at_5': float(any(hits[:5])), 'r_precision': sum(hits[:r])/r, 'map_at_r': sum(precisions)/r})
    return found

def assert_same(found, expected):
    assert len(found) == len(expected)
    for f, e in zip(found, expected):
        assert f.keys() == e.keys()
        for name in e: assert f[name] == pytest.approx(e[name], abs=1e-6, nan_ok=True), name


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_metrics_equal_brute_force(seed, classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 24)
    vectors = (rng.standard_normal((classes, 5))[labels] + rng.standard_normal((24, 5))).astype(np.float32)
    assert_same(METRICS.complete(records_of(vectors, labels)), by_hand(vectors, labels))


@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_the_order_of_the_records_does_not_matter(seed):
    "Nor does a way through the file, as a resumed run takes it; also where many are equally near"
    rng = np.random.default_rng(seed)
    labels, vectors = rng.integers(0, 4, 24), rng.integers(-1, 2, (24, 3)).astype(np.float32) + np.float32(.01)
    records = records_of(vectors, labels)
    order = rng.permutation(24)
    again = METRICS.complete([SampleRecord.from_dict(json.loads(json.dumps(records[i].to_dict()))) for i in order])
    found = METRICS.complete(records)
    assert_same(again, [found[i] for i in order])


def test_a_model_that_maps_all_to_one_point_wins_nothing():
    scores = METRICS.complete(records_of(np.ones((12, 3)), [0]*10 + [1, 1]))
    assert all(s['recall_at_1'] == 0 for s in scores)


def test_only_the_angle_counts():
    rng = np.random.default_rng(1)
    vectors, labels = rng.standard_normal((24, 4)).astype(np.float32), rng.integers(0, 3, 24)
    assert_same(METRICS.complete(records_of(vectors*rng.uniform(.1, 10, (24, 1)).astype(np.float32), labels)), METRICS.complete(records_of(vectors, labels)))


def test_a_class_of_one_is_undefined_and_counted():
    data = digits_dataset('test', task='embedding_retrieval')
    from calibrax.bench.datasets import BenchmarkDataset
    zeros = [i for i in range(360) if int(data[i].target('label')) == 0][:5]
    one = next(i for i in range(360) if int(data[i].target('label')) == 1)
    few = BenchmarkDataset.from_samples([data[i] for i in (*zeros, one)], task='embedding_retrieval', name='few', split='test')
    result = BenchmarkRunner(get_model('pca'), few, 'embedding_retrieval', batch_size=4, progress=False).run()
    assert dict(result.undefined) == dict.fromkeys(METRICS.metric_defs, 1) and result.scored == 6
    assert result.aggregated['recall_at_1'] == 1 and math.isnan(list(result.records())[-1].metrics['map_at_r'])


def test_evidence_is_exact():
    rng = np.random.default_rng(0)
    v = (rng.standard_normal(3000)*10.**rng.integers(-37, 37, 3000)).astype(np.float32)
    kept = json.loads(json.dumps(METRICS.evidence(v, sample(3))))
    assert np.array_equal(np.asarray(kept['embedding'], np.float32), v) and kept['target'] == 3
    half = METRICS.evidence(np.array([.1, .2], np.float16), sample(0))['embedding']
    assert np.array_equal(np.asarray(half, np.float32), np.array([.1, .2], np.float16).astype(np.float32))


@pytest.mark.parametrize('wrong', [3., 'seven', None, np.ones((2, 2)), np.array([]), np.array([1., np.nan]), np.array([1e39, 0]), {'embedding': [1.]}, [[1.], [1., 2.]],
                                   np.array([True, False]), np.array([1j, 0])], ids=lambda w: str(w)[:20])
def test_what_is_no_prediction(wrong):
    with pytest.raises(MetricError) as e: METRICS.compute(wrong, sample(0))
    assert e.value.hint and e.value.message.startswith('prediction')


def test_good_predictions():
    assert checked_embedding([1, 2]).dtype == np.float32 and METRICS.compute(np.array([1, 2], np.int8), sample(0)) == {}


def test_embeddings_of_different_sizes():
    with pytest.raises(MetricError, match="3 of 2 numbers, and 1 others, first that of '7'") as e:
        METRICS.complete([record(0, 0, [1, 2]), record(1, 0, [1, 3]), record(7, 1, [1, 2, 3]), record(8, 1, [0, 3])])
    assert e.value.hint


@pytest.mark.parametrize('label', [-1, 1.5, np.nan, [1, 2], 'seven'])
def test_labels_that_are_no_class(label):
    assert METRICS.invalid(sample(label)) and METRICS.invalid(sample(3)) is None


def test_large_class_numbers():
    vectors, labels = np.random.default_rng(2).standard_normal((10, 3)), np.array([2**40, 2**40 + 1]*5)
    assert_same(METRICS.complete(records_of(vectors.astype(np.float32), labels)), by_hand(vectors.astype(np.float32), labels))


def test_no_image_finds_itself():
    assert 'robustness' not in RETRIEVAL_SPLITS and TASK.splits == RETRIEVAL_SPLITS
    for split in RETRIEVAL_SPLITS:
        entries = digits_dataset(split, task='embedding_retrieval').entries
        assert len({e.id.split('-')[1] for e in entries}) == len(entries)


def run(name, **options):
    return BenchmarkRunner(get_model(name, task='embedding_retrieval', **options), digits_dataset('test', task='embedding_retrieval'), 'embedding_retrieval', batch_size=60, progress=False).run()


def test_models_bring_digits_together():
    found = {name: run(name, **options) for name, options in (('random_projection', {}), ('pca', {}), ('embedding_cnn', {'steps': 250}))}
    recall, precision = ({name: r.aggregated[metric] for name, r in found.items()} for metric in ('recall_at_1', 'map_at_r'))
    assert recall['random_projection'] < .6 and recall['pca'] > .94 and recall['embedding_cnn'] > .85
    assert precision['random_projection'] < .3 < .5 < precision['pca'] < .65 < precision['embedding_cnn']
    for r in found.values():
        records = list(r.records())
        assert r.aggregated['map_at_r'] == pytest.approx(np.mean([s.metrics['map_at_r'] for s in records]))
        assert_same([dict(s.metrics) for s in records[:360]], METRICS.complete(records))


def test_principal_components_equal_scikit_learn():
    from sklearn.decomposition import PCA
    from calibrax.bench.digits import digit_images
    data = digits_dataset('test', task='embedding_retrieval')
    found = np.array(get_model('pca', size=5).predict([data[i] for i in range(50)], batch_size=50))
    known = PCA(5, svd_solver='full').fit(digit_images('train').images.reshape(-1, 64)/255.)
    expected = known.transform(digit_images('test').images[:50].reshape(-1, 64)/255.)
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_all_components_are_a_rotation():
    data = digits_dataset('test', task='embedding_retrieval')
    few = [data[i] for i in range(20)]
    found, pixels = np.array(get_model('pca', size=64).predict(few, batch_size=20)), np.array([s.input('rgb')[..., 0].ravel()/255. for s in few])
    def distances(x): return np.linalg.norm(x[:, None] - x[None], axis=-1)
    assert np.allclose(distances(found), distances(pixels), atol=1e-4)


def test_seeds_and_sizes():
    data = digits_dataset('test', task='embedding_retrieval')
    few = [data[i] for i in range(3)]
    first, same, other = (get_model('random_projection', seed=s, size=7).predict(few) for s in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other) and first[0].shape == (7,)
    for name, size in (('pca', 0), ('pca', 65), ('random_projection', 2.5), ('embedding_cnn', True)):
        with pytest.raises(ConfigError, match='size') as e: get_model(name, size=size)
        assert e.value.hint
    assert {'random_projection', 'pca', 'embedding_cnn'} <= {e.name for e in list_models('embedding_retrieval')}


def test_images_of_another_size_are_refused():
    big = Sample(id='big', inputs={'rgb': np.zeros((16, 16, 3), np.uint8)}, targets={'label': np.asarray(1)})
    for name in ('pca', 'random_projection'):
        with pytest.raises(CalibraxError) as e: get_model(name).predict([big])
        assert e.value.hint


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path):
    "Ranks need all samples, so those that were seen before the interruption count by their evidence"
    from calibrax.bench.models import from_function
    data, model = digits_dataset('test', task='embedding_retrieval'), get_model('pca')
    whole = BenchmarkRunner(model, data, 'embedding_retrieval', batch_size=40, folder=tmp_path/'whole', progress=False).run()
    calls = []
    def until(rgb):
        calls.append(1)
        if len(calls) == 6: raise KeyboardInterrupt
        return model.model(rgb)
    def stopping(): return from_function(until, task='embedding_retrieval', name='pca')
    with pytest.raises(KeyboardInterrupt): BenchmarkRunner(stopping(), data, 'embedding_retrieval', batch_size=40, folder=tmp_path/'parts', progress=False).run()
    resumed = BenchmarkRunner(stopping(), data, 'embedding_retrieval', batch_size=40, folder=tmp_path/'parts', resume=True, progress=False).run()
    assert 6 < len(calls) < 16 and dict(resumed.aggregated) == dict(whole.aggregated) and resumed.scored == 360
    for a, b in zip(whole.records(), resumed.records(), strict=True): assert (a.id, a.metrics, a.evidence) == (b.id, b.metrics, b.evidence)
