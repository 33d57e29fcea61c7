"The digits as benchmark data, the networks that are trained on them, and the task of image classification."
import hashlib, json, logging, os, pickle, subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn import metrics as reference

from calibrax.bench import digits
from calibrax.bench.digits import DIGIT_SPLITS, digit_images, digits_dataset, disturb, gray, read_digits, training_batches
from calibrax.bench.models import from_function, get_model, list_models
from calibrax.bench.runner import BenchmarkRunner
from calibrax.bench.samples import DIFFICULTIES, Sample, SampleRecord
from calibrax.bench.tasks.image_classification import ClassificationMetrics, checked_probabilities, why_no_class
from calibrax.core.errors import CalibraxError, ConfigError, MetricError, ModelError

METRICS = ClassificationMetrics()


def sample(label, id='a', **metadata): return Sample(id=id, inputs={}, targets={'label': np.asarray(label)}, metadata=metadata)

def records_of(probabilities, labels):
    return [SampleRecord(index=i, id=str(i), status='scored', batch=0, metrics=METRICS.compute(p, sample(t)), evidence=METRICS.evidence(p, sample(t)))
            for i, (p, t) in enumerate(zip(probabilities, labels))]


# --- digits --------------------------------------------------------------------------------------------------------------

FINGERPRINTS = {    # of the bytes of images and labels: a change of these is a change of every published result
    'test': 'ba4643b41abed761', 'easy': '0f6ff03691e93bbf', 'medium': '210af0009a65698a',
    'hard': '615d2c89c9174ffb', 'robustness': '548dcd3d13cb9a09', 'train': 'a7d7c2b6cbad95b0',
}

def test_splits_are_what_they_were():
    found = {s: hashlib.sha256(d.images.tobytes() + d.labels.astype('<i8').tobytes()).hexdigest()[:16] for s, d in ((s, digit_images(s)) for s in DIGIT_SPLITS)}
    assert found == FINGERPRINTS


def test_splits_are_disjoint_and_complete():
    train, test = digit_images('train').numbers, digit_images('test').numbers
    assert set(train) | set(test) == set(range(1797)) and not set(train) & set(test)
    for split in ('easy', 'medium', 'hard'):
        assert (digit_images(split).numbers == test).all() and set(digit_images(split).difficulties) == {split}
    robust = digit_images('robustness')
    assert set(robust.numbers) == set(test) and len(robust) == 1080 and robust.difficulties[:3] == DIFFICULTIES


def test_no_test_image_is_a_training_image():
    train, test = ({i.tobytes() for i in digit_images(s).images} for s in ('train', 'robustness'))
    assert not train & test


def test_robustness_holds_the_three_splits():
    robust = digit_images('robustness')
    for i, d in enumerate(DIFFICULTIES): assert (robust.images[i::3] == digit_images(d).images).all()


def test_a_disturbance_grows_with_the_difficulty():
    images, _ = read_digits()
    for kind in digits.STRENGTHS:
        change = [np.mean([np.abs(disturb(images[n], kind, d, n).astype(float) - images[n]).mean() for n in range(1437, 1500)]) for d in DIFFICULTIES]
        assert 0 < change[0] < change[1] < change[2], kind


def test_a_quarter_turn_is_exact():
    image = read_digits()[0][3]
    one, zero = np.ones(1), np.zeros(1)
    assert (np.round(digits._moved(image[None], one*90, zero, zero, one)[0]) == np.rot90(image, -1)).all()
    assert (digits._moved(image[None], zero, zero, zero, one)[0] == image).all()
    assert (digits._moved(image[None], zero, one, -one, one)[0][1:, :-1] == image[:-1, 1:]).all()


def test_dataset_gives_what_the_arrays_hold():
    data, held = digits_dataset('hard'), digit_images('hard')
    assert len(data) == len(held) == 360 and data.task == 'image_classification' and data.split == 'hard'
    for i in (0, 100, 359):
        s = data[i]
        assert s.inputs['rgb'].dtype == np.uint8 and (s.inputs['rgb'] == held.images[i][..., None]).all()
        assert (int(s.targets['label']), s.difficulty, s.metadata['classes']) == (held.labels[i], 'hard', 10)
        assert (data.entries[i].id, data.entries[i].difficulty, data.entries[i].scene) == (s.id, 'hard', s.scene)
    assert len({e.id for split in ('test', *DIFFICULTIES, 'train') for e in digits_dataset(split).entries}) == 3*360 + 1797


def test_identity_tells_splits_apart_and_is_stable():
    assert len({digits_dataset(s).identity for s in DIGIT_SPLITS}) == len(DIGIT_SPLITS)
    digit_images.cache_clear()
    before = digits_dataset('easy').identity
    digit_images.cache_clear()
    assert digits_dataset('easy').identity == before


def test_unknown_split_and_disturbance():
    for call in (lambda: digits_dataset('validation'), lambda: disturb(np.zeros((8, 8), np.uint8), 'blur', 'easy', 0), lambda: disturb(np.zeros((8, 8), np.uint8), 'noise', 'extreme', 0)):
        with pytest.raises(ConfigError) as e: call()
        assert e.value.hint


def test_arrays_cannot_be_changed():
    for a in (*read_digits(), *(held for s in ('train', 'test', 'hard') for held in (digit_images(s).images, digit_images(s).labels, digit_images(s).numbers))):
        with pytest.raises(ValueError): a[0] = 0


def test_the_dataset_travels_between_processes():
    data = digits_dataset('hard')
    again = pickle.loads(pickle.dumps(data))
    assert again.identity == data.identity and np.array_equal(again[7].input('rgb'), data[7].input('rgb')) and again[7].metadata == data[7].metadata


def test_training_batches_come_from_the_training_images_alone():
    seen, labels = next(training_batches(1, size=200, moved=False))
    known = {(i.tobytes(), int(t)) for i, t in zip((digit_images('train').images/255).astype(np.float32), digit_images('train').labels)}
    assert all((i.tobytes(), int(t)) in known for i, t in zip(seen, labels))
    first, again, other = (next(training_batches(1, seed=s))[0] for s in (3, 3, 4))
    assert (first == again).all() and (first != other).any() and first.dtype == np.float32 and 0 <= first.min() and first.max() <= 1


def test_gray_is_the_image():
    held = digit_images('test').images[:5]
    assert np.allclose(gray(np.repeat(held[..., None], 3, axis=-1))*255, held, atol=1e-4)


# --- metrics -------------------------------------------------------------------------------------------------------------

@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(((4, 2), (4, 7), (10, 120))))     # few shapes: each is compiled
def test_metrics_equal_scikit_learn(seed, size):
    classes, n = size
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, .5), n)
    labels = rng.integers(0, classes, n)
    records = records_of(p, labels)
    found, guess = METRICS.aggregate(records), p.argmax(axis=1)
    names = np.arange(classes)
    assert np.isclose(found['accuracy'], reference.accuracy_score(labels, guess))
    assert np.isclose(found['top_3_accuracy'], reference.top_k_accuracy_score(labels, p, k=3, labels=names))
    floored = np.maximum(p, 1e-7)
    assert np.isclose(found['log_loss'], -np.log(floored[np.arange(n), labels]).mean(), rtol=1e-6)
    if p.min() > 1e-7: assert np.isclose(found['log_loss'], reference.log_loss(labels, p, labels=names), rtol=1e-6)
    present = [np.mean(guess[labels == c] == c) for c in np.unique(labels)]
    assert np.isclose(found['balanced_accuracy'], np.mean(present), atol=1e-6)
    assert np.isclose(found['macro_f1'], reference.f1_score(labels, guess, average='macro'), atol=1e-6)


def test_calibration_error_equals_its_definition():
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(4), 500)
    labels = rng.integers(0, 4, 500)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    bins = np.minimum((confidence*10).astype(int), 9)
    expected = sum(abs((confidence - right)[bins == b].sum()) for b in range(10))/500
    assert np.isclose(METRICS.aggregate(records_of(p, labels))['expected_calibration_error'], expected, atol=1e-5)


def test_equally_probable_classes_count_once():
    p = np.full(5, .2)
    assert [METRICS.compute(p, sample(t))['accuracy'] for t in range(5)] == [1, 0, 0, 0, 0]
    assert [METRICS.compute(p, sample(t))['top_3_accuracy'] for t in range(5)] == [1, 1, 1, 0, 0]


def test_top_three_of_three_says_nothing():
    assert np.isnan(METRICS.compute(np.array([.2, .3, .5]), sample(1))['top_3_accuracy'])


def test_a_sum_that_is_nearly_one_is_made_one():
    p = np.array([.3, .3004, .4], np.float32)
    assert np.isclose(checked_probabilities(p, 0).sum(), 1, atol=1e-12)
    assert METRICS.compute(np.array([0, 0, 1., 0]), sample(0))['log_loss'] == pytest.approx(-np.log(1e-7))


@pytest.mark.parametrize('wrong', [3, 'seven', None, np.full((2, 5), .2), np.array([]), np.array([1.]), np.array([.5, np.nan]), np.array([np.inf, 0]), np.array([-.2, 1.2]),
                                   np.array([2., -1., 0]), np.array([.5, .4]), {'label': 3}, [[.5], [.2, .3]], np.array(['a', 'b']), np.array([.5 + 1j, .5])],
                         ids=lambda w: str(w)[:20])
def test_what_is_no_prediction(wrong):
    with pytest.raises(MetricError) as e: METRICS.compute(wrong, sample(0))
    assert e.value.hint and e.value.message.startswith('prediction')


def test_a_model_of_other_classes():
    with pytest.raises(MetricError, match='the label is 7, and the prediction is of 3 classes'): METRICS.compute(np.full(3, 1/3), sample(7))


@pytest.mark.parametrize('classes, given', [(10, 2), (10, 1000), (3, 2)])
def test_another_number_of_classes_is_refused_for_every_label(classes, given):
    for label in range(classes):
        for judge in (METRICS.compute, METRICS.evidence):
            with pytest.raises(MetricError, match=f'probabilities of {classes} classes, found {given}') as e: judge(np.full(given, 1/given), sample(label, classes=classes))
            assert e.value.hint
    assert METRICS.compute(np.full(given, 1/given), sample(0))['accuracy'] == 1      # nobody knows how many there are
    assert METRICS.compute(np.full(classes, 1/classes), sample(0, classes=classes))['accuracy'] == 1


def test_a_model_of_two_classes_fails_on_ten_digits_as_a_whole():
    two = from_function(lambda rgb: np.tile([.6, .4], (len(rgb), 1)), task='image_classification', name='two')
    with pytest.raises(CalibraxError, match='none of 40 samples could be scored; 40 times: .*10 classes, found 2'):
        BenchmarkRunner(two, digits_dataset('test').take(40), 'image_classification', batch_size=20, progress=False).run()


@pytest.mark.parametrize('label, metadata, reason', [(-1, {}, 'classes are numbered from 0'), (10, {'classes': 10}, 'from 0 to 9'), (2.5, {}, 'no whole number'), (np.nan, {}, 'nan'),
                                                    ([1, 2], {}, 'of shape'), ('seven', {}, "the word 'seven', and no number"), (True, {}, 'no number')])
def test_labels_that_are_no_class(label, metadata, reason):
    assert reason in why_no_class(sample(label, **metadata))
    assert METRICS.invalid(sample(label, **metadata))


def test_labels_that_are():
    assert why_no_class(Sample(id='a', inputs={})) == 'it has no label'
    for label, metadata in ((0, {}), (9, {'classes': 10}), (3., {}), (np.uint8(3), {}), (120, {})): assert why_no_class(sample(label, **metadata)) is None


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_the_order_of_the_records_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    records = records_of(rng.dirichlet(np.ones(5), 40), rng.integers(0, 5, 40))
    shuffled = [records[i] for i in rng.permutation(40)]
    once, again = METRICS.aggregate(records), METRICS.aggregate([SampleRecord.from_dict(json.loads(json.dumps(r.to_dict()))) for r in shuffled])
    assert once.keys() == again.keys() <= METRICS.metric_defs.keys()
    for name in once: assert once[name] == pytest.approx(again[name], abs=1e-6), name


def test_unusual_class_numbers_and_few_classes():
    p = np.zeros((2, 5000))
    p[:, 4999] = 1
    found = METRICS.aggregate(records_of(p, [4999, 4999]))
    assert (found['balanced_accuracy'], found['macro_f1'], found['expected_calibration_error']) == (1, 1, 0)
    assert METRICS.aggregate([]) == {}


# --- models --------------------------------------------------------------------------------------------------------------

STEPS = 200     # of the one network that these tests share

def run(name, split='test', **options): return BenchmarkRunner(get_model(name, task='image_classification', **options), digits_dataset(split), 'image_classification', batch_size=60, progress=False).run()


def test_models_know_digits():
    found = {'majority': run('majority'), 'knn': run('knn'), 'cnn': run('cnn', steps=STEPS)}
    accuracy = {name: r.aggregated['accuracy'] for name, r in found.items()}
    assert accuracy['majority'] < .12 and accuracy['knn'] > .94 and accuracy['cnn'] > .85
    assert all(r.scored == 360 and not r.skipped and not r.invalid and not r.undefined for r in found.values())
    assert found['cnn'].aggregated['log_loss'] < .5 < 2 < found['majority'].aggregated['log_loss']
    assert found['knn'].aggregated['accuracy'] == np.mean([r.metrics['accuracy'] for r in found['knn'].records()])


def test_difficulties_are_hard_in_their_order():
    result = run('knn', 'robustness')
    accuracy = {g.difficulty: g.metrics['accuracy'].value for g in result.groups if g.difficulty}
    assert list(accuracy) == list(DIFFICULTIES) and accuracy['easy'] > accuracy['medium'] > accuracy['hard'] > .3


def test_nearest_neighbours_equal_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier
    train, test = digit_images('train'), digits_dataset('test')
    expected = KNeighborsClassifier(3).fit(train.images.reshape(len(train), -1)/255., train.labels).predict_proba(digit_images('test').images.reshape(360, -1)/255.)
    found = np.array(get_model('knn').predict([test[i] for i in range(360)], batch_size=360))
    assert np.mean(np.abs((found*3.2 - .02)/3 - expected) < 1e-5) > .995     # but for pairs at equal distances


def test_a_model_says_which_options_it_has():
    entries = {e.name: e for e in list_models('image_classification')}
    assert {'majority', 'knn', 'cnn'} <= entries.keys()
    with pytest.raises(ConfigError, match='no option') as e: get_model('knn', neighbours=3)
    assert 'k' in e.value.hint
    for k in (0, 10**6, 2.5):
        with pytest.raises(ConfigError) as e: get_model('knn', k=k)
        assert e.value.hint


def test_a_batch_predicts_what_single_samples_do():
    data = digits_dataset('test')
    few = [data[i] for i in range(7)]
    for name, options in (('majority', {}), ('knn', {}), ('cnn', {'steps': STEPS})):
        model = get_model(name, **options)
        whole, single = model.predict(few, batch_size=4), [model.predict([s])[0] for s in few]
        assert all(p.shape == (10,) and np.allclose(p, q, atol=1e-5) for p, q in zip(whole, single)), name


def test_nothing_is_near_an_image_that_is_no_number():
    clean, broken = np.zeros((2, 8, 8, 3), np.float32)
    broken[3, 3] = np.nan
    found = get_model('knn').predict([Sample(id=str(i), inputs={'rgb': a}) for i, a in enumerate((clean, broken))])
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_images_of_another_size_are_refused_by_name():
    big = Sample(id='big', inputs={'rgb': np.zeros((16, 16, 3), np.uint8)}, targets={'label': np.asarray(1)})
    for name in ('knn', 'cnn'):
        with pytest.raises(CalibraxError) as e: get_model(name, **({'steps': STEPS} if name == 'cnn' else {})).predict([big])
        assert e.value.hint and (name == 'cnn' or 'expected 8×8 as in training, found 16×16' in e.value.message)


# --- networks ------------------------------------------------------------------------------------------------------------

class Trainings(logging.Handler):
    "Counts the trainings, which are logged"
    def __init__(self): super().__init__(); self.names = []
    def emit(self, record): self.names += [record.args[0]]*record.msg.startswith('training')

@pytest.fixture
def trainings(tmp_path, monkeypatch):
    monkeypatch.setenv('CALIBRAX_CACHE_DIR', str(tmp_path))
    log, handler = logging.getLogger('calibrax.bench.networks'), Trainings()
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield handler.names
    log.removeHandler(handler)
    log.setLevel(before)


def weights(network):
    import jax
    from flax import nnx
    return [np.asarray(a) for a in jax.tree.leaves(nnx.state(network, nnx.Not(nnx.RngState)))]

def same(a, b): return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

def double(network):
    import jax
    from flax import nnx
    nnx.update(network, jax.tree.map(lambda a: 2*a, nnx.state(network, nnx.Param)))


def test_a_network_is_trained_once(tmp_path, trainings, monkeypatch):
    monkeypatch.setattr('calibrax.bench.networks.fit', lambda network, *_, **__: double(network))
    first, second = (weights(get_model('cnn', steps=20).model) for _ in range(2))
    assert len(trainings) == 1 and same(first, second)
    other = weights(get_model('cnn', steps=20, seed=1).model)
    get_model('cnn', steps=21), get_model('cnn', steps=20, moved=False)
    assert len(trainings) == 4 and not same(first, other)
    assert len(list((tmp_path/'models').iterdir())) == 4


@pytest.mark.parametrize('damage', [lambda b: b[:500], lambda b: b'', lambda b: b'PK no archive'])
def test_damaged_weights_are_trained_again(tmp_path, trainings, damage):
    from calibrax.bench.networks import dense_network, train_once
    def trained(): return weights(train_once('small', lambda: dense_network(2, 1, hidden=()), double, 1))
    first = trained()
    file, = (tmp_path/'models').iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert same(trained(), first) and len(trainings) == 2
    trained()
    assert len(trainings) == 2


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, trainings):
    (tmp_path/'models').write_text('a file, not a folder')
    from calibrax.bench.networks import dense_network, train_once
    network, again = (train_once('small', lambda: dense_network(2, 1, hidden=()), double, 1) for _ in range(2))
    assert len(trainings) == 2 and same(weights(network), weights(again)) and not same(weights(network), weights(dense_network(2, 1, hidden=())))


def test_dropout_and_statistics_are_trained_and_kept(tmp_path, trainings):
    from flax import nnx
    from calibrax.bench.networks import fit, train_once
    def build():
        rngs = nnx.Rngs(0)
        return nnx.Sequential(nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs), nnx.Dropout(.5, rngs=rngs))
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    def train(network): losses.append(fit(network, lambda n, x: ((n(x) - 1)**2).mean(), [(rows,)]*3, steps=3))
    losses = []
    first, second = (train_once('noisy', build, train, 1) for _ in range(2))
    assert len(trainings) == 1 and same(weights(first), weights(second)) and len(set(losses[0])) > 1     # dropout draws anew
    assert np.abs(first.layers[1].mean[...]).max() > 0       # batch normalisation has seen the rows
    second.eval()
    assert np.isfinite(second(rows)).all()


def test_the_key_changes_with_what_it_is_made_of():
    from calibrax.bench.networks import recipe_key
    def one(x, scale=2): return x*scale
    def same(x, scale=2): return x*scale
    def default(x, scale=3): return x*scale
    def body(x, scale=2): return x + scale
    a = np.arange(6.)
    def closed(value): return lambda: value
    keys = [recipe_key(v) for v in (closed(1), closed(2), one, default, body, a, a + 1, a.reshape(2, 3), a.astype(np.float32), {'a': 1}, {'a': 1.5}, {'b': 1}, [1, 2], '1', 1, None)]
    assert len(set(keys)) == len(keys) and recipe_key(one) == recipe_key(same)
    assert recipe_key({'a': 1, 'b': 2}) == recipe_key({'b': 2, 'a': 1})
    with pytest.raises(ConfigError) as e: recipe_key(object())
    assert e.value.hint


def test_the_key_is_the_same_in_another_process():
    code = 'from calibrax.bench.networks import recipe_key, fit, convolutional_network as c; print(recipe_key([fit, c, lambda x: x in {"a", "b", "c"}]))'
    first, second = (subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env={**os.environ, 'PYTHONHASHSEED': h}).stdout for h in ('1', '2'))
    assert first == second


def test_what_cannot_be_learned_is_an_error():
    import jax.numpy as jnp
    from calibrax.bench.networks import dense_network, fit
    def fails(error, text, batches, steps=3):
        with pytest.raises(error, match=text) as e: fit(dense_network(2, 1, hidden=()), lambda n, x: jnp.log(-jnp.abs(n(x)).sum()), batches, steps=steps)
        assert e.value.hint
    fails(ModelError, 'the loss is nan', [(np.ones((4, 2), np.float32),)]*3)
    fails(ModelError, 'no batches', [])
    for steps in (0, -1, 1.5): fails(ConfigError, 'steps: expected a whole number', [], steps)


def test_import_needs_no_jax():
    code = ('import sys, calibrax.bench.networks, calibrax.bench.tasks.image_classification, calibrax.bench.tasks.embedding_retrieval, calibrax.bench.tasks.tabular_regression; '
            'print([m for m in ("jax", "flax", "optax", "PIL", "matplotlib", "scipy", "pandas") if m in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'
