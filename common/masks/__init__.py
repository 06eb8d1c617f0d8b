"""Secure aggregation: each site masks its answer, and the masks cancel in the sum over sites.

Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (ACM
CCS, doi 10.1145/3133956.3133982), on the sparse graph of Bell et al. 2020 (SecAgg+, eprint
2020/704) if there are many sites.
"""
