"""Metrics of labels and class scores: the faults that must not come back, and the same numbers as scikit-learn on ugly input."""
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.functional import classification as C

M = pytest.importorskip('sklearn.metrics')
nan = float('nan')


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield

def labels(n, classes, seed=0, agree=.7):
    rng = np.random.default_rng(seed)
    t = rng.choice(classes, n, p=(weights := np.arange(classes, 0, -1.))/weights.sum())
    return np.where(rng.random(n) < agree, t, rng.integers(0, classes, n)), t

def rows(n, count, seed=0):
    rng = np.random.default_rng(seed)
    t = (rng.random((n, count)) < np.linspace(.05, .6, count)).astype(int)
    return np.where(rng.random((n, count)) < .8, t, 1 - t), t

def close(a, b, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=rtol, atol=atol)


# --- faults of the published package -------------------------------------------------------------------------------------

def test_matthews_of_three_classes_is_not_the_binary_formula():
    p, t = labels(300, 3)
    close(C.matthews_corrcoef(p, t), M.matthews_corrcoef(t, p))
    kept = (t < 2) & (p < 2)                                                # what the published formula looked at
    assert abs(M.matthews_corrcoef(t, p) - M.matthews_corrcoef(t[kept], p[kept])) > .01

@pytest.mark.parametrize('n', [46_341, 200_000])
def test_many_samples_do_not_overflow(n):
    p, t = labels(n, 2, agree=.98)
    close(C.matthews_corrcoef(p, t), M.matthews_corrcoef(t, p))
    close(C.cohen_kappa(p, t), M.cohen_kappa_score(t, p))
    close(C.cohen_kappa(p, t, scheme='quadratic'), M.cohen_kappa_score(t, p, weights='quadratic'))

def test_scores_are_not_cut_to_labels():
    for metric in (C.accuracy, C.precision, C.recall, C.f1_score, C.specificity, C.balanced_accuracy, C.matthews_corrcoef, C.cohen_kappa, C.hamming_loss):
        assert np.isnan(metric([.9, .8], [1, 1])), metric
    assert C.precision([.9, .8], [1, 1], threshold=.5) == 1

@pytest.mark.parametrize('bad', [-1, 2, nan, .5])
def test_a_label_of_no_class_makes_the_result_nan(bad):
    t, p = np.float32([0, 1, bad]), np.float32([0, 1, 1])
    for metric in (C.precision, C.f1_score, C.specificity):
        assert np.isnan(metric(p, t)) and np.isnan(metric(t, p)), metric
        assert np.isnan(metric(p, t, average='macro', num_classes=2)) and np.isnan(metric(p, t, average='micro', num_classes=2))
        assert not np.isnan(metric(p, t, mask=[True, True, False])) and not np.isnan(metric(p, t, weights=[1, 1, 0]))
        with pytest.raises(MetricError, match='must be classes'): metric(p, t, validate=True)
    assert C.confusion_matrix(p, t, num_classes=2).tolist() == [[1, 0], [0, 1]]
    assert np.isnan(C.confusion_matrix(p, t, num_classes=2, normalize='all')).all()

def test_labels_outside_of_the_scores_are_no_class():
    assert np.isnan(C.softmax_cross_entropy([[2., 0.]], [5])) and np.isnan(C.log_loss([[.7, .3]], [2])) and np.isnan(C.log_loss([.7], [2]))
    assert np.isnan(C.hinge_loss([[2., 0.]], [-1])) and np.isnan(C.top_k_accuracy([[2., 0.]], [2])) and np.isnan(C.accuracy([[2., 0.]], [2]))

@pytest.mark.parametrize('name', ['precision', 'recall', 'f1_score', 'specificity', 'jaccard_score', 'cohen_kappa', 'balanced_accuracy', 'matthews_corrcoef'])
def test_compiles_with_and_without_the_number_of_classes(name):
    metric, (p, t) = getattr(C, name), labels(50, 3)
    more = {'average': 'macro'} if 'average' in metric.compiled.kinds else {}
    close(jax.jit(lambda p, t: metric(p, t, num_classes=3, **more))(p, t), metric(p, t, **more))
    with pytest.raises(MetricError, match='num_classes') as error: jax.jit(lambda p, t: metric(p, t, **more))(p, t)
    assert 'give num_classes' in error.value.hint

def test_the_binary_default_compiles_as_it_is():
    p, t = labels(50, 2)
    for metric in (C.precision, C.recall, C.f1_score, C.accuracy): close(jax.jit(metric)(p, t), metric(p, t))
    close(jax.jit(lambda p, t: C.f1_score(p, t, average='micro'))(*labels(50, 5)), C.accuracy(*labels(50, 5)))

def test_accuracy_like_metrics_mask_what_is_nan():
    assert C.accuracy([0, nan], [0, 1], mask=[True, False]) == 1 and C.log_loss([.5, nan], [1, 1], mask=[True, False]) == pytest.approx(np.log(2))
    grad = jax.grad(lambda s: C.softmax_cross_entropy(s, [0, 9], mask=[True, False]))(jnp.array([[1., 2.], [nan, 1.]]))
    assert np.isfinite(grad).all() and not grad[1].any()


# --- scikit-learn on ugly input ------------------------------------------------------------------------------------------

SHARES = [('precision', 'precision_score'), ('recall', 'recall_score'), ('f1_score', 'f1_score'), ('jaccard_score', 'jaccard_score')]

def unusual(n=200):
    "One class in neither, one never called, one alone, and all of them: of one length, so that each metric compiles once"
    p, t = labels(n, 4)
    return (p, t), (np.where(p == 2, 3, p), np.where(t == 2, 3, t)), (np.where(p == 1, 0, p), t), (np.zeros(n, int), np.zeros(n, int)), (np.ones(n, int), np.zeros(n, int))

@pytest.mark.parametrize('average', ['micro', 'macro', 'weighted'])
@pytest.mark.parametrize('ours,theirs', SHARES)
def test_shares_of_several_classes(ours, theirs, average):
    ours, theirs = getattr(C, ours), getattr(M, theirs)
    w = np.random.default_rng(1).uniform(0, 3, 200)
    for p, t in unusual():
        close(ours(p, t, average=average, num_classes=4), theirs(t, p, average=average, zero_division=0))
        close(ours(p, t, average=average, num_classes=4, weights=w), theirs(t, p, average=average, sample_weight=w, zero_division=0))

@pytest.mark.parametrize('empty', [1.0, nan])
def test_zero_division(empty):
    for ours, theirs in ((C.precision, M.precision_score), (C.f1_score, M.f1_score)):
        for p, t in unusual()[:4]: close(ours(p, t, average='macro', num_classes=4, zero_division=empty), theirs(t, p, average='macro', zero_division=empty))
    close(C.precision([0, 0], [1, 0], zero_division=empty), empty)

@pytest.mark.parametrize('ours,theirs,average', [('f1_score', 'f1_score', a) for a in ('micro', 'macro', 'weighted', 'samples', 'none')] +
                         [(*names, a) for names in SHARES if names[0] != 'f1_score' for a in ('macro', 'samples')])
def test_shares_of_several_labels(ours, theirs, average):
    ours, theirs = getattr(C, ours), getattr(M, theirs)
    p, t = rows(120, 5)
    p[:, 0] = t[:, 0] = 0                                                    # a label that never is
    p[3], t[3] = 0, 0                                                        # a sample without any
    w = np.random.default_rng(1).uniform(.1, 3, 120)
    name = None if average == 'none' else average
    close(ours(p, t, average=average, multilabel=True), theirs(t, p, average=name, zero_division=0))
    close(ours(p, t, average=average, multilabel=True, weights=w), theirs(t, p, average=name, sample_weight=w, zero_division=0))
    close(ours(p*.8 + .1, t, average=average, multilabel=True, threshold=.5), ours(p, t, average=average, multilabel=True))
    keep = w > 1
    close(ours(np.where(keep[:, None], p, 7), t, average=average, multilabel=True, mask=keep), ours(p[keep], t[keep], average=average, multilabel=True))
    assert np.isnan(ours(np.where(keep[:, None], p, 7), t, average=average, multilabel=True)).all()

def test_a_mean_over_samples_is_a_vmap():
    p, t = rows(40, 6)
    close(C.f1_score(p, t, average='samples', multilabel=True), np.mean(jax.vmap(C.f1_score)(p, t)))

@pytest.mark.parametrize('beta', [0, .5, 2, 10])
def test_fbeta(beta):
    p, t = labels(200, 3)
    close(C.fbeta_score(p, t, beta=beta, average='macro'), M.fbeta_score(t, p, beta=beta, average='macro') if beta else M.precision_score(t, p, average='macro'))
    close(C.fbeta_score(p, t, beta=float('inf'), average='none'), M.recall_score(t, p, average=None))

def test_absent_classes():
    p, t = [0, 0, 2], [0, 2, 2]
    close(C.recall(p, t, average='macro'), .75)
    close(C.recall(p, t, average='macro', absent='zero'), .5)
    assert np.isnan(C.recall(p, t, average='macro', absent='nan'))
    assert C.recall(p, t, average='none', absent='zero').tolist() == [1, 0, .5]

@pytest.mark.parametrize('normalize', [None, 'true', 'pred', 'all'])
def test_confusion_matrix(normalize):
    p, t = labels(300, 4)
    w = np.random.default_rng(2).uniform(0, 2, 300)
    close(C.confusion_matrix(p, t, normalize=normalize), M.confusion_matrix(t, p, normalize=normalize))
    close(C.confusion_matrix(p, t, normalize=normalize, weights=w), M.confusion_matrix(t, p, normalize=normalize, sample_weight=w))
    close(C.confusion_matrix(p, t, normalize=normalize, num_classes=6), M.confusion_matrix(t, p, normalize=normalize, labels=range(6)))
    if normalize is None: assert C.confusion_matrix(p, t).dtype == jnp.int32

def test_multilabel_confusion_matrix():
    close(C.multilabel_confusion_matrix(*labels(100, 4)), M.multilabel_confusion_matrix(*labels(100, 4)[::-1]))
    close(C.multilabel_confusion_matrix(*rows(100, 4), multilabel=True), M.multilabel_confusion_matrix(*rows(100, 4)[::-1]))

def test_chance_corrected():
    w = np.random.default_rng(1).uniform(0, 3, 200)
    for p, t in (labels(200, 5), (labels(200, 5)[1], labels(200, 5)[0]), (np.full(200, 3), labels(200, 5)[1])):
        for weights in (None, w):
            close(C.matthews_corrcoef(p, t, weights=weights), M.matthews_corrcoef(t, p, sample_weight=weights))
            for adjusted in (False, True): close(C.balanced_accuracy(p, t, adjusted=adjusted, weights=weights), M.balanced_accuracy_score(t, p, adjusted=adjusted, sample_weight=weights))
            for scheme in (None, 'linear', 'quadratic'): close(C.cohen_kappa(p, t, scheme=scheme, weights=weights), M.cohen_kappa_score(t, p, weights=scheme, sample_weight=weights))
    one = np.ones(5, int)
    assert np.isnan(C.cohen_kappa(one, one)) and C.cohen_kappa(one, one, zero_division=1.0) == 1 and C.matthews_corrcoef(one, one) == 0
    assert np.isnan(C.balanced_accuracy(one, one, adjusted=True)) and C.balanced_accuracy(one, one) == 1

@pytest.mark.parametrize('weighted', [False, True])
def test_a_rare_class_keeps_its_digits(weighted):
    "Ten of a million: the textbook's s² - Σt² leaves float32"
    t = np.zeros(1_000_000, int); t[:10] = 1
    p = t.copy(); p[8:14] = 1; p[8:10] = 0
    w = np.random.default_rng(0).uniform(.5, 1.5, t.size) if weighted else None
    close(C.matthews_corrcoef(p, t, weights=w), M.matthews_corrcoef(t, p, sample_weight=w), 2e-5)
    close(C.cohen_kappa(p, t, weights=w), M.cohen_kappa_score(t, p, sample_weight=w), 2e-5)
    close(C.specificity(1 - p, 1 - t, weights=w), M.recall_score(t, p, sample_weight=w), 2e-5)
    close(C.false_positive_rate(p, t, weights=w), np.average(p[t == 0], weights=None if w is None else w[t == 0]), 2e-5)
    close(C.hamming_loss(p, t, weights=w), np.average(p != t, weights=w), 2e-5)

def test_many_classes_need_no_table():
    p, t = labels(5000, 4000)
    for average in ('macro', 'weighted'): close(C.f1_score(p, t, average=average, num_classes=200_000), M.f1_score(t, p, average=average))
    w = np.random.default_rng(0).uniform(0, 2, 5000)
    close(C.matthews_corrcoef(p, t, num_classes=50_000, weights=w), M.matthews_corrcoef(t, p, sample_weight=w))
    close(C.cohen_kappa(p, t), M.cohen_kappa_score(t, p))

def test_likelihood_ratios():
    p, t = labels(200, 2)
    close(C.class_likelihood_ratios(p, t), M.class_likelihood_ratios(t, p))
    assert np.isnan(C.class_likelihood_ratios([0, 1], [0, 1])[0]) and C.class_likelihood_ratios([0, 1], [0, 1], zero_division=1.0)[0] == 1
    assert np.isnan(C.class_likelihood_ratios([0, 1], [0, 0])).all()

def test_rows_of_labels():
    p, t = rows(100, 4)
    w = np.random.default_rng(0).uniform(0, 2, 100)
    close(C.exact_match(p, t), M.accuracy_score(t, p)); close(C.exact_match(p, t, weights=w), M.accuracy_score(t, p, sample_weight=w))
    close(C.zero_one_loss(p, t, weights=w), M.zero_one_loss(t, p, sample_weight=w)); close(C.hamming_loss(p, t, weights=w), M.hamming_loss(t, p, sample_weight=w))
    keep = np.random.default_rng(1).random((100, 4)) < .7
    keep[0] = False
    wanted = [(p[i] == t[i])[keep[i]].all() for i in range(100) if keep[i].any()]
    close(C.exact_match(np.where(keep, p, -3), t, mask=keep), np.mean(wanted))
    assert np.isnan(C.exact_match(np.where(keep, p, -3), t)) and np.isnan(C.exact_match(p, t, mask=np.zeros(100, bool)))
    assert C.exact_match(np.ones((3, 4, 5), int), np.ones((3, 4, 5), int)) == 1

def test_top_k():
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(300, 8)).astype(np.float32), rng.permutation(np.arange(300) % 8)
    for k in (1, 2, 5, 8, 20): close(C.top_k_accuracy(s, t, k=k), M.top_k_accuracy_score(t, s, k=k))
    tied = np.round(s)
    close(C.top_k_accuracy(tied, t, k=1), C.accuracy(tied, t))
    s[0, 3] = nan
    assert np.isnan(C.top_k_accuracy(s, t)) and not np.isnan(C.top_k_accuracy(s, t, mask=np.arange(300) > 0))

def test_losses():
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(200, 5)), rng.permutation(np.arange(200) % 5)
    q, w = np.exp(z)/np.exp(z).sum(1, keepdims=True), rng.uniform(0, 2, 200)
    b, s = (t > 2).astype(int), rng.normal(size=200)*2
    one = 1/(1 + np.exp(-s))
    for weights in (None, w):
        close(C.log_loss(q, t, weights=weights), M.log_loss(t, q, sample_weight=weights)); close(C.log_loss(one, b, weights=weights), M.log_loss(b, one, sample_weight=weights))
        close(C.d2_log_loss_score(q, t, weights=weights), M.d2_log_loss_score(t, q, sample_weight=weights))
        close(C.d2_log_loss_score(one, b, weights=weights), M.d2_log_loss_score(b, one, sample_weight=weights))
        close(C.hinge_loss(z, t, weights=weights), M.hinge_loss(t, z, sample_weight=weights)); close(C.hinge_loss(s, b, weights=weights), M.hinge_loss(b, s, sample_weight=weights))
        close(C.softmax_cross_entropy(z, t, weights=weights), M.log_loss(t, q, sample_weight=weights))
    close(C.hinge_loss(s, b, squared=True), np.mean(np.maximum(0, 1 - (2*b - 1)*s)**2))
    assert np.isfinite(C.log_loss([0., 1.], [1, 0])) and C.log_loss([1., 0.], [1, 0]) < 1e-6
    assert np.isinf(C.log_loss([0.], [1], eps=0)) and np.isnan(C.d2_log_loss_score([.9, .8], [1, 1]))

def test_cross_entropy_of_large_logits_and_of_sequences():
    z = jnp.array([[1e4, 0.], [-jnp.inf, 3.]])
    assert C.softmax_cross_entropy(z, [0, 1]) == 0 and C.softmax_cross_entropy(z, [1, 1], reduction='none').tolist() == [1e4, 0]
    tokens, words = jax.random.normal(jax.random.key(0), (3, 7, 11)), jnp.arange(21).reshape(3, 7) % 11
    each = C.softmax_cross_entropy(tokens, words, reduction='none')
    lengths = jnp.arange(7) < jnp.array([7, 4, 1])[:, None]
    assert each.shape == (3, 7)
    close(C.softmax_cross_entropy(tokens, words, mask=lengths), np.asarray(each)[np.asarray(lengths)].mean())
    close(C.softmax_cross_entropy(tokens, words, axis=1), np.asarray(each).mean(1))
    close(C.softmax_cross_entropy(tokens.astype(jnp.bfloat16), words), C.softmax_cross_entropy(tokens.astype(jnp.bfloat16).astype(np.float32), words))

def test_scores_over_classes_are_argmaxed():
    z, t = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 3
    p = z.argmax(1)
    close(C.accuracy(z, t), C.accuracy(p, t)); close(C.f1_score(z, t, average='macro'), C.f1_score(p, t, average='macro'))
    close(C.confusion_matrix(z, t), C.confusion_matrix(p, t)); close(C.recall(z[:, :2], t % 2), C.recall(z[:, :2].argmax(1), t % 2))

def test_labels_of_any_kind_and_shape():
    p, t = labels(60, 3)
    for kind in (np.uint8, np.int64, np.float32, np.float16): close(C.f1_score(p.astype(kind), t.astype(kind), average='macro'), C.f1_score(p, t, average='macro'))
    close(C.f1_score(p.reshape(5, 12), t.reshape(5, 12), average='macro'), C.f1_score(p, t, average='macro'))
    assert C.accuracy(np.array([4294967297]), np.array([1]), num_classes=2) != 1
    assert C.accuracy(True, 1) == 1 and C.accuracy(np.float32(0), 1) == 0

def test_a_million_labels():
    p, t = labels(1_000_000, 10)
    assert C.accuracy(p, t) == pytest.approx(np.mean(p == t), rel=1e-6)
    close(C.f1_score(p, t, average='macro'), M.f1_score(t, p, average='macro')); assert (C.confusion_matrix(p, t) == M.confusion_matrix(t, p)).all()
    close(C.f1_score(p, t, average='macro', weights=np.full(1_000_000, .1, np.float32)), M.f1_score(t, p, average='macro'))

def test_nothing_at_all():
    empty = np.zeros(0, int)
    for metric in (C.accuracy, C.hamming_loss, C.exact_match, C.zero_one_loss, C.cohen_kappa, C.balanced_accuracy): assert np.isnan(metric(empty, empty)), metric
    assert C.precision(empty, empty) == 0 and np.isnan(C.precision(empty, empty, average='macro')) and C.accuracy(empty, empty, zero_division=0.0) == 0
    assert C.confusion_matrix(empty, empty).tolist() == [[0, 0], [0, 0]] and C.log_loss(np.zeros((0, 3)), empty) == 0


# --- reports and errors --------------------------------------------------------------------------------------------------

def test_report_says_what_scikit_learn_says():
    p, t = labels(300, 3)
    theirs = M.classification_report(t, p, output_dict=True, digits=3)
    table = C.classification_report(p, t, class_names=('a', 'b', 'c'))
    for row, key in zip(table.rows, ('0', '1', '2')): assert row[1:] == tuple(f'{theirs[key][k]:.3f}' for k in ('precision', 'recall', 'f1-score')) + (f"{theirs[key]['support']:.0f}",)
    assert [r[0] for r in table.rows] == ['a', 'b', 'c', 'accuracy', 'macro average', 'weighted average'] and table.rows[3][1] == f"{theirs['accuracy']:.3f}"
    assert table.rows[4][3] == f"{theirs['macro avg']['f1-score']:.3f}" and table.rows[5][1] == f"{theirs['weighted avg']['precision']:.3f}"
    assert C.classification_report(*rows(20, 3), multilabel=True, class_names='xyz').rows[3][0] == 'micro average'
    with pytest.raises(MetricError, match='under jax.jit'): jax.jit(lambda p: len(C.classification_report(p, t).rows))(p)

@pytest.mark.parametrize('call,message', [
    (lambda: C.accuracy([0, 1], [0, 1, 2]), 'Shape mismatch: predictions'),
    (lambda: C.accuracy(np.zeros((3, 2)), [0, 1]), 'Shape mismatch: predictions'),
    (lambda: C.accuracy([0, 1], [0, 1], num_classes=1), 'num_classes must be'),
    (lambda: C.accuracy(['a'], [0]), 'predictions: expected real numbers'),
    (lambda: C.precision(np.zeros((3, 4)), [0, 1, 2]), 'scores over 4 classes'),
    (lambda: C.precision([0, 1], [0, 1], num_classes=3), 'two classes'),
    (lambda: C.precision([0, 1], [0, 1], average='mean'), 'unknown average'),
    (lambda: C.precision([0, 1], [0, 1], average='macro', absent='drop'), 'unknown absent'),
    (lambda: C.f1_score([0, 1], [0, 1], average='samples'), 'several labels'),
    (lambda: C.f1_score([0, 1], [0, 1], average='macro', multilabel=True), 'axis over labels'),
    (lambda: C.f1_score([.5, 1], [0, 1], threshold='half'), 'threshold must be a number'),
    (lambda: C.fbeta_score([0, 1], [0, 1], beta=nan), 'beta must be'),
    (lambda: C.cohen_kappa([0, 1], [0, 1], scheme='none'), 'unknown scheme'),
    (lambda: C.log_loss([.5], [1], eps=.7), 'eps must be'),
    (lambda: C.log_loss(np.zeros((3, 2)), [0]), 'Shape mismatch: predictions'),
    (lambda: C.softmax_cross_entropy(np.zeros((3, 1)), [0, 0, 0]), 'single class'),
    (lambda: C.softmax_cross_entropy(np.zeros((3, 2)), [0, 0, 0], reduction='median'), 'unknown reduction'),
    (lambda: C.top_k_accuracy(np.zeros((3, 2)), [0, 0, 0], k=1.5), 'k must be'),
    (lambda: C.confusion_matrix([0], [0], normalize='row'), 'unknown normalize'),
    (lambda: C.exact_match([[0, 1]], [[0, 1]], weights=[[1, 2]]), 'weights of shape'),
])
def test_errors_name_the_argument_and_what_to_do(call, message):
    with pytest.raises(MetricError, match=message) as error: call()
    assert error.value.hint
