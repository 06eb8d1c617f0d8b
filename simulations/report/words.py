"""Titles of methods."""

METHOD = {
    "fedavg": "FedAvg",
    "fed3r": "Fed3R",
    "fedncm": "FedNCM",
    "fedcof": "FedCOF",
    "fedprox": "FedProx",
    "scaffold": "SCAFFOLD",
}
