"""Errors of numbers: faults of the published package and of other libraries, scikit-learn on ugly input, and what is refused."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.evaluation import calculate_all
from calibrax.metrics.functional import deviance as D, regression as R
from calibrax.metrics.registry import MetricRegistry

sk = pytest.importorskip('sklearn.metrics')
DOMAIN = [e for e in MetricRegistry().list_by_domain('general') if e.name != 'crps']
rng = np.random.default_rng(0)
P, T = rng.normal(size=(2, 300)).astype(np.float32)
W = rng.integers(0, 4, 300).astype(np.float32)
POSITIVE = np.exp(P), np.exp(T)
def close(a, b, rtol=1e-5, atol=1e-7): np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol)
def wide(*arrays): return [np.asarray(a, np.float64) for a in arrays]


# --- faults that ours must not have --------------------------------------------------------------------------------------

def test_constant_targets_have_nothing_to_explain():
    for f in (R.r_squared, R.explained_variance, D.d2_absolute_error_score):
        assert float(f([1., 2., 4.], [5., 5., 5.])) == 0 and float(f([5., 5., 5.], [5., 5., 5.])) == 1
    assert float(R.relative_squared_error([1., 2.], [5., 5.])) == 1 and float(R.relative_absolute_error([5., 5.], [5., 5.])) == 0

def test_squared_error_far_from_zero():
    t = np.float32(1e8) + rng.integers(-5, 5, 1000).astype(np.float32)*8
    p = t + rng.integers(-2, 3, 1000).astype(np.float32)*8
    close(R.mse(p, t), sk.mean_squared_error(*wide(t, p)))

@pytest.mark.parametrize('offset,spread', [(1e4, 1), (1e6, 10), (1e8, 4096)])
@pytest.mark.parametrize('n', [50, 100_000])
def test_shares_of_variance_far_from_zero(offset, spread, n):
    "torchmetrics gives 0.0 and metrax 0.999 at 1e4"
    r = np.random.default_rng(n)
    t = (offset + spread*r.normal(size=n)).astype(np.float32)
    p = (t + .1*spread*r.normal(size=n)).astype(np.float32)
    close(R.r_squared(p, t), sk.r2_score(*wide(t, p)))
    close(R.explained_variance(p, t), sk.explained_variance_score(*wide(t, p)))
    close(R.r_squared(p, t, weights=np.arange(n) % 3), sk.r2_score(*wide(t, p), sample_weight=np.arange(n) % 3), rtol=3e-5)
    halves = [R.error_moments(p[i], t[i]) for i in (slice(0, n//3), slice(n//3, n))]
    close(R._r_squared(R.merge_moments(*halves)), sk.r2_score(*wide(t, p)), rtol=1e-4)

def test_masked_nan_stays_out():
    p, t = POSITIVE
    keep = np.arange(300) % 5 != 0
    alone = calculate_all(p[keep], t[keep])
    for k, v in calculate_all(np.where(keep, p, np.nan), t, mask=keep).items(): close(v, alone[k], rtol=2e-5)
    assert float(R.mse([1, np.nan], [0, 0], mask=[True, False])) == 1

def test_zero_targets_are_finite_and_loud():
    assert 1e7 < float(R.mape([1., 2.], [0., 2.])) < np.inf and float(R.mape([0., 2.], [0., 2.])) == 0
    assert float(R.mape([1., 2.], [0., 2.], epsilon=1)) == .5
    assert float(R.smape([0., 1.], [0., 0.])) == 1 and float(R.wmape([0.], [0.])) == 0
    assert 1e7 < float(R.relative_error([1.], [0.])) < np.inf and float(R.relative_l2_error([[0., 0.]], [[0., 0.]])) == 0

def test_small_units_are_no_zero():
    "A number added to the denominator would make these near zero"
    p, t = np.float32([1.1e-12, 2.2e-12]), np.float32([1e-12, 2e-12])
    for f in (R.mape, R.wmape, R.relative_error, R.relative_l2_error): close(f(p, t), .1, rtol=1e-5)
    close(R.smape(p, t), .2/2.1)
    p, t = np.float32([3e30, 4.5e30]), np.float32([3e30, 4e30])
    close(R.relative_error(p, t), .1, rtol=1e-5)
    close(R.per_sample_relative_l2(p[None], t[None]), [.1], rtol=1e-5)

def test_log_cosh_neither_overflows_nor_vanishes():
    close(R.log_cosh_loss([1e-4], [0.]), 5e-9, rtol=1e-4, atol=0)
    close(R.log_cosh_loss([5e4], [0.]), 5e4 - np.log(2))


# --- scikit-learn on ugly input -------------------------------------------------------------------------------------------

def peer(name, weighted):
    w = {'sample_weight': W} if weighted else {}
    p, t = wide(P, T)
    q, u = wide(*POSITIVE)
    return {
        'mse': lambda: sk.mean_squared_error(t, p, **w), 'rmse': lambda: sk.root_mean_squared_error(t, p, **w), 'mae': lambda: sk.mean_absolute_error(t, p, **w),
        'median_absolute_error': lambda: sk.median_absolute_error(np.repeat(t, W.astype(int)), np.repeat(p, W.astype(int))) if weighted else sk.median_absolute_error(t, p),
        'mape': lambda: sk.mean_absolute_percentage_error(t, p, **w), 'r_squared': lambda: sk.r2_score(t, p, **w), 'explained_variance': lambda: sk.explained_variance_score(t, p, **w),
        'd2_absolute_error_score': lambda: sk.d2_absolute_error_score(t, p, **w), 'msle': lambda: sk.mean_squared_log_error(u, q, **w), 'rmsle': lambda: sk.root_mean_squared_log_error(u, q, **w),
        'mean_poisson_deviance': lambda: sk.mean_poisson_deviance(u, q, **w), 'mean_gamma_deviance': lambda: sk.mean_gamma_deviance(u, q, **w)}[name]()

@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('name', ['mse', 'rmse', 'mae', 'median_absolute_error', 'mape', 'r_squared', 'explained_variance', 'd2_absolute_error_score', 'msle', 'rmsle', 'mean_poisson_deviance', 'mean_gamma_deviance'])
def test_equals_scikit_learn(name, weighted):
    f = MetricRegistry().get_function(name)
    arrays = POSITIVE if name in ('msle', 'rmsle') or 'deviance' in name else (P, T)
    close(f(*arrays, **({'weights': W} if weighted else {})), peer(name, weighted))

@pytest.mark.parametrize('quantile', [0., .1, .5, .9, 1.])
def test_pinball(quantile):
    close(R.quantile_loss(P, T, quantile=quantile), sk.mean_pinball_loss(*wide(T, P), alpha=quantile))
    close(D.d2_pinball_score(P, T, alpha=quantile, weights=np.ones(300)), D.d2_pinball_score(P, T, alpha=quantile), atol=2e-7)
    if 0 < quantile < 1: close(D.d2_pinball_score(P, T, alpha=quantile, weights=W + 1), sk.d2_pinball_score(*wide(T, P), alpha=quantile, sample_weight=W + 1))

@pytest.mark.parametrize('power', [-1.5, 0, 1, 1.1, 1.9, 2, 2.5, 3])
def test_tweedie(power):
    p, t = POSITIVE[0], POSITIVE[1]*(np.arange(300) % 4 > 0) if power < 2 else POSITIVE[1]
    close(D.mean_tweedie_deviance(p, t, power=power), sk.mean_tweedie_deviance(*wide(t, p), power=power))
    close(D.mean_tweedie_deviance(p, t, power=power, weights=W), sk.mean_tweedie_deviance(*wide(t, p), power=power, sample_weight=W))
    if power >= 0: close(D.d2_tweedie_score(p, t, power=power, weights=W), sk.d2_tweedie_score(*wide(t, p), power=power, sample_weight=W))

def test_deviances_of_good_predictions_keep_their_digits():
    t = rng.uniform(1, 1000, 5000).astype(np.float32)
    for size in (1e-2, 1e-4, 1e-6):
        p = (t*(1 + size*rng.normal(size=5000))).astype(np.float32)
        x = np.asarray(p, np.longdouble)/np.asarray(t, np.longdouble) - 1
        close(D.mean_poisson_deviance(p, t), np.mean(t*x**2*(1 - 2*x/3)), rtol=2*size**2 + 1e-5, atol=0)
        close(D.mean_gamma_deviance(p, t), np.mean(x**2*(1 - 4*x/3)), rtol=20*size**2 + 1e-5, atol=0)

@pytest.mark.parametrize('normalization', ['mean', 'range', 'std', 'l2'])
def test_nrmse(normalization):
    p, t = wide(P, T + 3)
    size = {'mean': t.mean(), 'range': np.ptp(t), 'std': t.std(), 'l2': np.linalg.norm(t)}[normalization]
    close(R.nrmse(P, T + 3, normalization=normalization), np.sqrt(np.mean((p - t)**2))/size)
    some = R.nrmse(np.repeat(P, W.astype(int)), np.repeat(T + 3, W.astype(int)), normalization=normalization)
    close(R.nrmse(P, T + 3, normalization=normalization, weights=W), some)

def test_torchmetrics_agrees():
    torch, tm = pytest.importorskip('torch'), pytest.importorskip('torchmetrics.functional')
    p, t = (torch.from_numpy(np.exp(a).astype(np.float64)) for a in (P, T))
    q, u = np.exp(P), np.exp(T)
    for ours, theirs in ((R.wmape(q, u), tm.weighted_mean_absolute_percentage_error(p, t)), (R.smape(q, u), tm.symmetric_mean_absolute_percentage_error(p, t)),
                         (R.log_cosh_loss(q, u), tm.log_cosh_error(p, t)), (R.relative_squared_error(q, u, squared=False), tm.relative_squared_error(p, t, squared=False)),
                         (R.critical_success_index(q, u, threshold=1.), tm.critical_success_index(p, t, 1.)), (R.nrmse(q, u, normalization='std'), tm.normalized_root_mean_squared_error(p, t, 'std')),
                         (D.mean_tweedie_deviance(q, u, power=1.5), tm.tweedie_deviance_score(p, t, 1.5)), (D.msle(q, u), tm.mean_squared_log_error(p, t))):
        close(ours, theirs.numpy(), rtol=2e-5)

def test_a_million():
    r = np.random.default_rng(1)
    t = r.normal(size=1_000_000).astype(np.float32)
    p = (t + .3*r.normal(size=1_000_000)).astype(np.float32)
    found = calculate_all(p, t, metrics=['mse', 'mae', 'r_squared', 'max_error', 'median_absolute_error', 'd2_absolute_error_score', 'huber_loss'])
    for k, f in (('mse', sk.mean_squared_error), ('mae', sk.mean_absolute_error), ('r_squared', sk.r2_score), ('max_error', sk.max_error), ('median_absolute_error', sk.median_absolute_error), ('d2_absolute_error_score', sk.d2_absolute_error_score)):
        close(found[k], f(*wide(t, p)), rtol=2e-6)
    p[700_000] = np.nan
    for k, v in calculate_all(p, t, metrics=list(found)).items(): assert np.isnan(v), k

@pytest.mark.parametrize('more', [{}, {'weights': W}, {'mask': W > 0}], ids=['plain', 'weights', 'mask'])
def test_all_of_them_together(more):
    together = calculate_all(*POSITIVE, **more)
    assert set(together) == {e.name for e in DOMAIN}
    for e in DOMAIN: close(together[e.name], e.fn(*POSITIVE, **more), rtol=2e-6)

def test_half_precision():
    half = [a.astype(np.float16) for a in POSITIVE]
    single = calculate_all(*[a.astype(np.float32) for a in half])
    for k, v in calculate_all(*half).items():
        assert v.dtype == np.float32
        close(v, single[k])

def test_nothing_is_zero_and_not_an_error():
    for values in (calculate_all(np.zeros(0, np.float32), np.zeros(0, np.float32)), calculate_all(*POSITIVE, mask=np.zeros(300, bool))):
        for k, v in values.items(): assert np.isfinite(v), k


# --- reductions -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('f', [R.mse, R.mae, R.mape, R.smape, R.huber_loss, R.charbonnier_loss, R.log_cosh_loss, R.quantile_loss, R.mean_bias_error], ids=lambda f: f.__name__)
def test_reductions(f):
    p, t = P.reshape(30, 10), T.reshape(30, 10)
    each = np.asarray(f(p, t, reduction='none'))
    assert each.shape == p.shape
    close(f(p, t), each.mean(), rtol=1e-4)
    close(f(p, t, reduction='sum'), each.sum(), rtol=1e-4)
    close(f(p, t, axis=1), each.mean(1), rtol=1e-4)
    close(f(p, t, reduction='batch_sum'), each.sum(1).mean(), rtol=1e-4)
    close(f(p, t, mask=np.arange(30) < 20), each[:20].mean(), rtol=1e-4)
    close(f(p, t, weights=np.arange(10.)), np.average(each, axis=1, weights=np.arange(10)).mean(), rtol=1e-4)

def test_roots_over_an_axis():
    p, t = P.reshape(30, 10), T.reshape(30, 10)
    roots = np.sqrt(((p - t)**2).mean(1))
    close(R.rmse(p, t, axis=1, reduction='none'), roots)
    close(R.rmse(p, t, axis=1), roots.mean())
    close(R.rmse(p, t, axis=-1, reduction='sum', mask=np.arange(30) < 20), roots[:20].sum())
    close(R.rmse(p, t, axis=(0, 1)), R.rmse(p, t))
    with pytest.raises(MetricError, match='unknown reduction'): R.rmse(p, t, reduction='batch_sum')

def test_relative_error_by_sample():
    p, t = P.reshape(30, 2, 5), T.reshape(30, 2, 5)
    each = np.linalg.norm((p - t).reshape(30, -1), axis=1)/np.linalg.norm(t.reshape(30, -1), axis=1)
    close(R.per_sample_relative_l2(p, t), each)
    close(R.relative_l2_error(p, t), each.mean())
    close(R.relative_l2_error(p, t, weights=np.arange(30)), np.average(each, weights=np.arange(30)))
    keep = np.arange(5) < 3
    close(R.relative_l2_error(p, t, mask=keep), R.relative_l2_error(p[..., :3], t[..., :3]))
    close(R.relative_l2_error(P, T, reduction='sum'), (np.abs(P - T)/np.abs(T)).sum(), rtol=1e-4)

@pytest.mark.parametrize('members', [2, 3, 50])
def test_crps(members):
    x, y = rng.normal(size=(40, members)).astype(np.float32), rng.normal(size=40).astype(np.float32)
    each = np.abs(x - y[:, None]).mean(1) - np.abs(x[:, :, None] - x[:, None]).mean((1, 2))/2
    close(R.crps(x, y, reduction='none'), each, atol=1e-6)
    close(R.crps(x, y, weights=np.arange(40)), np.average(each, weights=np.arange(40)), rtol=1e-5)
    close(jax.jit(R.crps)(x, y), each.mean(), rtol=1e-5)
    close(R.crps(x + np.float32(8192), y + np.float32(8192)), R.crps(x, y), rtol=1e-3)
    close(R.crps(np.repeat(y[:, None] + 1, members, 1), y), 1.)

def test_crps_honesty():
    "A sample from the truth beats one that is too wide, too narrow or shifted"
    r = np.random.default_rng(3)
    y, x = r.normal(size=4000), r.normal(size=(4000, 40))
    right = float(R.crps(x, y))
    for wrong in (2*x, .3*x, x + .5): assert float(R.crps(wrong, y)) > right

def test_gradients_of_sorts():
    x = jnp.asarray(POSITIVE[0])
    for f in (R.median_absolute_error, D.d2_absolute_error_score, D.d2_pinball_score):
        g = jax.grad(lambda p: f(p, POSITIVE[1]))(x)
        assert np.isfinite(g).all() and np.abs(g).max() > 0


# --- what is refused --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('call,message', [
    (lambda: R.mse([1, 2], [1, 2, 3]), r'Shape mismatch: predictions \(2,\) vs targets \(3,\)'),
    (lambda: R.mse(['a'], [1]), 'predictions: expected real numbers'),
    (lambda: R.quantile_loss([1.], [1.], quantile=2), 'quantile must be from 0 to 1, got 2'),
    (lambda: R.huber_loss([1.], [1.], delta=0), 'delta must be above zero, got 0'),
    (lambda: R.charbonnier_loss([1.], [1.], epsilon=-1), 'epsilon must be above zero'),
    (lambda: R.mape([1.], [1.], epsilon=0), 'epsilon must be above zero'),
    (lambda: R.relative_error([1.], [1.], epsilon=0), 'epsilon must be above zero'),
    (lambda: R.nrmse([1.], [1.], normalization='max'), "unknown normalization 'max'"),
    (lambda: R.minkowski_error([1.], [1.], order=.5), 'order must be at least 1'),
    (lambda: D.mean_tweedie_deviance([1.], [1.], power=.5), 'power must be at most 0 or at least 1'),
    (lambda: D.d2_tweedie_score([1.], [1.], power=.5), 'power must be at most 0 or at least 1'),
    (lambda: D.d2_pinball_score([1.], [1.], alpha=-1), 'alpha must be from 0 to 1'),
    (lambda: calculate_all([1.], [1.], metrics=['quantile_loss'], quantile=2), 'quantile must be from 0 to 1'),
    (lambda: calculate_all([1.], [1.], metrics=['nrmse'], normalization='max'), 'unknown normalization'),
    (lambda: R.crps([[1.]], [1.]), '2 members at least'),
    (lambda: R.crps([1., 2.], [1.]), r'expected predictions \(samples, members\)'),
    (lambda: R.crps([[1., 2.]], [1., 2.]), 'predictions of 1 samples, targets of 2'),
    (lambda: R.mse([1., np.nan], [1., 1.], validate=True), 'predictions must be finite'),
    (lambda: D.mean_gamma_deviance([1.], [0.], validate=True), 'targets must be above zero'),
    (lambda: D.mean_poisson_deviance([1.], [-1.], validate=True), 'targets must be numbers from 0 on'),
    (lambda: R.mse([1., 2.], [1., 1.], weights=[1., 2., 3.]), 'weights of shape'),
])
def test_refusals(call, message):
    with pytest.raises(MetricError, match=message) as found: call()
    assert found.value.hint

def test_outside_of_the_domain_is_nan():
    for value in (D.msle([-2.], [1.]), D.mean_poisson_deviance([0.], [1.]), D.mean_gamma_deviance([1.], [0.]), D.mean_tweedie_deviance([1.], [0.], power=3), D.d2_tweedie_score([-1., 1.], [1., 2.], power=1)):
        assert np.isnan(value)
    assert float(D.mean_poisson_deviance([1.], [0.], validate=True)) == 2


# --- what is shared ---------------------------------------------------------------------------------------------------------

def test_sums_write_nothing_to_memory():
    "Mean squared and absolute error and R² read the data and hold no difference of all of it"
    p = jnp.zeros(1_000_000)
    program = jax.jit(lambda p, t: calculate_all(p, t, metrics=['mse', 'mae', 'r_squared'])).lower(p, p).compile()
    if jax.default_backend() == 'cpu': assert program.memory_analysis().temp_size_in_bytes < 1_000_000
