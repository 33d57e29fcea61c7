"""Molecules: bonds, angles, affinities, superposition and diversity, against sums in double precision and SciPy's rotations."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calibrax.core.errors import MetricError
from calibrax.metrics.plugins import scientific as S
from metric_inputs import double_precision

Rotation = pytest.importorskip('scipy.spatial.transform').Rotation

def cloud(n=40, seed=0, scale=5): return np.random.default_rng(seed).normal(0, scale, (n, 3))
def close(a, b, rtol=1e-5, atol=1e-6): np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=rtol, atol=atol)


# --- as published ---------------------------------------------------------------------------------------------------------

def test_published_behaviour():
    lengths, angles = jnp.array([1., 1., 3., 1.]), jnp.array([2., 9.])
    close(S.chemical_validity(lengths, angles), 4/6)
    close(S.chemical_validity(lengths, angles, length_thresholds=(.5, 3.), angle_thresholds=(1., 10.)), 1)
    close(S.chemical_validity(lengths, jnp.array([])), .75)
    got = S.binding_affinity_metrics(jnp.array([1., 2, 3.5]), jnp.array([1., 2, 3]))
    assert list(got) == ['binding_mse', 'binding_mae', 'binding_r_squared', 'binding_pearson']
    close([float(v) for v in got.values()], [.08333334, .16666667, .875, .9933993])
    close(S.conformational_diversity(jnp.arange(24.).reshape(2, 4, 3)**1.5), 104.234634)
    assert S.conformational_diversity(jnp.ones((1, 4, 3))) == 0


# --- bonds and angles -----------------------------------------------------------------------------------------------------

def test_angles_are_exact_near_a_line():
    "The arc cosine of a float32 cosine is off by 3e-4 here"
    for angle in (1e-4, np.pi - 1e-4, np.pi/2):
        got = S.bond_angles([[np.cos(angle), np.sin(angle), 0], [0, 0, 0], [1, 0, 0]], [[0, 1, 2]])
        close(got, [angle], rtol=1e-6)

def test_lengths_and_angles_of_a_batch():
    x = np.stack([cloud(seed=s) for s in range(3)]).astype(np.float32)
    bonds, corners = np.array([[0, 1], [4, 2]]), np.array([[0, 1, 2], [5, 3, 4]])
    close(S.bond_lengths(x, bonds), np.linalg.norm(x[:, bonds[:, 0]].astype(float) - x[:, bonds[:, 1]], axis=-1))
    u, v = (x[:, corners[:, i]].astype(float) - x[:, corners[:, 1]] for i in (0, 2))
    close(S.bond_angles(x, corners), np.arccos((u*v).sum(-1)/np.linalg.norm(u, axis=-1)/np.linalg.norm(v, axis=-1)))
    close(jax.vmap(lambda y: S.bond_lengths(y, bonds))(x), S.bond_lengths(x, bonds))

def test_a_missing_atom_is_nan_and_spoils_the_share():
    lengths = S.bond_lengths(cloud(3), [[0, 1], [1, 7]])
    assert np.isnan(lengths).tolist() == [False, True] and np.isnan(S.chemical_validity(lengths, []))
    assert not np.isnan(S.chemical_validity(lengths, [], length_mask=[True, False]))

def test_padding_changes_nothing():
    lengths, angles = np.float32([1.5, 2.5, 1.1]), np.float32([2., .4])
    padded = S.chemical_validity(np.append(lengths, [0, np.nan]), np.append(angles, np.inf), length_mask=[1, 1, 1, 0, 0], angle_mask=[1, 1, 0])
    assert padded == S.chemical_validity(lengths, angles)

@pytest.mark.parametrize('arguments, words', [(dict(length_thresholds=(2., 1.)), 'length_thresholds'), (dict(angle_thresholds=(1.,)), 'angle_thresholds'), (dict(length_mask=[True]*3), 'length_mask')])
def test_validity_says_what_is_wrong(arguments, words):
    with pytest.raises(MetricError, match=words): S.chemical_validity([1., 2.], [2.], **arguments)


# --- affinities -----------------------------------------------------------------------------------------------------------

def test_affinities_on_ugly_input():
    rng = np.random.default_rng(0)
    t = rng.normal(6, 1, 300); p = t + rng.normal(0, .5, 300)
    for offset in (0, 1e4):
        a, b = (p + offset).astype(np.float32), (t + offset).astype(np.float32)
        got, a, b = S.binding_affinity_metrics(a, b), a.astype(float), b.astype(float)
        close(got['binding_r_squared'], 1 - ((a - b)**2).sum()/((b - b.mean())**2).sum(), rtol=1e-4)
        close(got['binding_pearson'], np.corrcoef(a, b)[0, 1], rtol=1e-4)
    flat = S.binding_affinity_metrics([1., 2.], [3., 3.])
    assert all(np.isfinite(v) for v in flat.values()) and abs(flat['binding_r_squared']) <= 1
    one = S.binding_affinity_metrics([1.], [1.])
    assert one['binding_mse'] == 0 and one['binding_r_squared'] == 1 and one['binding_pearson'] == 0

def test_affinities_under_jit_with_mask_and_weights():
    p, t = np.float32([1, 2, 3, np.nan]), np.float32([1, 3, 2, 1])
    close(jax.jit(S.binding_affinity_metrics)(p, t, mask=np.array([1, 1, 1, 0]), weights=np.float32([1, 2, 1, 5]))['binding_mse'], 3/4)


# --- superposition --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('weighted', [False, True])
def test_rotation_is_that_of_scipy(weighted):
    a, b = cloud(seed=1), cloud(seed=2)
    w = np.random.default_rng(3).uniform(.1, 5, len(a)) if weighted else np.ones(len(a))
    ca, cb = a - np.average(a, axis=0, weights=w), b - np.average(b, axis=0, weights=w)
    wanted, _ = Rotation.align_vectors(cb, ca, weights=w)
    close(S.kabsch_rotation(a, b, atom_weights=w), wanted.as_matrix(), atol=2e-5)
    rest = np.sqrt((w*((ca @ wanted.as_matrix().T - cb)**2).sum(-1)).sum()/w.sum())
    close(S.aligned_rmsd(a, b, atom_weights=w), rest)

def test_the_same_shape_has_no_deviation():
    "From singular values alone, float32 finds 5e-3 Å"
    a = cloud(800, scale=20)
    b = Rotation.random(random_state=0).apply(a) + [30, -20, 10]
    assert S.aligned_rmsd(a, b) < 5e-5

def test_a_mirror_image_is_another_shape():
    a = cloud(20)
    assert S.aligned_rmsd(a, a*[-1, 1, 1]) > .5 and np.linalg.det(S.kabsch_rotation(a, a*[-1, 1, 1])) > .999

def test_gradient_is_that_of_the_smallest_deviation():
    "The rotation is held fixed, and finite differences, in which it moves, agree"
    with double_precision():
        a, b, step = cloud(6, 1), cloud(6, 2), 1e-5
        got = np.asarray(jax.grad(lambda x: S.aligned_rmsd(x, b))(jnp.asarray(a)))
        for i, j in ((0, 0), (3, 2)):
            d = np.zeros_like(a); d[i, j] = step
            close(got[i, j], (float(S.aligned_rmsd(a + d, b)) - float(S.aligned_rmsd(a - d, b)))/(2*step), rtol=1e-4)


# --- diversity ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('align', [False, True])
def test_diversity_is_the_mean_over_pairs(align):
    x = np.stack([Rotation.random(random_state=s).apply(cloud(15, seed=s % 3)) for s in range(7)])
    def rmsd(a, b):
        if align:
            a, b = a - a.mean(0), b - b.mean(0)
            a = Rotation.align_vectors(b, a)[0].apply(a)
        return np.sqrt(((a - b)**2).sum(-1).mean())
    table = np.array([[rmsd(a, b) for b in x] for a in x])
    close(S.pairwise_rmsd(x, align=align), table, atol=2e-5)
    close(S.conformational_diversity(x, align=align), table[np.triu_indices(7, 1)].mean())
    close(jax.jit(lambda v: S.conformational_diversity(v, align=align))(np.float32(x)), table[np.triu_indices(7, 1)].mean())

def test_two_equal_conformations_far_from_the_origin():
    x = np.float32(cloud(30))
    assert S.conformational_diversity(np.stack([x + np.float32(1e4)]*3)) == 0
    assert S.conformational_diversity(np.stack([x, x])) == 0 and np.isfinite(jax.grad(S.conformational_diversity)(np.stack([x, x]))).all()

def test_half_precision_and_masks():
    x = np.stack([cloud(10, seed=s) for s in range(4)]).astype(np.float16)
    close(S.conformational_diversity(x), S.conformational_diversity(x.astype(np.float32)))
    holed = np.concatenate([x.astype(np.float32), np.full((2, 10, 3), np.nan, np.float32)])
    close(S.conformational_diversity(holed, mask=[1, 1, 1, 1, 0, 0]), S.conformational_diversity(x))
    assert np.isnan(S.conformational_diversity(holed)) and S.conformational_diversity(holed, mask=[1, 0, 0, 0, 0, 0]) == 0

@pytest.mark.parametrize('call, words', [(lambda: S.conformational_diversity(np.ones((4, 3))), 'conformations'), (lambda: S.conformational_diversity(np.ones((2, 4, 2))), 'points in space'),
                                         (lambda: S.conformational_diversity(np.ones((2, 4, 3)), atom_weights=[1.]), 'atom_weights'), (lambda: S.bond_angles(np.ones((4, 3)), [[0, 1]]), 'angles')])
def test_shapes_are_checked(call, words):
    with pytest.raises(MetricError, match=words): call()
