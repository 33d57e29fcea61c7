"Metrics: pure functions with their declarations, streaming and stateful forms, collections, wrappers and pictures; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.metrics.composition import MetricCollection as MetricCollection
    from calibrax.metrics.suites import MetricSuite as MetricSuite
    from calibrax.metrics.decisions import ThresholdMetric as ThresholdMetric, ThresholdResult as ThresholdResult
    from calibrax.metrics.decisions import WeightedMetric as WeightedMetric
    from calibrax.metrics.evaluation import calculate_all as calculate_all
    from calibrax.metrics.declarations import Decomposition as Decomposition, MetricEntry as MetricEntry, MetricInputs as MetricInputs
    from calibrax.metrics.declarations import MetricProperties as MetricProperties, MetricSignature as MetricSignature
    from calibrax.metrics.declarations import MetricTier as MetricTier
    from calibrax.metrics.reduction import reduce_values as reduce_values
    from calibrax.metrics.registry import MetricRegistry as MetricRegistry, pure_metric as pure_metric, register_metric as register_metric
    from calibrax.metrics.streaming import StreamingMetric as StreamingMetric, streaming_together as streaming_together
    from calibrax.metrics.stateful import FrozenBackboneMetric as FrozenBackboneMetric, LearnedMetric as LearnedMetric
    from calibrax.metrics.stateful import StatefulMetric as StatefulMetric, sync_processes as sync_processes
    from calibrax.metrics.plotting import MetricPlotMixin as MetricPlotMixin, plot_metric as plot_metric
    from calibrax.metrics.bootstrap import BootstrapMetric as BootstrapMetric
    from calibrax.metrics.tracking import MetricTracker as MetricTracker, MinMaxTracker as MinMaxTracker
    from calibrax.metrics.wrappers import ClasswiseWrapper as ClasswiseWrapper, Multioutput as Multioutput, Multitask as Multitask
    from calibrax.metrics.wrappers import Running as Running, TransformedMetric as TransformedMetric

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'composition': ('MetricCollection',),
    'suites': ('MetricSuite',),
    'decisions': ('ThresholdMetric', 'ThresholdResult', 'WeightedMetric'),
    'evaluation': ('calculate_all',),
    'declarations': ('Decomposition', 'MetricEntry', 'MetricInputs', 'MetricProperties', 'MetricSignature', 'MetricTier'),
    'reduction': ('reduce_values',),
    'registry': ('MetricRegistry', 'pure_metric', 'register_metric'),
    'streaming': ('StreamingMetric', 'streaming_together'),
    'stateful': ('FrozenBackboneMetric', 'LearnedMetric', 'StatefulMetric', 'sync_processes'),
    'plotting': ('MetricPlotMixin', 'plot_metric'),
    'bootstrap': ('BootstrapMetric',),
    'tracking': ('MetricTracker', 'MinMaxTracker'),
    'wrappers': ('ClasswiseWrapper', 'Multioutput', 'Multitask', 'Running', 'TransformedMetric'),
})
