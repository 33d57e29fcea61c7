"Judging runs: what changed between two of them, and who does best in one; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.analysis.ranking import Ranking as Ranking, aggregate_score as aggregate_score, plot_ranking as plot_ranking
    from calibrax.analysis.ranking import rank_table as rank_table
    from calibrax.analysis.regression import Change as Change, Changes as Changes, Comparison as Comparison, Regressions as Regressions
    from calibrax.analysis.regression import Verdict as Verdict, compare_runs as compare_runs, detect_regressions as detect_regressions
    from calibrax.analysis.regression import judge as judge, plot_comparison as plot_comparison

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'ranking': ('Ranking', 'aggregate_score', 'plot_ranking', 'rank_table'),
    'regression': ('Change', 'Changes', 'Comparison', 'Regressions', 'Verdict', 'compare_runs', 'detect_regressions', 'judge', 'plot_comparison'),
})
