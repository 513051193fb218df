"""A llama model small enough to make on the spot: random weights, a real tokenizer, a chat template.

It talks nonsense, but llama.cpp serves it like any other model and counts its tokens honestly. The same
bytes come out on every run.

    python -m tests.support.tiny_model tiny.gguf
"""

import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

SEED = 0
CONTEXT_TOKENS_MAX = 8192
EMBEDDING_SIZE = 64
FEED_FORWARD_SIZE = 128
HEADS = 4
LAYERS = 2
MERGES = 240
VOCABULARY_MULTIPLE = 32

END_OF_TEXT, TURN_START, TURN_END = CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Any English prose that never changes will do to learn merges from; the licence is at hand.
MERGE_SAMPLE = Path(__file__).parents[2] / "LICENSE"

CHAT_TEMPLATE = r"""
{%- if tools %}
    {{- '<|im_start|>system\n# Tools\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\n' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content %}
        {{- message.content }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>' + call.function.name + ' ' + call.function.arguments | tojson + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

Word = tuple[str, ...]
Weights = NDArray[np.float32]


def write_tiny_model(path: Path) -> None:
    """Writes the model, 0.6 MB, to `path`."""
    letters = byte_letters()
    merges = learn_merges(MERGE_SAMPLE.read_text(), letters)
    tokens = letters + [left + right for left, right in merges]
    types = [gguf.TokenType.NORMAL] * len(tokens)
    tokens += CONTROL_TOKENS
    types += [gguf.TokenType.CONTROL] * len(CONTROL_TOKENS)
    padding = -len(tokens) % VOCABULARY_MULTIPLE
    tokens += [f"<|pad{number}|>" for number in range(padding)]
    types += [gguf.TokenType.UNUSED] * padding

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_TOKENS_MAX)
    writer.add_embedding_length(EMBEDDING_SIZE)
    writer.add_feed_forward_length(FEED_FORWARD_SIZE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING_SIZE // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(TURN_END))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in random_weights(tokens).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_letters() -> list[str]:
    """One printable character for each byte, in byte order, as GPT-2's byte-level vocabulary has them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(0x100)]


def learn_merges(sample: str, letters: list[str]) -> list[tuple[str, str]]:
    """The most frequent neighbours, merged one pair after another: byte-pair encoding."""
    counts: Counter[Word] = Counter(
        tuple(letters[byte] for byte in word.encode()) for word in re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+", sample)
    )
    merges = []
    for _ in range(MERGES):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in counts.items():
            for pair in pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        counts = Counter({merge(word, best): count for word, count in counts.items()})
    return merges


def merge(word: Word, pair: tuple[str, str]) -> Word:
    merged: list[str] = []
    for letter in word:
        if merged and (merged[-1], letter) == pair:
            merged[-1] += letter
        else:
            merged.append(letter)
    return tuple(merged)


def random_weights(tokens: list[str]) -> dict[str, Weights]:
    """The tensors. Their first dimension is steered: an answer is some hundred ASCII words, then ends."""
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int, deviation: float = 0.05) -> Weights:
        return (random.standard_normal((rows, columns)) * deviation).astype(np.float32)

    ones = np.ones(EMBEDDING_SIZE, np.float32)
    embedding = matrix(len(tokens), EMBEDDING_SIZE, 0.3)
    embedding[:, 0] = 4.0
    output = matrix(len(tokens), EMBEDDING_SIZE, 0.25)
    output[:, 0] = -6.0
    output[[bool(re.fullmatch("[A-Za-z.,Ġ]+", token)) for token in tokens], 0] = 1.0  # Ġ stands for a blank
    output[tokens.index(TURN_END), 0] = 1.2  # higher ends sooner

    weights = {"token_embd.weight": embedding, "output.weight": output, "output_norm.weight": ones}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        weights[block + "attn_norm.weight"] = ones
        weights[block + "ffn_norm.weight"] = ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights[f"{block}{name}.weight"] = matrix(EMBEDDING_SIZE, EMBEDDING_SIZE)
        weights[block + "ffn_gate.weight"] = matrix(FEED_FORWARD_SIZE, EMBEDDING_SIZE)
        weights[block + "ffn_up.weight"] = matrix(FEED_FORWARD_SIZE, EMBEDDING_SIZE)
        weights[block + "ffn_down.weight"] = matrix(EMBEDDING_SIZE, FEED_FORWARD_SIZE)
    return weights


if __name__ == "__main__":
    write_tiny_model(Path(sys.argv[1]))
