"""The task families: from tables to prompts with answers, for training, valid and test."""

from legos.recsysllm.task_settings import TaskSettings
from legos.recsysllm.tasks.catalogue import ENTITY_TYPES, Catalogue
from legos.recsysllm.tasks.examples import Instance, TaskExamples, build_task_examples
from legos.recsysllm.tasks.mixture import TaskFamilies, TaskMixture
from legos.recsysllm.tasks.review_rows import ReviewRows
from legos.recsysllm.tasks.sequences import Sequences
from legos.recsysllm.tasks.transfer import TransferTask

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
