"Records, errors and everything else that the rest of calibrax stands on; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.core.models import Metric as Metric, MetricDef as MetricDef, MetricDirection as MetricDirection
    from calibrax.core.models import MetricPriority as MetricPriority, Point as Point, RankEntry as RankEntry, Regression as Regression
    from calibrax.core.models import Run as Run, ScalingLaw as ScalingLaw, SignificanceResult as SignificanceResult
    from calibrax.core.models import TrendPoint as TrendPoint, TrendSeries as TrendSeries
    from calibrax.core.models import extract_framework_metrics as extract_framework_metrics, is_higher_better as is_higher_better
    from calibrax.core.record_values import Metadata as Metadata, MetadataValue as MetadataValue, SupportsItem as SupportsItem
    from calibrax.core.record_values import read_metadata as read_metadata, read_metadata_entry as read_metadata_entry
    from calibrax.core.result import BenchmarkResult as BenchmarkResult

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'models': ('Metric', 'MetricDef', 'MetricDirection', 'MetricPriority', 'Point', 'RankEntry', 'Regression', 'Run', 'ScalingLaw',
               'SignificanceResult', 'TrendPoint', 'TrendSeries', 'extract_framework_metrics', 'is_higher_better'),
    'record_values': ('Metadata', 'MetadataValue', 'SupportsItem', 'read_metadata', 'read_metadata_entry'),
    'result': ('BenchmarkResult',),
})
