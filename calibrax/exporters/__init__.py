"Ways out of the store: W&B, MLflow, tables and figures for papers, a report, and the formats of other tools; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.exporters.base import Exporter as Exporter, ExportSettings as ExportSettings, get_exporter as get_exporter
    from calibrax.exporters.base import list_exporters as list_exporters, store_settings as store_settings
    from calibrax.exporters.plots import PlotGenerator as PlotGenerator
    from calibrax.exporters.publication import PublicationGenerator as PublicationGenerator
    from calibrax.exporters.report import Report as Report, make_report as make_report, write_report as write_report
    from calibrax.exporters.tables import ComparisonTable as ComparisonTable, comparison as comparison

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'base': ('Exporter', 'ExportSettings', 'get_exporter', 'list_exporters', 'store_settings'),
    'plots': ('PlotGenerator',),
    'publication': ('PublicationGenerator',),
    'report': ('Report', 'make_report', 'write_report'),
    'tables': ('ComparisonTable', 'comparison'),
})
