"""FedProx: FedAvg whose sites are held near the head that they were sent.

The server does what FedAvg's does. The pull is in local training: ``proximal`` in ``Recipe``
(``client/training/trainer.py``), applied by each trainer there: ``linear``, ``keras``, ``private``.
"""

from fedtransfer.common.methods.method import Method

FEDPROX = Method(name="fedprox", title="FedProx", paper="arXiv 1812.06127", options=("proximal",))
