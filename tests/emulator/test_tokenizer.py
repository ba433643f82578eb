"""Token counts can be worked out by hand, and nothing of a text is lost."""

import pytest

from kvkit.emulator.engine import tokenizer


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("abcd", 1),
        ("abcde", 2),
        ("abcd efgh", 2),  # the space belongs to the piece behind it
        ("hello, world", 5),  # hell o , _worl d
        ("a  b", 3),  # a _ _b
        ("日本語の文章", 2),
    ],
)
def test_words_are_cut_after_four_letters_and_punctuation_stands_apart(text: str, count: int) -> None:
    assert len(tokenizer.encode(text)) == count


@pytest.mark.parametrize("text", ["Line\u2028separator", "tab\tand\r\nbreaks  ", "emoji 🙂!", "_under_score_ – dash"])
def test_the_pieces_of_a_text_are_the_whole_text(text: str) -> None:
    assert "".join(tokenizer.PIECE.findall(text)) == text


def test_a_token_has_the_same_id_in_every_process() -> None:
    assert tokenizer.encode("hello, world") == [110434, 41742, 145610, 133794, 53020]


def test_the_chat_template_adds_four_tokens_a_message_and_three_for_the_answer() -> None:
    messages = [("system", "abcd"), ("user", "abcd efgh"), ("assistant", "")]
    assert len(tokenizer.encode_chat(messages, add_generation_prompt=False)) == 1 + 2 + 3 * 4
    assert len(tokenizer.encode_chat(messages, add_generation_prompt=True)) == 1 + 2 + 3 * 4 + 3


def test_a_role_is_part_of_the_prompt() -> None:
    as_user = tokenizer.encode_chat([("user", "abcd")], add_generation_prompt=True)
    as_system = tokenizer.encode_chat([("system", "abcd")], add_generation_prompt=True)
    assert as_user != as_system
