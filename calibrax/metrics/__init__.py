"Metrics: pure functions with their declarations, the registry, and many of them in one program; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.metrics.composition import MetricCollection as MetricCollection, calculate_all as calculate_all
    from calibrax.metrics.declarations import Decomposition as Decomposition, MetricEntry as MetricEntry, MetricInputs as MetricInputs
    from calibrax.metrics.declarations import MetricProperties as MetricProperties, MetricSignature as MetricSignature
    from calibrax.metrics.declarations import MetricTier as MetricTier
    from calibrax.metrics.reduction import reduce_values as reduce_values
    from calibrax.metrics.registry import MetricRegistry as MetricRegistry, pure_metric as pure_metric, register_metric as register_metric

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'composition': ('MetricCollection', 'calculate_all'),
    'declarations': ('Decomposition', 'MetricEntry', 'MetricInputs', 'MetricProperties', 'MetricSignature', 'MetricTier'),
    'reduction': ('reduce_values',),
    'registry': ('MetricRegistry', 'pure_metric', 'register_metric'),
})
