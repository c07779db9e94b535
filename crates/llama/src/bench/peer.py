"""The outside peer of the engine's benchmark: llama-cpp-python on the same file, tokens and threads.

Takes one JSON object a line (`prompt`, `output`) and answers each with the seconds of two passes: `prefill` until the
first token, `decode` for `output` further steps from the memory that the first left behind. Ends with its input.
"""

import json
import sys
import time

import llama_cpp


def instruction_sets() -> list:
    """What this build of llama.cpp was compiled for."""
    pairs = [part.split("=") for part in llama_cpp.llama_print_system_info().decode().split("|")]
    return [pair[0].split(":")[-1].strip() for pair in pairs if pair[-1].strip() == "1"]


def seconds(llama, prompt: list, tokens: int) -> float:
    began = time.perf_counter()
    for count, _ in enumerate(llama.generate(prompt, temp=0.0), 1):
        if count == tokens:
            break
    return time.perf_counter() - began


def main() -> None:
    path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    settings = {"n_ctx": context, "n_threads": threads, "n_threads_batch": threads, "flash_attn": True}
    llama = llama_cpp.Llama(path, verbose=False, **settings)
    print(json.dumps({"version": llama_cpp.__version__, "instruction_sets": instruction_sets()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        prefill = seconds(llama, asked["prompt"], 1)
        # The first of these tokens comes from what the prompt left behind and costs no step.
        decode = seconds(llama, asked["prompt"], asked["output"] + 1)
        print(json.dumps({"prefill": prefill, "decode": decode}), flush=True)


main()
