"""Entropies, tables of two variables and association of labels: the faults that must not come back, and the same numbers as SciPy and scikit-learn."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from calibrax.core.errors import MetricError
from calibrax.metrics.functional import information as I
from calibrax.metrics.registry import MetricRegistry

M = pytest.importorskip('sklearn.metrics')
nan = float('nan')

def close(a, b, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=rtol, atol=atol)
def table(seed=0, shape=(4, 6), holes=.3):
    rng = np.random.default_rng(seed)
    joint = rng.random(shape)*(rng.random(shape) > holes)
    return joint/joint.sum((-2, -1), keepdims=True)
def H(p): return scipy.stats.entropy(np.ravel(p))


# --- distributions -------------------------------------------------------------------------------------------------------

def test_what_is_impossible_for_the_code_costs_infinity():
    assert np.isposinf(I.cross_entropy([.5, .5], [1., 0.]))                 # the published one: 18.4/2, from a clipped zero
    close(I.cross_entropy([1., 0.], [1., 0.]), 0)
    close(I.cross_entropy([0., .4, .6], [.2, .3, .5]), -.4*np.log(.3) - .6*np.log(.5))

def test_arrays_are_one_distribution_unless_an_axis_is_named():
    joint = table()
    close(I.entropy(joint), H(joint))
    close(I.entropy(joint, axis=-1), [(-r[r > 0]*np.log(r[r > 0])).sum() for r in joint])
    close(I.cross_entropy(joint, joint, axis=0), I.entropy(joint, axis=0))

@pytest.mark.parametrize('base', [2, 10, np.e, .5])
def test_bases(base):
    p = [.2, .3, .5]
    close(I.entropy(p, base=base), scipy.stats.entropy(p, base=base))
    close(I.mutual_information(table(), base=base), float(I.mutual_information(table()))/np.log(base))

@pytest.mark.parametrize('base', [0, 1, -2, nan, '2', True])
def test_bases_that_are_none(base):
    with pytest.raises(MetricError, match='base must be'): I.entropy([.5, .5], base=base)

def test_probabilities_are_taken_as_they_are():
    close(I.entropy([1., 1., 2.]), -2*np.log(2))
    assert np.isnan(I.entropy([-.1, 1.1])) and np.isnan(I.cross_entropy([.5, .5], [-.1, 1.1])) and np.isnan(I.cross_entropy([nan, 1.], [.5, .5]))
    with pytest.raises(MetricError, match='must be probabilities'): I.entropy([-.1, 1.1], validate=True)

def test_entropy_from_logits_is_stable():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 30, (50, 20)).astype(np.float32)
    softmax = scipy.special.softmax(z.astype(np.float64), -1)
    close(I.entropy_from_logits(z), scipy.stats.entropy(softmax, axis=-1), 1e-4)
    close(I.entropy_from_logits(z + np.float32(1e4)), scipy.stats.entropy(scipy.special.softmax((z + np.float32(1e4)).astype(np.float64), -1), axis=-1), 1e-4)
    close(I.entropy_from_logits([0., -np.inf, 0.]), np.log(2))
    assert np.isfinite(jax.grad(lambda z: I.entropy_from_logits(z))(jnp.array([0., -np.inf, 0.]))).all()
    close(I.entropy_from_logits(np.zeros((3, 1000))), np.log(1000))
    close(I.entropy_from_logits(z, axis=None), H(scipy.special.softmax(z.astype(np.float64))), 1e-4)

def test_a_million_outcomes(): close(I.entropy(np.full(1_000_000, 1e-6, np.float32)), np.log(1e6), 1e-5)

@pytest.mark.parametrize('half', [jnp.float16, jnp.bfloat16])
def test_half_precision(half):
    p = jnp.full(4096, 1/4096, half)
    assert I.entropy(p).dtype == jnp.float32
    close(I.entropy(p), np.log(4096))

def test_gradients_at_zero_probabilities_are_finite():
    for f in (I.joint_entropy, I.conditional_entropy, I.mutual_information, I.normalized_mutual_information, I.variation_of_information):
        gradient = jax.jit(jax.grad(f))
        for joint in (table(1, (3, 3)), np.eye(3)/3, np.diag([1., 0, 0]), np.full((3, 3), 1/9)): assert np.isfinite(gradient(joint.astype(np.float32))).all(), (f, joint)
    for a in (0, 1): assert np.isfinite(jax.grad(I.cross_entropy, a)(jnp.array([1., 0.]), jnp.array([1., 0.]))).all()


# --- tables --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('seed', range(5))
def test_identities(seed):
    joint = table(seed)
    mutual = H(joint.sum(1)) + H(joint.sum(0)) - H(joint)
    close(I.joint_entropy(joint), H(joint)); close(I.mutual_information(joint), mutual)
    close(I.conditional_entropy(joint), H(joint) - H(joint.sum(1))); close(I.conditional_entropy(joint.T), H(joint) - H(joint.sum(0)))
    close(I.variation_of_information(joint), H(joint) - mutual)
    for method, mean in (('geometric', scipy.stats.gmean), ('arithmetic', np.mean), ('min', min), ('max', max)):
        close(I.normalized_mutual_information(joint, average_method=method), mutual/mean([H(joint.sum(1)), H(joint.sum(0))]))

def test_independence_is_never_negative():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        joint = np.outer(rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(7))).astype(np.float32)
        assert 0 <= I.mutual_information(joint) < 1e-6 and 0 <= I.normalized_mutual_information(joint) < 1e-6

def test_normalized_where_entropies_vanish():
    assert I.normalized_mutual_information([[1.]]) == 1 and I.normalized_mutual_information([[0., 0.], [0., 1.]]) == 1
    assert I.normalized_mutual_information([[.3, .7]]) == 0 and I.normalized_mutual_information([[.3, 0.], [.7, 0.]]) == 0
    close(I.normalized_mutual_information(np.eye(5)/5), 1)
    assert np.isnan(I.normalized_mutual_information([[nan]]))

def test_tables_stack():
    stack = np.stack([table(s) for s in range(6)]).reshape(2, 3, 4, 6)
    for f in (I.joint_entropy, I.conditional_entropy, I.mutual_information, I.normalized_mutual_information, I.variation_of_information):
        assert f(stack).shape == (2, 3)
        close(f(stack)[1, 2], f(stack[1, 2]))
        with pytest.raises(MetricError, match='no table'): f([.5, .5])

def test_normalized_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 5, 400), rng.integers(0, 3, 400)
    joint = np.histogram2d(a, b, (5, 3))[0]/400
    close(I.mutual_information(joint), M.mutual_info_score(a, b)); close(I.normalized_mutual_information(joint, average_method='arithmetic'), M.normalized_mutual_info_score(a, b))


# --- labels --------------------------------------------------------------------------------------------------------------

def columns(n=500, seed=0, keep=.5):
    rng = np.random.default_rng(seed)
    a = rng.choice(5, n, p=[.5, .2, .15, .1, .05])
    return a, np.where(rng.random(n) < keep, a % 3, rng.integers(0, 3, n))

@pytest.mark.parametrize('method,f', [('cramer', 'cramers_v'), ('tschuprow', 'tschuprows_t')])
def test_association_is_that_of_scipy(method, f):
    f = getattr(I, f)
    for n, keep in ((500, .5), (40, 0.), (100_000, .05), (500, 1.)):
        a, b = columns(n, keep=keep)
        counts = np.histogram2d(a, b, (5, 3), range=((0, 5), (0, 3)))[0].astype(int)
        close(f(a, b, bias_correction=False), scipy.stats.contingency.association(counts[counts.sum(1) > 0], method=method), 2e-5)
    close(f(a, b), f(b, a)); close(f(a, b, num_classes=9), f(a, b))         # labels that do not occur change nothing
    close(f(2*a, b), f(a, b))

def test_bias_correction():
    "Bergsma's, as torchmetrics has it"
    a, b = columns(60, keep=.4)
    n, counts = 60, np.histogram2d(a, b, (5, 3), range=((0, 5), (0, 3)))[0]
    expected = np.outer(counts.sum(1), counts.sum(0))/n
    square = max(0, ((counts - expected)**2/expected).sum()/n - 4*2/(n - 1))
    r, c = 5 - 16/(n - 1), 3 - 4/(n - 1)
    close(I.cramers_v(a, b), np.sqrt(square/min(r - 1, c - 1))); close(I.tschuprows_t(a, b), np.sqrt(square/np.sqrt((r - 1)*(c - 1))))

def test_theils_u_has_a_direction():
    a, b = columns()
    for x, y in ((a, b), (b, a)): close(I.theils_u(x, y), M.mutual_info_score(x, y)/H(np.bincount(x)))
    assert I.theils_u(a % 3, a) == 1 and I.theils_u(a, a % 3) < .9

def test_torchmetrics_agrees():
    tm, torch = pytest.importorskip('torchmetrics.functional.nominal'), pytest.importorskip('torch')
    a, b = columns(200)
    for name in ('cramers_v', 'tschuprows_t', 'theils_u'): close(getattr(I, name)(a, b), float(getattr(tm, name)(torch.tensor(a), torch.tensor(b))), 1e-4)

def test_a_single_label():
    for f in (I.cramers_v, I.tschuprows_t, I.theils_u):
        assert np.isnan(f([1, 1, 1], [0, 1, 2])) and f([1, 1, 1], [0, 1, 2], zero_division=0.) == 0
        assert np.isnan(f([0], [0])) and np.isnan(f([], [], num_classes=2))

@pytest.mark.parametrize('bad', [-1, 7, .5, nan])
def test_a_label_that_is_none_makes_the_result_nan(bad):
    p, t = np.float32([0, 1, 2, 0, 1, 2, bad]), [0, 1, 1, 0, 1, 2, 0]
    for f in (I.cramers_v, I.tschuprows_t, I.theils_u):
        assert np.isnan(f(p, t, num_classes=3)) and not np.isnan(f(p, t, num_classes=3, mask=np.arange(7) < 6))
    with pytest.raises(MetricError, match='num_classes'): jax.jit(I.cramers_v)(jnp.array([0]), jnp.array([1]))
    with pytest.raises(MetricError, match='Shape mismatch'): I.cramers_v([0, 1], [0, 1, 1])

def test_scores_stand_for_the_largest():
    scores, t = np.random.default_rng(0).normal(size=(60, 4)), np.random.default_rng(1).integers(0, 4, 60)
    close(I.cramers_v(scores, t), I.cramers_v(scores.argmax(1), t, num_classes=4))


# --- Fisher information --------------------------------------------------------------------------------------------------

def test_fisher_information():
    close(I.fisher_information_matrix(lambda p: 30*jnp.log(p) + 70*jnp.log1p(-p), .3), [[100/.21]])
    a = np.array([[2., .5], [.5, 1.]])
    close(I.fisher_information_matrix(lambda x: -.5*x @ jnp.asarray(a) @ x, np.array([1, 2])), a)
    close(I.fisher_information_matrix(lambda q: -q['b'].sum()**2 - 3*q['a']**2, {'a': 1, 'b': jnp.ones(2)}), [[6, 0, 0], [0, 2, 2], [0, 2, 2]])
    close(jax.jit(lambda x: I.fisher_information_matrix(lambda x: -jnp.sum(x**4), x))(jnp.ones(2)), 12*np.eye(2))
    with pytest.raises(MetricError, match='log_prob_fn gives an array') as e: I.fisher_information_matrix(lambda x: x, jnp.ones(2))
    assert e.value.hint

def test_what_is_registered():
    names = {e.name for e in MetricRegistry().list_by_domain('information')}
    assert {'entropy', 'cross_entropy', 'mutual_information', 'conditional_entropy', 'normalized_mutual_information'} <= names and 'fisher_information_matrix' not in names
