"""Reptile: the mean of the sites' updates leads to a head from which a few local steps go far."""

from fedtransfer.common.methods.method import Method, Verdict

REPTILE = Method(
    name="reptile",
    title="Reptile",
    paper="arXiv 1803.02999",
    sends="change of the head, n",
    dp_site=Verdict(True, "clipped updates; every site counts the same anyway"),
    weighted=False,
    adapts=True,
    refuses={"server_momentum": "reptile has none; --strategy fedavg has it"},
)
