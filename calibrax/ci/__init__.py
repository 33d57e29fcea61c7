"The gate for continuous integration, its reports, and measuring commits; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.ci.ancestry import Ancestor as Ancestor, GitNotFoundError as GitNotFoundError
    from calibrax.ci.ancestry import nearest_measured_ancestor as nearest_measured_ancestor
    from calibrax.ci.bisection import BisectionEngine as BisectionEngine, BisectionResult as BisectionResult, BisectionSkip as BisectionSkip
    from calibrax.ci.bisection import CommitVerdict as CommitVerdict, bisect_command as bisect_command, plot_bisection as plot_bisection
    from calibrax.ci.commits import CommitComparison as CommitComparison, CommitRound as CommitRound, Worktree as Worktree
    from calibrax.ci.commits import compare_commits as compare_commits, plot_rounds as plot_rounds, worktree as worktree
    from calibrax.ci.guard import CIGuard as CIGuard, GuardResult as GuardResult
    from calibrax.ci.measuring import Workload as Workload
    from calibrax.ci.noise import MetricNoise as MetricNoise, NoiseReport as NoiseReport, measure_noise as measure_noise
    from calibrax.ci.noise import noise_report as noise_report, plot_noise as plot_noise
    from calibrax.ci.report import to_json as to_json, to_junit as to_junit, to_markdown as to_markdown, to_text as to_text

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'ancestry': ('Ancestor', 'GitNotFoundError', 'nearest_measured_ancestor'),
    'bisection': ('BisectionEngine', 'BisectionResult', 'BisectionSkip', 'CommitVerdict', 'bisect_command', 'plot_bisection'),
    'commits': ('CommitComparison', 'CommitRound', 'Worktree', 'compare_commits', 'plot_rounds', 'worktree'),
    'guard': ('CIGuard', 'GuardResult'),
    'measuring': ('Workload',),
    'noise': ('MetricNoise', 'NoiseReport', 'measure_noise', 'noise_report', 'plot_noise'),
    'report': ('to_json', 'to_junit', 'to_markdown', 'to_text'),
})
