"""Block hashes are chained: equal up to a block means equal in every token up to its end."""

from kvkit.emulator.engine.hashing import block_hashes

COMMON = list(range(32))


def test_prompts_share_the_hashes_of_their_common_blocks_and_no_later_ones() -> None:
    one = block_hashes([*COMMON, *range(100, 132)], 16, "model")
    other = block_hashes([*COMMON, *range(200, 232)], 16, "model")
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])


def test_the_same_block_behind_another_start_has_another_hash() -> None:
    one = block_hashes([1, *range(1, 32)], 16, "model")
    other = block_hashes([2, *range(1, 32)], 16, "model")
    assert not set(one) & set(other)


def test_only_full_blocks_have_a_hash() -> None:
    assert len(block_hashes(range(31), 16, "model")) == 1
    assert len(block_hashes(range(32), 16, "model")) == 2


def test_another_salt_changes_every_hash() -> None:
    assert not set(block_hashes(COMMON, 16, "model")) & set(block_hashes(COMMON, 16, "other"))
