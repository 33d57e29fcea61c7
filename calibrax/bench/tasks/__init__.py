"What is asked of models: the tasks that come with calibrax, and the registry of all; names are loaded when first used."
from typing import TYPE_CHECKING

from calibrax.core.lazy import lazy_names

if TYPE_CHECKING:
    from calibrax.bench.tasks.spec import ROBOT_PHASES as ROBOT_PHASES, TaskSpec as TaskSpec, get_task as get_task
    from calibrax.bench.tasks.spec import list_tasks as list_tasks, register_task as register_task

__getattr__, __dir__, __all__ = lazy_names(__name__, {
    'spec': ('ROBOT_PHASES', 'TaskSpec', 'get_task', 'list_tasks', 'register_task'),
})
