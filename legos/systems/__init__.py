"""The systems that train and score a model: the module that registers each, by name.

A system registers itself with the section that a model YAML may say of it, by one decorator
(:func:`legos.config.model_schema.register_system`). That module is imported when a model YAML names
the system, its torch code when a run needs it.
"""

SYSTEMS = {
    "bricks": "legos.systems.bricks",
    "cllm4rec": "legos.systems.cllm4rec.settings",
    "fitted": "legos.systems.fitted.settings",
    "recsysllm": "legos.systems.recsysllm.settings",
    "tiger": "legos.systems.tiger.settings",
}
