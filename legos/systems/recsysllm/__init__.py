"""RecSysLLM: a language model that reads and writes whole entities, trained by filling blanks.

Chu, Hao, Ouyang, Wang, Wang, Shen, Gu, Cui, Li, Xue, Zhang and Li, "Leveraging Large Language
Models for Pre-trained Recommender Systems", 2023, arXiv 2308.10837. The objective is GLM's (Du et
al., "GLM: General language model pretraining with autoregressive blank infilling", ACL 2022).
Where the paper leaves a choice there is a switch (:mod:`legos.systems.recsysllm.settings`).
"""
