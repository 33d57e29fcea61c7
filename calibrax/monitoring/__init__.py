"Watching what runs for long: thresholds with hysteresis, alerts, and the health of pipelines."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.monitoring.monitor import AdvancedMonitor as AdvancedMonitor, Alert as Alert, AlertList as AlertList
    from calibrax.monitoring.monitor import AlertManager as AlertManager, AlertSeverity as AlertSeverity
    from calibrax.monitoring.monitor import MetricHistorySummary as MetricHistorySummary, MonitoringSummary as MonitoringSummary
    from calibrax.monitoring.monitor import trend_of as trend_of
    from calibrax.monitoring.production import PipelineExecution as PipelineExecution, PipelineHealth as PipelineHealth
    from calibrax.monitoring.production import PipelineHealthReport as PipelineHealthReport, PipelineStats as PipelineStats
    from calibrax.monitoring.production import ProductionMonitor as ProductionMonitor

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'monitor': ('AdvancedMonitor', 'Alert', 'AlertList', 'AlertManager', 'AlertSeverity', 'MetricHistorySummary',
                'MonitoringSummary', 'trend_of'),
    'production': ('PipelineExecution', 'PipelineHealth', 'PipelineHealthReport', 'PipelineStats', 'ProductionMonitor'),
})
