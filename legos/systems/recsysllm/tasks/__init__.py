"""The task families: from tables to prompts with answers, for training, valid and test."""

from legos.systems.recsysllm.task_settings import TaskSettings
from legos.systems.recsysllm.tasks.catalogue import ENTITY_TYPES, Catalogue
from legos.systems.recsysllm.tasks.examples import Instance, TaskExamples, build_task_examples
from legos.systems.recsysllm.tasks.mixture import TaskFamilies, TaskMixture
from legos.systems.recsysllm.tasks.review_rows import ReviewRows
from legos.systems.recsysllm.tasks.sequences import Sequences
from legos.systems.recsysllm.tasks.transfer import TransferTask

__all__ = [
    "ENTITY_TYPES",
    "Catalogue",
    "Instance",
    "ReviewRows",
    "Sequences",
    "TaskExamples",
    "TaskFamilies",
    "TaskMixture",
    "TaskSettings",
    "TransferTask",
    "build_task_examples",
]
