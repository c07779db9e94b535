"""Prints what the committed weights answer, greedily, to a fixed list of questions.

Run with llama-cpp-python installed: `python evaluate.py`. Every question is new:
`tests/test_corpus.py` checks that none of them is in the first 40,000 documents
of the corpus. Nothing is filtered; wrong answers are printed like right ones.
`--counts` counts right answers to plain questions instead, which are in the corpus.
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from cortensor_tiny import chat  # noqa: E402
from cortensor_tiny.corpus import words  # noqa: E402

QUESTIONS = HERE / "evaluation.json"
ANSWER_TOKENS_MAX = 220


def load(path: Path, context: int = 2048):
    from llama_cpp import Llama

    return Llama(str(path), n_ctx=context, verbose=False)


def answer(llama, messages: list, tools: list | None = None) -> str:
    """The greedy answer to a conversation, through llama.cpp's own tokenizer and kernels."""
    prompt = chat.render(messages, tools, add_generation_prompt=True)
    ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    result = llama.create_completion(ids, max_tokens=ANSWER_TOKENS_MAX, temperature=0.0, stop=["<|im_end|>"])
    return result["choices"][0]["text"]


def converse(llama, case: dict):
    """Yields (speaker, text) for a case; `user`, `tool` and `system` entries are given, answers are made."""
    messages = []
    for entry in case["turns"]:
        messages.append(entry)
        yield entry["role"], entry["content"]
        if entry["role"] == "system":
            continue
        said = answer(llama, messages, case.get("tools"))
        messages.append({"role": "assistant", "content": said})
        yield "assistant", said


def right_capitals(llama) -> list:
    """For each country of the corpus whether its capital is in the answer."""
    asks = [(f"What is the capital of {country}?", capital) for country, capital, *_ in words.CAPITALS]
    return [capital in answer(llama, [{"role": "user", "content": ask}]) for ask, capital in asks]


def right_sums(llama) -> list:
    """For each of 44 small additions whether the answer ends with the result."""
    pairs = [(a, b) for a in range(0, 21, 2) for b in (1, 4, 7, 10)]
    said = [answer(llama, [{"role": "user", "content": f"What is {a} + {b}?"}]).split() for a, b in pairs]
    return [text[-1:] == [str(a + b)] for (a, b), text in zip(pairs, said, strict=True)]


def print_counts(llama) -> None:
    for name, right in (("capitals", right_capitals(llama)), ("additions", right_sums(llama))):
        print(f"{name}: {sum(right)} of {len(right)} right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=HERE / "cortensor-tiny-q8_0.gguf")
    parser.add_argument("--counts", action="store_true")
    chosen = parser.parse_args()
    llama = load(chosen.model)
    if chosen.counts:
        print_counts(llama)
        return
    for case in json.loads(QUESTIONS.read_text(encoding="utf-8")):
        for tool in case.get("tools", []):
            print(f"tool offered: {tool['function']['name']}")
        for speaker, text in converse(llama, case):
            print(f"{speaker}: {text}")
        print()


if __name__ == "__main__":
    main()
