"""Byte-level BPE: trained on the corpus, lossless for any UTF-8 text.

The splitting rule is GPT-2's, which llama.cpp knows as `gpt-2`. Digits are kept
apart while merges are learned, so no merge ever joins two digits and numbers
are read digit by digit. It does not add tokens around a text by itself.
"""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = [END_OF_TEXT, TURN_START, TURN_END]
MARKS = ["<tool_call>", "</tool_call>"]


def train(texts, vocabulary: int) -> Tokenizer:
    """Learn merges from an iterable of plain texts (no control tokens in them)."""
    tokenizer = Tokenizer(models.BPE())
    bytes_split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_split])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(CONTROL) - len(MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = bytes_split
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    assert tokenizer.get_vocab_size() == vocabulary, "the corpus is too small for this vocabulary"
    return tokenizer


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))
