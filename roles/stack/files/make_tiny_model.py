"""Write a model folder for vLLM's `--load-format dummy`: a Qwen2 of 8 layers without weights.

One byte is one token, so a prompt's length in tokens is its length in bytes, and no download is needed. Its KV cache
takes 4,096 bytes per token (8,192 in float32), and a cold prompt of 3,000 tokens a few seconds on two CPU cores: long
enough to see what a cache saves.

    make_tiny_model.py DIRECTORY --max-model-len TOKENS
"""

import argparse
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer(max_model_len: int) -> PreTrainedTokenizerFast:
    """Byte-level: the 256 bytes and three special tokens, no merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([START, END, PAD])
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        eos_token=END,
        pad_token=PAD,
        model_max_length=max_model_len,
        chat_template=CHAT_TEMPLATE,
    )


def config(words: PreTrainedTokenizerFast, max_model_len: int) -> Qwen2Config:
    return Qwen2Config(
        architectures=["Qwen2ForCausalLM"],
        vocab_size=len(words),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=max_model_len,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        dtype="bfloat16",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--max-model-len", type=int, required=True)
    arguments = parser.parse_args()
    words = tokenizer(arguments.max_model_len)
    words.save_pretrained(arguments.directory)
    config(words, arguments.max_model_len).save_pretrained(arguments.directory)


if __name__ == "__main__":
    main()
