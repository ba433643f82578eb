"""Deterministic text with a stated number of tokens, for any tokenizer, without a tokenizer.

The text is made of 256 common five-letter words. Each cycle of 256 words holds every word once, shuffled: so whatever
a tokenizer makes of single words, a text of n words has n times the measured mean, and the rest of a cycle adds only
the spread of a sample without replacement. (One word is one token for most vocabularies, six tokens for bytes.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

WORDS: tuple[str, ...] = tuple(
    """
    about above actor admit adopt adult after again agent ahead alarm album alert alike alive allow
    alone along anger apply arena asset avoid award aware beach began begin below birth blame blood
    board bonus boost bound brain brand bread brick brief broke build buyer chase check chest child
    civil claim clean clear climb clock coach could court cover crash crowd crown daily dance death
    delay depth draft drama drawn dream dress drink drive eager empty enter equal error every exist
    faith false fiber fight first fleet floor focus force found fraud front fully funny given globe
    grade grain grand grass great gross group grown guest happy heavy horse hotel house human ideal
    image input issue joint judge label later layer learn least leave legal light local logic loose
    lunch major match meant media minor minus mixed model money moral motor mouth music needs never
    noise north novel nurse occur often order other ought paint panel paper party phase phone piece
    pilot pitch plane pound power press price pride print prior prize proof proud quick raise reach
    ready refer river rough round route scale serve seven shall shape shell shirt shock shoot since
    sixth sixty sleep slide small sorry sound space spare speed spend staff state still stock store
    story strip study stuff style suite think third those three throw tight times today topic total
    tough track trade treat trend trial tribe trick truly under union upper upset urban usage value
    vital voice water wheel where which while whose world worry worse worth would wound write young
    """.split()
)


def words(key: str, count: int) -> str:
    """`count` words that only `key` decides. Texts of two keys share no run of words worth a KV block."""
    stream = _stream(key)
    return " ".join(next(stream) for _ in range(count))


def _stream(key: str) -> Iterator[str]:
    shuffler = random.Random(key)  # noqa: S311 - repeatable is what is wanted, not secret
    cycle = list(WORDS)
    while True:
        shuffler.shuffle(cycle)
        yield from cycle


@dataclass(frozen=True, slots=True)
class TokenScale:
    """How this server's tokenizer and chat template count our words. Measured; see `kvkit.load.calibration`."""

    tokens_per_word: float
    template_tokens: int
    """What the chat template adds around a single user message."""
    turn_tokens: int
    """What it adds for each further pair of assistant and user messages."""

    def words_for(self, tokens: float) -> int:
        """Words whose text has as near as possible to `tokens` tokens; at least one."""
        return max(1, round(tokens / self.tokens_per_word))

    def tokens_of(self, word_count: int) -> float:
        return word_count * self.tokens_per_word
