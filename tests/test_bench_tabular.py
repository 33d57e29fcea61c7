"The task of tabular regression: the diabetes data, metrics against scikit-learn, and models."
import hashlib, json, math, pickle, re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics as reference

from calibrax.bench.models import get_model, list_models
from calibrax.bench.runner import BenchmarkRunner
from calibrax.bench.samples import Sample, SampleRecord
from calibrax.bench.tasks import tabular_regression as task
from calibrax.bench.tasks.tabular_regression import RegressionMetrics, checked_number, diabetes_dataset, diabetes_table
from calibrax.core.errors import CalibraxError, ConfigError, MetricError

METRICS = RegressionMetrics()
DATA = Path(__file__).parents[1]/'calibrax'/'data'


def sample(target): return Sample(id='a', inputs={}, targets={'target': np.asarray(target)})

def records_of(predictions, targets):
    return [SampleRecord(index=i, id=str(i), status='scored', batch=0, metrics=METRICS.compute(p, sample(t)), evidence=METRICS.evidence(p, sample(t)))
            for i, (p, t) in enumerate(zip(predictions, targets))]


# --- data ----------------------------------------------------------------------------------------------------------------

def test_data_is_the_one_that_scikit_learn_distributes():
    from sklearn.datasets import load_diabetes
    original = load_diabetes(scaled=False)
    for split in ('train', 'test'):
        table = diabetes_table(split)
        assert np.array_equal(table.features, original.data[table.numbers].astype(np.float32)) and np.array_equal(table.targets, original.target[table.numbers])
        assert list(table.names) == original.feature_names


def test_where_the_data_comes_from_is_written_down():
    said = (DATA/'README.md').read_text(encoding='utf-8')
    with np.load(DATA/'diabetes.npz') as stored: features, targets = stored['features'], stored['targets']
    assert hashlib.sha256((DATA/'diabetes.npz').read_bytes()).hexdigest() in said
    assert hashlib.sha256(features.tobytes() + targets.tobytes()).hexdigest() in said
    assert (features.shape, features.dtype, targets.dtype) == ((442, 10), np.float32, np.uint16) and (DATA/'diabetes.npz').stat().st_size < 20_000
    assert 'Least Angle Regression' in said and 'scikit-learn' in said


def test_splits_are_disjoint_complete_and_stable():
    train, test = diabetes_table('train'), diabetes_table('test')
    assert sorted([*train.numbers, *test.numbers]) == list(range(442)) and (len(train), len(test)) == (354, 88)
    assert list(test.numbers[:3]) == [4, 9, 14]
    assert {s: diabetes_dataset(s).identity for s in ('test', 'train')} == IDENTITIES
    with pytest.raises(ValueError): train.targets[0] = 0
    with pytest.raises(ConfigError, match='no split') as e: diabetes_dataset('validation')
    assert e.value.hint


IDENTITIES = {'test': '7ef8acffaf200adb', 'train': 'e63c26acd17720b5'}


def test_dataset_gives_what_the_table_holds():
    data, table = diabetes_dataset(), diabetes_table('test')
    assert len(data) == 88 and data.task == 'tabular_regression'
    for i in (0, 87):
        s = data[i]
        assert np.array_equal(s.inputs['features'], table.features[i]) and s.targets['target'] == table.targets[i] and s.id == f'patient-{table.numbers[i]:03d}'
        assert s.inputs['features'].dtype == np.float32 and s.targets['target'].shape == ()


# --- metrics -------------------------------------------------------------------------------------------------------------

@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from((2, 9, 40)), st.booleans())
def test_metrics_equal_scikit_learn(seed, n, uncertain):
    from scipy.stats import norm
    rng = np.random.default_rng(seed)
    t, p, std = rng.normal(100, 50, n), rng.normal(100, 50, n), rng.uniform(20, 60, n)
    found = METRICS.aggregate(records_of([{'mean': m, 'std': s} for m, s in zip(p, std)] if uncertain else p, t))
    assert found['mae'] == pytest.approx(reference.mean_absolute_error(t, p), rel=1e-5) == found['absolute_error']
    assert found['rmse'] == pytest.approx(reference.root_mean_squared_error(t, p), rel=1e-5)
    assert found['r2'] == pytest.approx(reference.r2_score(t, p), rel=1e-4, abs=1e-5)
    assert ('nll' in found) == ('coverage_90' in found) == uncertain and 'squared_error' not in found
    if uncertain:
        assert found['nll'] == pytest.approx(-norm(p, std).logpdf(t).mean(), rel=1e-6)
        low, high = norm(p, std).interval(.9)
        assert found['coverage_90'] == pytest.approx(np.mean((low <= t) & (t <= high)))


def test_each_sample_has_its_errors():
    assert METRICS.compute(np.float32(12), sample(10)) == {'absolute_error': 2, 'squared_error': 4}
    assert METRICS.compute({'mean': [12], 'std': np.array([[1.]])}, sample([10.]))['coverage_90'] == 0
    assert METRICS.compute({'mean': 12, 'std': 2}, sample(10))['coverage_90'] == 1


def test_r_squared_of_too_little_is_undefined():
    assert math.isnan(METRICS.aggregate(records_of([1.], [2.]))['r2']) and METRICS.aggregate([]) == {}


def test_every_metric_is_defined_and_the_deciding_one_is_there():
    found = METRICS.aggregate(records_of([{'mean': 1., 'std': 1.}, {'mean': 2., 'std': 1.}], [1., 3.]))
    assert found.keys() == METRICS.metric_defs.keys() - {'squared_error'} and task.TASK.primary_metric in found
    assert METRICS.metric_defs[task.TASK.primary_metric].direction is task.TASK.direction


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_order_of_the_records_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    records = records_of(rng.normal(0, 1, 30), rng.normal(0, 1, 30))
    shuffled = [SampleRecord.from_dict(json.loads(json.dumps(records[i].to_dict()))) for i in rng.permutation(30)]
    once, again = METRICS.aggregate(records), METRICS.aggregate(shuffled)
    assert METRICS.complete(records) is None and once.keys() == again.keys()
    for name in once: assert once[name] == pytest.approx(again[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize('wrong', [np.zeros(2), 'high', None, np.nan, np.inf, [], True, 1j, [[1], [1, 2]], {}, {'mean': 1.}, {'mean': 1., 'std': 0.}, {'mean': 1., 'std': -1.},
                                   {'mean': 1., 'std': np.nan}, {'mean': np.zeros(2), 'std': 1.}, {'mean': 1., 'std': 1., 'n': 3}], ids=lambda w: str(w)[:25])
def test_what_is_no_prediction(wrong):
    with pytest.raises(MetricError) as e: METRICS.compute(wrong, sample(0.))
    assert e.value.hint and re.search('prediction', e.value.message)


def test_what_is_one():
    for right in (3, 3., np.float16(3), np.array(3), np.array([3]), np.array([[3.]])): assert checked_number(right) == (3, None)
    assert checked_number({'std': np.float32(2), 'mean': 3}) == (3, 2)


@pytest.mark.parametrize('target', [np.nan, np.inf, [1., 2.], 'high', [], None])
def test_targets_that_cannot_be_judged(target):
    assert METRICS.invalid(sample(target)) and METRICS.invalid(Sample(id='a', inputs={})) == 'it has no target'


def test_targets_that_can():
    for target in (0, -3.5, [2.], np.float32(1e30)): assert METRICS.invalid(sample(target)) is None


# --- models --------------------------------------------------------------------------------------------------------------

def run(name, **options): return BenchmarkRunner(get_model(name, task='tabular_regression', **options), diabetes_dataset(), 'tabular_regression', batch_size=22, progress=False).run()


def test_models_beat_the_mean():
    found = {name: run(name) for name in ('mean_target', 'knn_regression', 'ridge', 'mlp')}
    mae = {name: r.aggregated['mae'] for name, r in found.items()}
    assert 60 < mae['mean_target'] < 70 and all(mae[name] < 49 for name in ('knn_regression', 'ridge', 'mlp'))
    assert all(r.aggregated['r2'] > .4 for name, r in found.items() if name != 'mean_target') and abs(found['mean_target'].aggregated['r2']) < .01
    assert found['mlp'].aggregated['nll'] < found['mean_target'].aggregated['nll'] - .2 and found['ridge'].aggregated['nll'] < found['mean_target'].aggregated['nll'] - .2
    assert all(.75 < r.aggregated['coverage_90'] < .97 for name, r in found.items() if name != 'knn_regression') and 'nll' not in found['knn_regression'].aggregated
    assert all(r.scored == 88 for r in found.values())


def test_ridge_equals_scikit_learn():
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    train, test, data = diabetes_table('train'), diabetes_table('test'), diabetes_dataset()
    samples = [data[i] for i in range(88)]
    for penalty in (None, .5, 100.):
        inner = RidgeCV(np.logspace(-2, 3, 26)) if penalty is None else Ridge(penalty)
        expected = make_pipeline(StandardScaler(), inner).fit(train.features.astype(float), train.targets).predict(test.features.astype(float))
        found = [p['mean'] for p in get_model('ridge', penalty=penalty).predict(samples, batch_size=88)]
        assert np.allclose(found, expected, rtol=1e-4)


def test_leaving_one_out_needs_no_further_fits():
    train = diabetes_table('train')
    x, y = task._standardized(train.features), train.targets.astype(float)
    residuals = []
    for i in range(0, 354, 30):
        kept = np.arange(354) != i
        centre, mean = x[kept].mean(axis=0), y[kept].mean()
        weights = np.linalg.solve((x[kept] - centre).T @ (x[kept] - centre) + 3*np.eye(10), (x[kept] - centre).T @ (y[kept] - mean))
        residuals.append(y[i] - mean - (x[i] - centre) @ weights)
    solver = np.linalg.solve(x.T @ x + 3*np.eye(10), x.T)
    quick = (y - y.mean() - x @ (solver @ (y - y.mean())))/(1 - np.einsum('ij,ji->i', x, solver) - 1/354)
    assert np.allclose(quick[::30], residuals, rtol=1e-8)
    assert task._ridge(3.)[1] == pytest.approx(np.sqrt(np.mean(quick**2)))


def test_nobody_is_near_a_row_with_a_number_missing():
    row = np.array(diabetes_table('test').features[0])
    broken = row.copy()
    broken[4] = np.nan
    found = get_model('knn_regression').predict([Sample(id=str(i), inputs={'features': r}) for i, r in enumerate((row, broken))])
    assert np.isfinite(found[0]) and np.isnan(found[1])


def test_an_error_beyond_all_numbers_is_infinite():
    assert METRICS.compute(1e200, sample(1.)) == {'absolute_error': 1e200, 'squared_error': math.inf}
    assert METRICS.compute({'mean': 3., 'std': 1e-300}, sample(1.))['nll'] == math.inf


def test_the_dataset_travels_between_processes():
    data = diabetes_dataset()
    assert np.array_equal(pickle.loads(pickle.dumps(data))[3].input('features'), data[3].input('features'))


def test_nearest_rows_equal_scikit_learn():
    from sklearn.neighbors import KNeighborsRegressor
    train, test, data = diabetes_table('train'), diabetes_table('test'), diabetes_dataset()
    expected = KNeighborsRegressor(7).fit(task._standardized(train.features), train.targets).predict(task._standardized(test.features))
    assert np.allclose(get_model('knn_regression', k=7).predict([data[i] for i in range(88)], batch_size=44), expected)


def test_a_model_says_which_options_it_has():
    assert {'mean_target', 'ridge', 'knn_regression', 'mlp'} <= {e.name for e in list_models('tabular_regression')}
    for name, options in (('ridge', {'penalty': -1}), ('ridge', {'penalty': np.nan}), ('knn_regression', {'k': 0}), ('knn_regression', {'k': 2.5}), ('mlp', {'layers': 3})):
        with pytest.raises(ConfigError) as e: get_model(name, **options)
        assert e.value.hint


def test_a_batch_predicts_what_single_samples_do():
    data = diabetes_dataset()
    few = [data[i] for i in range(5)]
    for name in ('mean_target', 'ridge', 'knn_regression', 'mlp'):
        model = get_model(name)
        whole, single = model.predict(few, batch_size=3), [model.predict([s])[0] for s in few]
        for p, q in zip(whole, single): assert np.allclose(checked_number(p)[0], checked_number(q)[0], rtol=1e-5), name


def test_seeds_give_networks_of_their_own():
    data = diabetes_dataset()
    first, same, other = (checked_number(get_model('mlp', seed=s, steps=20).predict([data[0]])[0]) for s in (0, 0, 1))
    assert first == same != other


def test_rows_of_another_length_are_refused():
    short = Sample(id='short', inputs={'features': np.zeros(3, np.float32)}, targets={'target': np.asarray(1.)})
    for name in ('ridge', 'knn_regression', 'mlp'):
        with pytest.raises(CalibraxError) as e: get_model(name).predict([short])
        assert e.value.hint
