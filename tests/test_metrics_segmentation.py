"""Segmentation: overlap, boundaries and panoptic quality against scikit-learn, SciPy and brute force, on ugly masks."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from calibrax.core.errors import MetricError
from calibrax.metrics.functional import boundaries as b
from calibrax.metrics.functional import segmentation as s
from calibrax.metrics.registry import MetricRegistry

sklearn_metrics = pytest.importorskip('sklearn.metrics')

nan = float('nan')


def masks(seed=0, n=3, classes=4, shape=(9, 8)):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, classes, (n, *shape))
    return np.where(rng.random(t.shape) < .4, rng.integers(0, classes, t.shape), t), t

def disc(x, y, r, shape=(40, 50)):
    rows, columns = np.mgrid[:shape[0], :shape[1]]
    return ((columns - x)**2 + (rows - y)**2 <= r**2).astype(int)


# --- known faults of the published package --------------------------------------------------------------------------------

def test_two_empty_masks_agree():
    z = np.zeros((4, 4), int)
    for f in (s.iou, s.dice_coefficient, s.tversky_index, b.boundary_f_score, b.boundary_iou):
        assert float(f(z, z)) == 1 and np.isnan(f(z, z, empty=nan)), f
    assert float(s.iou(z, z, empty=0.0)) == 0
    assert float(b.mask_hausdorff_distance(z, z)) == 0

def test_macro_iou_compiles():
    "Published: ConcretizationTypeError under jit"
    p, t = masks()
    whole = jax.jit(lambda p, t: s.iou(p, t, num_classes=4, average='macro'))(p, t)
    assert float(whole) == pytest.approx(sklearn_metrics.jaccard_score(t.ravel(), p.ravel(), average='macro'), rel=1e-6)

@pytest.mark.parametrize('f', [s.iou, s.dice_coefficient, s.pixel_accuracy, s.tversky_index, b.boundary_f_score, b.mask_hausdorff_distance])
def test_an_unknown_average_is_an_error(f):
    with pytest.raises(MetricError, match="average 'samples'") as e: f([[0, 1]], [[0, 1]], average='samples')
    assert e.value.hint

@pytest.mark.parametrize('f', [s.iou, s.dice_coefficient, s.pixel_accuracy, b.boundary_f_score, b.mask_hausdorff_distance])
@pytest.mark.parametrize('bad', [5, -1, .5, nan])
def test_a_label_of_no_class_is_never_dropped(f, bad):
    p, t = np.array([[0., 1, 1], [0, 1, 1]]), np.array([[0., 1, 1], [0, 0, bad]])
    keep = t == t.round()
    keep[1, 2] = False
    if not (f is s.pixel_accuracy and bad == 5): assert np.isnan(f(p, t))
    assert np.isfinite(f(p, t, mask=keep))
    if not (f is s.pixel_accuracy and bad == 5):
        with pytest.raises(MetricError, match='targets must be classes'): f(p, t, num_classes=2, validate=True)

def test_an_invented_class_costs():
    "Published: macro over classes of the targets only"
    assert float(s.iou([0, 2], [0, 0], average='macro')) == pytest.approx(.25)


# --- overlap -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('average', ['micro', 'macro', 'weighted', None])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('classes', [4, 6]) # two of six are absent
def test_iou_and_dice_equal_scikit_learn(average, weighted, classes):
    p, t = masks(1)
    w = np.random.default_rng(2).uniform(.5, 2, p.shape).astype(np.float32) if weighted else None
    for ours, theirs in ((s.iou, sklearn_metrics.jaccard_score), (s.dice_coefficient, sklearn_metrics.f1_score)):
        value = ours(p, t, average=average or 'none', num_classes=classes, weights=w)
        wanted = theirs(t.ravel(), p.ravel(), average=average, sample_weight=None if w is None else w.ravel())
        np.testing.assert_allclose(np.asarray(value)[..., :4] if average is None else value, wanted, rtol=1e-5)
        if average is None: assert np.isnan(value[4:]).all() and not np.asarray(ours(p, t, average='none', num_classes=classes, absent='zero', weights=w)[4:]).any()

def test_pixel_accuracy():
    p, t = masks(3)
    assert float(s.pixel_accuracy(p, t)) == pytest.approx((p == t).mean())
    np.testing.assert_allclose(s.pixel_accuracy(p, t, average='none'), sklearn_metrics.recall_score(t.ravel(), p.ravel(), average=None), rtol=1e-6)
    assert float(s.pixel_accuracy(p, t, average='macro')) == pytest.approx(sklearn_metrics.balanced_accuracy_score(t.ravel(), p.ravel()), rel=1e-6)
    assert float(s.pixel_accuracy([0, 9], [0, 0], average='macro')) == .5 # classes that targets lack have no accuracy
    assert float(jax.jit(s.pixel_accuracy)(p, t)) == pytest.approx((p == t).mean()) # no number of classes needed
    assert float(s.pixel_accuracy(p, t, num_classes=4)) == pytest.approx((p == t).mean())

def test_by_sample_is_the_mean_of_images():
    p, t = masks(4, n=5)
    p[2], t[2] = 0, 0
    alone = [float(s.mean_iou(p[i], t[i], num_classes=4)) for i in range(5)]
    assert float(s.mean_iou(p, t, num_classes=4, aggregation='sample')) == pytest.approx(np.mean(alone), rel=1e-6)
    weights = np.array([1, 0, 2, 1, 3], np.float32)
    assert float(s.mean_iou(p, t, num_classes=4, aggregation='sample', weights=weights)) == pytest.approx(np.average(alone, weights=weights), rel=1e-6)
    keep = np.random.default_rng(0).random(p.shape) < .5
    keep[3] = False # an image that is all to be ignored is no image
    alone = [sklearn_metrics.jaccard_score(t[i][keep[i]], p[i][keep[i]], average='macro') for i in (0, 1, 2, 4)]
    assert float(s.mean_iou(p, t, num_classes=4, aggregation='sample', mask=keep)) == pytest.approx(np.mean(alone), rel=1e-6)
    assert np.isnan(s.mean_iou(p, t, num_classes=5, aggregation='sample', absent='nan'))

@pytest.mark.parametrize('aggregation', ['dataset', 'sample'])
@pytest.mark.parametrize('f,finalize', [(s.mean_iou, s._mean_iou), (s.generalized_dice, s._generalized_dice), (s.frequency_weighted_iou, s._frequency_weighted_iou)])
def test_any_split_gives_the_same(aggregation, f, finalize):
    p, t = masks(5, n=7)
    whole = float(f(p, t, num_classes=4, aggregation=aggregation))
    for cuts in ((1,), (3, 4), (1, 2, 3, 4, 5, 6)):
        parts = [s.overlap_counts(p[i:j], t[i:j], num_classes=4, aggregation=aggregation) for i, j in itertools.pairwise((0, *cuts, 7))]
        counts = parts[0]
        for part in parts[1:]: counts = s.merge_counts(counts, part)
        assert float(finalize(counts)) == pytest.approx(whole, rel=1e-6)

@pytest.mark.parametrize('weighting,power', [('square', 2), ('simple', 1), ('linear', 0)])
def test_generalized_dice(weighting, power):
    p, t = masks(6)
    i, ps, ts = (np.array([((p == c) & (t == c)).sum() for c in range(4)]), np.bincount(p.ravel(), minlength=4), np.bincount(t.ravel(), minlength=4))
    w = 1/ts.astype(float)**power
    assert float(s.generalized_dice(p, t, weighting=weighting)) == pytest.approx(2*(w*i).sum()/(w*(ps + ts)).sum(), rel=1e-6)
    w[0] = 0
    assert float(s.generalized_dice(p, t, weighting=weighting, include_background=False)) == pytest.approx(2*(w*i).sum()/(w*(ps + ts)).sum(), rel=1e-6)

def test_generalized_dice_of_a_class_that_targets_lack():
    value = s.generalized_dice([0, 0, 1, 2], [0, 0, 1, 1], num_classes=3) # weights 1/4, 1/4, and 1/4 for the invented one
    assert float(value) == pytest.approx(2*(2/4 + 1/4)/((4 + 3 + 1)/4))
    one = s.generalized_dice(np.stack([[0, 0, 1, 2], [2, 2, 2, 2]]), np.stack([[0, 0, 1, 1], [2, 2, 2, 2]]), num_classes=3, aggregation='sample')
    assert float(one) == pytest.approx((float(value) + 1)/2) # whatever else is in the batch

def test_tversky_is_iou_and_dice():
    p, t = masks(7, classes=2)
    assert float(s.tversky_index(p, t, alpha=1, beta=1)) == pytest.approx(float(s.iou(p, t)), rel=1e-6)
    assert float(s.tversky_index(p, t, alpha=.5, beta=.5)) == pytest.approx(float(s.dice_coefficient(p, t)), rel=1e-6)

@pytest.mark.parametrize('shape', [(), (1,), (7,), (2, 3, 4, 5)])
def test_masks_of_any_shape(shape):
    p, t = np.ones(shape, bool), np.ones(shape, np.uint8)
    for aggregation in ('dataset', 'sample'): assert float(s.iou(p, t, aggregation=aggregation)) == float(s.dice_coefficient(p, t, aggregation=aggregation)) == 1

def test_nothing_at_all():
    e = np.zeros((0, 4, 4), int)
    assert float(s.iou(e, e)) == 1 and np.isnan(s.pixel_accuracy(e, e)) and np.isnan(s.mean_iou(e, e)) and np.isnan(s.iou(e, e, aggregation='sample'))
    assert np.isnan(b.mask_hausdorff_distance(e, e)) and float(b.boundary_f_score(e, e)) == 1 and np.isnan(b.boundary_f_score(e, e, aggregation='sample'))

def test_a_million_pixels():
    rng = np.random.default_rng(8)
    t = rng.integers(0, 19, (4, 500, 500))
    p = np.where(rng.random(t.shape) < .8, t, rng.integers(0, 19, t.shape))
    assert float(s.mean_iou(p, t)) == pytest.approx(sklearn_metrics.jaccard_score(t.ravel(), p.ravel(), average='macro'), rel=1e-6)
    w = rng.random(t.shape).astype(np.float32)
    assert float(s.mean_iou(p, t, weights=w)) == pytest.approx(sklearn_metrics.jaccard_score(t.ravel(), p.ravel(), average='macro', sample_weight=w.ravel()), rel=1e-5)


# --- losses --------------------------------------------------------------------------------------------------------------

def test_losses_of_hard_masks_are_overlap():
    p, t = masks(9, classes=2)
    assert float(s.soft_dice_loss(p.astype(float), t, smooth=0)) == pytest.approx(1 - float(s.dice_coefficient(p, t)), rel=1e-6)
    assert float(s.soft_dice_loss(p.astype(float), t, smooth=0, squared=True)) == pytest.approx(1 - float(s.dice_coefficient(p, t)), rel=1e-6)
    assert float(s.tversky_loss(p.astype(float), t, smooth=0)) == pytest.approx(1 - float(s.tversky_index(p, t)), rel=1e-6)
    assert float(s.soft_dice_loss(p.astype(float), t, smooth=0, aggregation='sample')) == pytest.approx(1 - float(s.dice_coefficient(p, t, aggregation='sample')), rel=1e-6)
    p, t = masks(10)
    p, t = np.eye(4)[p], np.eye(4)[t]
    wanted = 1 - np.mean([sklearn_metrics.f1_score(t[..., c].ravel(), p[..., c].ravel()) for c in range(4)])
    assert float(s.soft_dice_loss(p, t, smooth=0, class_axis=-1)) == pytest.approx(wanted, rel=1e-5)
    first = s.soft_dice_loss(np.moveaxis(p, -1, 1), np.moveaxis(t, -1, 1), smooth=0, class_axis=1, aggregation='sample')
    assert float(first) == pytest.approx(float(s.soft_dice_loss(p, t, smooth=0, class_axis=-1, aggregation='sample')), rel=1e-6)

@pytest.mark.parametrize('loss', [s.soft_dice_loss, s.tversky_loss, s.focal_loss])
@pytest.mark.parametrize('value', [0., 1.])
@pytest.mark.parametrize('smooth', [0., 1.])
def test_gradients_of_losses_are_finite_at_the_ends(loss, value, smooth):
    more = {} if loss is s.focal_loss else {'smooth': smooth}
    for target in (0., 1.):
        g = jax.grad(lambda p: loss(p, jnp.full((2, 3), target), **more))(jnp.full((2, 3), value))
        assert np.isfinite(g).all()

def test_focal_loss_is_cross_entropy_at_gamma_0():
    p, t = np.array([.1, .7, .9]), np.array([0, 1, 1])
    assert float(s.focal_loss(p, t, gamma=0, alpha=None)) == pytest.approx(sklearn_metrics.log_loss(t, p), rel=1e-6)

def test_learning_a_mask():
    t, x = disc(20, 20, 6), jnp.zeros((40, 50))
    step = jax.jit(lambda x: x - 200*jax.grad(lambda x: s.soft_dice_loss(jax.nn.sigmoid(x), t))(x))
    for _ in range(30): x = step(x)
    assert float(s.iou(x > 0, t)) == 1


# --- distances and boundaries --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('spacing', [None, .5, (2., .25)])
def test_distances_equal_scipy(spacing):
    rng = np.random.default_rng(11)
    for density in (.002, .05, .9):
        m = rng.random((60, 45)) < density
        m[3, 4] = True
        np.testing.assert_allclose(b.distance_to_mask(m, spacing=spacing), scipy.ndimage.distance_transform_edt(~m, sampling=spacing), rtol=1e-5)

def test_distances_of_volumes_and_batches():
    m = np.random.default_rng(12).random((2, 12, 9, 10)) < .01
    m[:, 0, 0, 0] = True
    wanted = np.stack([scipy.ndimage.distance_transform_edt(~x, sampling=(3, 1, 2)) for x in m])
    np.testing.assert_allclose(b.distance_to_mask(m, spacing=(3, 1, 2), spatial_axes=3), wanted, rtol=1e-5)

def test_distances_in_parts(monkeypatch):
    "Images that do not fit side by side are worked on one after the other, and nothing changes"
    m = np.random.default_rng(13).random((5, 11, 13)) < .1
    m[:, 0, 0] = True
    whole = b.distance_to_mask(m)
    monkeypatch.setattr(b, '_AT_ONCE', 300)
    np.testing.assert_array_equal(jax.jit(lambda m: b.distance_to_mask.compiled.function(m))(m), whole)

def outline(m): return m ^ scipy.ndimage.binary_erosion(m)

def brute(p, t, spacing=None):
    "Distances between the outlines, each way"
    p, t = outline(p), outline(t)
    return scipy.ndimage.distance_transform_edt(~t, sampling=spacing)[p], scipy.ndimage.distance_transform_edt(~p, sampling=spacing)[t]

@pytest.mark.parametrize('percentile,spacing', [(None, None), (95, (1.5, .5)), (33.3, None), (0, None), (50, None), (100, (1.5, .5))])
def test_hausdorff_equals_scipy(spacing, percentile):
    pairs = [(disc(20, 20, 8), disc(25, 18, 7)), (disc(3, 3, 6), disc(40, 30, 1)), (disc(20, 20, 0), disc(20, 20, 15)), (masks(14, 1, 2, (40, 50))[0][0], masks(15, 1, 2, (40, 50))[0][0])]
    p, t = (np.stack(x) for x in zip(*pairs))
    wanted = [max(np.percentile(d, 100 if percentile is None else percentile) for d in brute(*map(np.bool_, pair), spacing)) for pair in pairs]
    if percentile == 33.3:
        for pair, value in zip(pairs, wanted): assert float(b.mask_hausdorff_distance(*pair, percentile=percentile, spacing=spacing)) == pytest.approx(value, rel=1e-5)
    assert float(b.mask_hausdorff_distance(p, t, percentile=percentile, spacing=spacing)) == pytest.approx(np.mean(wanted), rel=1e-5)
    if percentile == 95: assert float(b.hausdorff_95(p, t, spacing=spacing)) == pytest.approx(np.mean(wanted), rel=1e-5)
    mean = np.mean([np.concatenate(brute(*map(np.bool_, pair), spacing)).mean() for pair in pairs])
    if percentile == 95: assert float(b.average_symmetric_surface_distance(p, t, spacing=spacing)) == pytest.approx(mean, rel=1e-5)

def test_hausdorff_of_what_is_missing():
    z, d = np.zeros((40, 50), int), disc(20, 20, 5)
    assert float(b.mask_hausdorff_distance(z, d)) == float(b.hausdorff_95(d, z)) == np.inf
    p, t = np.stack((z, d, z)), np.stack((d, disc(23, 20, 5), z))
    assert float(b.mask_hausdorff_distance(p, t, missing=64.)) == pytest.approx((64 + 3 + 0)/3)
    assert float(b.mask_hausdorff_distance(p, t, missing=nan, empty=nan)) == pytest.approx(3)
    assert float(b.mask_hausdorff_distance(p, t, missing=64., weights=[1, 2, 0])) == pytest.approx((64 + 6)/3)

def test_volumes_and_classes():
    p, t = masks(16, 2, 3, (7, 8, 9))
    by_class = np.mean([[max(d.max() for d in brute(p[i] == c, t[i] == c)) for c in range(3)] for i in range(2)], axis=0)
    np.testing.assert_allclose(b.mask_hausdorff_distance(p, t, spatial_axes=3, average='none', include_background=True), by_class, rtol=1e-5)
    assert float(b.mask_hausdorff_distance(p, t, spatial_axes=3, average='macro')) == pytest.approx(by_class[1:].mean(), rel=1e-5)
    values = b.boundary_f_score(p, t, spatial_axes=3, average='none', tolerance=1, num_classes=4)
    assert np.isnan(values[-1]) and np.isfinite(values[:-1]).all()

def test_boundary_scores_by_image():
    pairs = [(disc(20, 20, 8), disc(22, 20, 8)), (disc(20, 20, 8), disc(20, 20, 11))]
    p, t = (np.stack(x) for x in zip(*pairs))
    f, surface = [], []
    for pair in pairs:
        a, c = brute(*map(np.bool_, pair))
        precision, recall = (a <= 1.5).mean(), (c <= 1.5).mean()
        f.append(2*precision*recall/(precision + recall) if precision + recall else 0)
        surface.append(((a <= 1.5).sum() + (c <= 1.5).sum())/(len(a) + len(c)))
    assert float(b.boundary_f_score(p, t, tolerance=1.5, aggregation='sample')) == pytest.approx(np.mean(f), rel=1e-6)
    assert float(b.normalized_surface_dice(p, t, tolerance=1.5, aggregation='sample')) == pytest.approx(np.mean(surface), rel=1e-6)
    assert float(b.boundary_f_score(p[0], np.zeros_like(t[0]))) == 0

def test_ignored_pixels_make_no_boundary():
    "A mask that goes on beneath a region to be ignored has no outline along it"
    p = t = np.zeros((20, 20), int)
    t = t.copy()
    t[5:15, :] = 1
    p = t.copy()
    keep = np.ones((20, 20), bool)
    keep[:, 10:] = False
    p[:, 10:] = 7 # anything
    assert float(b.mask_hausdorff_distance(p, t, mask=keep)) == 0
    alone = b._boundary(jnp.asarray(t == 1), jnp.asarray(keep), 2)
    assert not alone[7:13, 1:].any() and alone[5, :10].all() and not alone[:, 10:].any()

def test_boundary_errors():
    d = disc(20, 20, 5)
    for call, text in ((lambda: b.boundary_f_score(d, d, tolerance=-1), 'tolerance'), (lambda: b.boundary_iou(d, d, width='2'), 'width'), (lambda: b.mask_hausdorff_distance(d, d, percentile=200), 'percentile'),
                       (lambda: b.mask_hausdorff_distance(d, d, spacing=(1, 1, 1)), 'spacing'), (lambda: b.mask_hausdorff_distance(d, d, spatial_axes=3), 'axes of space'),
                       (lambda: b.mask_hausdorff_distance(d, d[1:]), 'Shape mismatch'), (lambda: b.mask_hausdorff_distance(d, d, weights=np.ones(40)), 'whole images'),
                       (lambda: s.mean_iou(d, d, num_classes=1), 'num_classes'), (lambda: jax.jit(s.mean_iou)(d, d), 'num_classes'), (lambda: s.iou(d, d, aggregation='batch'), 'aggregation')):
        with pytest.raises(MetricError, match=text) as e: call()
        assert e.value.hint


# --- panoptic quality ----------------------------------------------------------------------------------------------------

def brute_panoptic(p, t, things, stuffs, void=None):
    "Kirillov et al. (2019), segment by segment"
    rows = {c: [0., 0, 0, 0] for c in (*things, *stuffs)}
    for p_, t_ in zip(p, t):
        seg = [{(c, o if c in things else 0): (x[..., 0] == c) & ((x[..., 1] == o) | (c in stuffs)) for c, o in map(tuple, x.reshape(-1, 2)) if c != void} for x in (p_, t_)]
        hidden = t_[..., 0] == void if void is not None else np.zeros(t_.shape[:-1], bool)
        matched = [set(), set()]
        for (a, x), (c, y) in itertools.product(seg[0].items(), seg[1].items()):
            if a[0] == c[0] and (overlap := (x & y).sum()/((x & ~hidden) | y).sum()) > .5:
                rows[a[0]][0] += overlap; rows[a[0]][1] += 1; matched[0].add(a); matched[1].add(c)
        for a, x in seg[0].items(): rows[a[0]][2] += a not in matched[0] and (x & hidden).sum() <= .5*x.sum()
        for c in seg[1]: rows[c[0]][3] += c not in matched[1]
    return np.array([(i/(n + fp/2 + fn/2), i/n if n else 0, n/(n + fp/2 + fn/2)) if n + fp + fn else (nan,)*3 for i, n, fp, fn in rows.values()]).T

def scenes(seed, n=4):
    rng = np.random.default_rng(seed)
    t = np.stack((rng.integers(0, 5, (n, 4, 5)), rng.integers(0, 3, (n, 4, 5))), -1).repeat(3, 1).repeat(3, 2)
    noise = np.stack((rng.integers(0, 5, (n, 12, 15)), rng.integers(0, 3, (n, 12, 15))), -1)
    return np.where(rng.random((n, 12, 15, 1)) < .25, noise, t), t

@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('things,stuffs,void', [((1, 2), (0, 3, 4), None), ((4, 1), (2, 3), 0)])
def test_panoptic_quality_by_brute_force(seed, things, stuffs, void):
    p, t = scenes(seed)
    wanted = brute_panoptic(p, t, things, stuffs, void)
    for f, row in zip((b.panoptic_quality, b.segmentation_quality, b.recognition_quality), wanted):
        np.testing.assert_allclose(f(p, t, things=things, stuffs=stuffs, void=void, average='none'), row, rtol=1e-5)
    assert float(b.panoptic_quality(p, t, things=things, stuffs=stuffs, void=void)) == pytest.approx(np.nanmean(wanted[0]), rel=1e-5)

def test_panoptic_quality_under_jit_and_in_parts():
    p, t = scenes(5)
    static = {'things': (1, 2), 'stuffs': (0, 3, 4), 'max_instances': 3}
    whole = b.panoptic_quality(p, t, **static)
    assert float(jax.jit(lambda p, t: b.panoptic_quality(p, t, **static))(p, t)) == pytest.approx(float(whole))
    parts = [b.panoptic_matches(p[i:i + 1], t[i:i + 1], **static) for i in range(4)]
    assert float(b._panoptic(jax.tree.map(lambda *x: sum(x), *parts))) == pytest.approx(float(whole), rel=1e-6)

def test_exactly_half_is_no_match():
    t = np.zeros((2, 6, 2), int)
    t[..., 0] = 1
    p = t.copy()
    p[:, 3:, 1] = 1 # two halves: the IoU of each is ½
    assert float(b.panoptic_quality(p, t, things=(1,))) == 0
    p[0, 3, 1] = 0
    assert float(b.panoptic_quality(p, t, things=(1,))) == pytest.approx((7/12)/1.5)

def test_panoptic_errors():
    p, t = scenes(6)
    for more, text in (({'things': (1,), 'stuffs': (1,)}, 'different classes'), ({'things': ()}, 'one at least'), ({'things': (-1,)}, 'classes from 0 on'), ({'things': (1,), 'max_instances': 0}, 'max_instances')):
        with pytest.raises(MetricError, match=text): b.panoptic_quality(p, t, **more)
    with pytest.raises(MetricError, match='no pairs of class and object'): b.panoptic_quality(p[..., 0], t[..., 0], things=(1,))
    assert np.isnan(b.panoptic_quality(p, t, things=(1, 2), stuffs=(3, 4))) # class 0 is neither
    assert np.isnan(b.panoptic_quality(p, t, things=(1, 2), stuffs=(0, 3, 4), max_instances=2)) # object 2 is not counted


def test_names_leave_room_for_point_sets():
    "`hausdorff_distance` is that of point sets, of another domain"
    assert MetricRegistry().get('mask_hausdorff_distance').domain == 'segmentation'
    assert {e.name for e in MetricRegistry().list_by_domain('segmentation')} >= {'iou', 'dice_coefficient', 'pixel_accuracy', 'mean_iou', 'hausdorff_95', 'panoptic_quality'}
