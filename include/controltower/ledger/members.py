"""The messages of a request as bits: bit n is the one with seq first_seq + n."""

from __future__ import annotations

from collections.abc import Sequence


def pack(seqs: Sequence[int], first: int) -> bytes:
    bits = 0
    for seq in seqs:
        bits |= 1 << (seq - first)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def unpack(members: bytes, first: int) -> list[int]:
    return unpack_bits(int.from_bytes(members, "little"), first)


def unpack_bits(bits: int, first: int) -> list[int]:
    seqs = []
    while bits:
        low = bits & -bits
        seqs.append(first + low.bit_length() - 1)
        bits ^= low
    return seqs
