"""Amazon reviews of 2014, 2018 and 2023 (McAuley et al., SIGIR 2015; Ni et al., EMNLP 2019; Hou et
al., arXiv 2403.03952), sets prepared from them, and the public files of CLLM4Rec (WWW 2024)."""
