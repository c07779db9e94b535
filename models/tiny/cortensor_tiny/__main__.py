"""`python -m cortensor_tiny`: tokenizer, training and export, one after the other.

Work in progress is kept in a build folder, so an interrupted run goes on where
it stopped. The last line printed is the SHA-256 of the weights file.
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path

from . import export, tokenizer, train
from .corpus import documents, words
from .model import Shape

HERE = Path(__file__).resolve().parent.parent
WEIGHTS = HERE / "cortensor-tiny-q8_0.gguf"
TOKENIZER_SEED, TOKENIZER_DOCUMENTS = 7, 20_000
NAME_REPEATS = 120


def names() -> list:
    """Names of people, countries and cities: rare one by one, yet each should become a single token."""
    places = [place.removeprefix("the ") for row in words.CAPITALS for place in row[:2]]
    return words.NAMES + places + [place.lower() for place in places]


def plain_parts(count: int):
    """The words of the corpus, without control tokens and templates, and its names more often."""
    yield from (f" {name}" for name in names() for _ in range(NAME_REPEATS))
    for document in documents(TOKENIZER_SEED, count):
        if document.text is not None:
            yield document.text
        for message in document.messages or []:
            yield message["content"]
            for call in message.get("tool_calls", []):
                yield '\n{"name": "' + call["function"]["name"] + '", "arguments": ' + call["function"]["arguments"] + "}\n"
        for tool in document.tools or []:
            yield "\n- " + tool["function"]["name"] + "(" + ", ".join(tool["function"]["parameters"]["properties"]) + "): "
        yield "system\nuser\nassistant\ntool\nTools:"


def prepared_tokenizer(build: Path, shape: Shape):
    path = build / "tokenizer.json"
    if not path.exists():
        build.mkdir(parents=True, exist_ok=True)
        tokenizer.train(plain_parts(TOKENIZER_DOCUMENTS), shape.vocabulary).save(str(path))
    return tokenizer.load(path)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cortensor_tiny", description=__doc__)
    parser.add_argument("--build", type=Path, default=HERE / "build", help="folder for work in progress")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the GGUF file to write")
    parser.add_argument("--steps", type=int, default=train.Recipe.steps, help="training steps")
    parser.add_argument("--cooldown", type=int, default=train.Recipe.cooldown, help="last steps, with a falling rate")
    parser.add_argument("--export-only", action="store_true", help="write the file from the checkpoint as it is")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    shape = Shape()
    recipe = dataclasses.replace(train.Recipe(), steps=chosen.steps, cooldown=chosen.cooldown)
    pieces = prepared_tokenizer(chosen.build, shape)
    if chosen.export_only:
        parameters = train.load(chosen.build / "checkpoint.npz", train.fresh_state(shape, recipe))[0]
    else:
        parameters = train.train(pieces, shape, recipe, chosen.build)
    export.write(chosen.out, parameters, shape, pieces)
    print(hashlib.sha256(chosen.out.read_bytes()).hexdigest(), chosen.out.name)


if __name__ == "__main__":
    main()
