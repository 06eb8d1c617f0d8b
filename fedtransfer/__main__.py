"""``python -m fedtransfer``: the same as the command ``fedtransfer``."""

from fedtransfer.cli import main

main()
