"Judging runs: what changed, how sure that is, who does best, and how it grows; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.analysis.assessment import Assessment as Assessment, AssessedChange as AssessedChange, Policy as Policy, assess as assess
    from calibrax.analysis.assessment import comparable_runs as comparable_runs, plot_assessment as plot_assessment
    from calibrax.analysis.changepoint import CONFIRMED as CONFIRMED, ChangePoint as ChangePoint, ChangePoints as ChangePoints
    from calibrax.analysis.changepoint import Drift as Drift, HistoryStatus as HistoryStatus, SeriesHistory as SeriesHistory
    from calibrax.analysis.changepoint import StoreHistory as StoreHistory, analyze_trend as analyze_trend
    from calibrax.analysis.changepoint import detect_change_points as detect_change_points, plot_change_points as plot_change_points
    from calibrax.analysis.changepoint import scan_store as scan_store
    from calibrax.analysis.comparison import ComparisonReport as ComparisonReport, MetricComparison as MetricComparison
    from calibrax.analysis.comparison import compare_configurations as compare_configurations, plot_configurations as plot_configurations
    from calibrax.analysis.policies import Evidence as Evidence, centre as centre, few_runs_evidence as few_runs_evidence
    from calibrax.analysis.policies import history_evidence as history_evidence, paired_evidence as paired_evidence
    from calibrax.analysis.pareto import ParetoFront as ParetoFront, pareto_front as pareto_front, plot_pareto as plot_pareto
    from calibrax.analysis.ranking import Ranking as Ranking, aggregate_score as aggregate_score, plot_ranking as plot_ranking
    from calibrax.analysis.ranking import rank_table as rank_table, rankings as rankings
    from calibrax.analysis.regression import Change as Change, Changes as Changes, Comparison as Comparison, Regressions as Regressions
    from calibrax.analysis.regression import Verdict as Verdict, compare_runs as compare_runs, detect_regressions as detect_regressions
    from calibrax.analysis.regression import judge as judge, plot_comparison as plot_comparison
    from calibrax.analysis.scaling import LAWS as LAWS, POWER_LAW as POWER_LAW, Law as Law, ScalingFit as ScalingFit
    from calibrax.analysis.scaling import plot_scaling as plot_scaling, scaling_fit as scaling_fit

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'assessment': ('Assessment', 'AssessedChange', 'Policy', 'assess', 'comparable_runs', 'plot_assessment'),
    'changepoint': ('CONFIRMED', 'ChangePoint', 'ChangePoints', 'Drift', 'HistoryStatus', 'SeriesHistory', 'StoreHistory', 'analyze_trend',
                    'detect_change_points', 'plot_change_points', 'scan_store'),
    'comparison': ('ComparisonReport', 'MetricComparison', 'compare_configurations', 'plot_configurations'),
    'policies': ('Evidence', 'centre', 'few_runs_evidence', 'history_evidence', 'paired_evidence'),
    'pareto': ('ParetoFront', 'pareto_front', 'plot_pareto'),
    'ranking': ('Ranking', 'aggregate_score', 'plot_ranking', 'rank_table', 'rankings'),
    'regression': ('Change', 'Changes', 'Comparison', 'Regressions', 'Verdict', 'compare_runs', 'detect_regressions', 'judge',
                   'plot_comparison'),
    'scaling': ('LAWS', 'POWER_LAW', 'Law', 'ScalingFit', 'plot_scaling', 'scaling_fit'),
})
