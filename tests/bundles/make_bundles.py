"""Makes the bundles that lie beside this file, from the seeded checkpoints.

python -m tests.bundles.make_bundles
"""

import shutil
import tempfile
from pathlib import Path

from bareclip_export.export import export
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import Precisions
from tests.seeded.clip import write_checkpoint
from tests.variants import VARIANTS

FOLDER = Path(__file__).parent
ALL = Precisions(("fp32", "int8", "int4", "fp16"), Data([], []))


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        for name, variant, precisions in (
            ("precise", "tiny", ALL),
            ("odd", "odd", Precisions()),
        ):
            checkpoint = write_checkpoint(Path(place) / variant, VARIANTS[variant])
            shutil.rmtree(FOLDER / name, ignore_errors=True)
            export(str(checkpoint), FOLDER / name, precisions=precisions)


if __name__ == "__main__":
    main()
