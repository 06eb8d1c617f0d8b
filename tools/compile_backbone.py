"""Write the compiled copy of the bundled backbone again, after its Keras file has changed.

python tools/compile_backbone.py
"""

import json
import shutil
from pathlib import Path

from fedtransfer.common.backbone import compiled
from fedtransfer.common.backbone import public_statistics as public
from fedtransfer.common.backbone.conversion import write_network
from fedtransfer.common.backbone.networks import check_network, network_identity, saved_network
from fedtransfer.common.config.config import BUNDLED

FOLDER = Path(__file__).parents[1] / "fedtransfer/assets" / BUNDLED


def main() -> None:
    """Read ``network.keras``; write the other files of its folder."""
    network = saved_network(FOLDER / compiled.KERAS)
    check_network(network, BUNDLED, 64)
    mean = public.public_mean(BUNDLED, int(network.output_shape[-1]))
    keras_file = (FOLDER / compiled.KERAS).read_bytes()
    for file in FOLDER.iterdir():
        file.unlink()

    def write(folder: Path) -> dict[str, object]:
        card = write_network(network, 64, network_identity(network, mean), (), folder)
        (folder / compiled.KERAS).write_bytes(keras_file)  # as it was: saving again changes its date
        return dict(card)

    compiled.write_copy(FOLDER, write)
    print(json.dumps(json.loads((FOLDER / compiled.CARD).read_text("utf-8")), indent=2))
    shutil.rmtree(FOLDER / "__pycache__", ignore_errors=True)


if __name__ == "__main__":
    main()
