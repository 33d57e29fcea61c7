"Summaries, intervals, tests and the sizes of effects, in NumPy float64; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.statistics.analyzer import BOOTSTRAP_CI_ALPHA as BOOTSTRAP_CI_ALPHA, StatisticalAnalyzer as StatisticalAnalyzer
    from calibrax.statistics.analyzer import StatisticalResult as StatisticalResult
    from calibrax.statistics.bootstrap import DEFAULT_RESAMPLES as DEFAULT_RESAMPLES, BootstrapInterval as BootstrapInterval
    from calibrax.statistics.bootstrap import bootstrap_interval as bootstrap_interval
    from calibrax.statistics.corrections import benjamini_hochberg as benjamini_hochberg, holm as holm
    from calibrax.statistics.effects import EffectInterval as EffectInterval, cliffs_delta as cliffs_delta, cohen_d as cohen_d
    from calibrax.statistics.effects import hedges_g as hedges_g, hodges_lehmann as hodges_lehmann, ratio_interval as ratio_interval
    from calibrax.statistics.power import detectable_change as detectable_change, required_samples as required_samples
    from calibrax.statistics.segmentation import Level as Level, Ramp as Ramp, Segmentation as Segmentation, Step as Step, level as level
    from calibrax.statistics.segmentation import normal_scores as normal_scores, segment as segment
    from calibrax.statistics.significance import effect_size as effect_size, mann_whitney_u as mann_whitney_u
    from calibrax.statistics.significance import paired_significance_test as paired_significance_test, permutation_test as permutation_test
    from calibrax.statistics.significance import welch_t_test as welch_t_test, wilcoxon as wilcoxon
    from calibrax.statistics.summary import OUTLIER_Z_THRESHOLD as OUTLIER_Z_THRESHOLD, STABILITY_CV_THRESHOLD as STABILITY_CV_THRESHOLD
    from calibrax.statistics.summary import SampleSummary as SampleSummary, Samples as Samples, outlier_mask as outlier_mask
    from calibrax.statistics.summary import summarize as summarize

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'analyzer': ('BOOTSTRAP_CI_ALPHA', 'StatisticalAnalyzer', 'StatisticalResult'),
    'bootstrap': ('DEFAULT_RESAMPLES', 'BootstrapInterval', 'bootstrap_interval'),
    'corrections': ('benjamini_hochberg', 'holm'),
    'effects': ('EffectInterval', 'cliffs_delta', 'cohen_d', 'hedges_g', 'hodges_lehmann', 'ratio_interval'),
    'power': ('detectable_change', 'required_samples'),
    'segmentation': ('Level', 'Ramp', 'Segmentation', 'Step', 'level', 'normal_scores', 'segment'),
    'significance': ('effect_size', 'mann_whitney_u', 'paired_significance_test', 'permutation_test', 'welch_t_test', 'wilcoxon'),
    'summary': ('OUTLIER_Z_THRESHOLD', 'STABILITY_CV_THRESHOLD', 'SampleSummary', 'Samples', 'outlier_mask', 'summarize'),
})
