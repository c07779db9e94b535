"""Writes a model of any size with random weights, for measuring speed. It answers nonsense.

`python untrained.py FILE` makes one of 80 million parameters; then `cortensor bench engine --model FILE`.
"""

import argparse
from pathlib import Path

from cortensor_tiny import export, model, restore
from cortensor_tiny.__main__ import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--key-value-heads", type=int, default=4)
    parser.add_argument("--feed-forward", type=int, default=2048)
    chosen = vars(parser.parse_args())
    out = chosen.pop("out")
    pieces = restore.read(WEIGHTS)[2]
    shape = model.Shape(**chosen)
    parameters = model.initial_parameters(shape, seed=1)
    export.write(out, parameters, shape, pieces)
    print(f"{model.parameter_count(parameters)} parameters, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
