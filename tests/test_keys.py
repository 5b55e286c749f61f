"""Stable 64-bit keys."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest

from sidelong.ingest.keys import NULL_KEY, hash_columns, hash_strings, mix


def test_the_keys_of_known_values_never_change() -> None:
    frame = pl.DataFrame(
        {
            "name": ["", "a", "shop/frontend", "größe.example", None, "x" * 1000],
            "port": pl.Series([0, 1, 443, 65535, None, 53], dtype=pl.UInt16),
            "reply": [True, False, None, True, False, True],
        }
    )
    assert hash_strings(frame["name"]).tolist() == [
        16294208416658607535,
        14170495921970527432,
        13655451794441229758,
        18045462555333312279,
        2361492071075283931,
        5639602769978084517,
    ]
    assert hash_columns(frame, ["name", "port", "reply"]).tolist() == [
        14264577618602282150,
        11345712360278952997,
        12891407260812244511,
        11194624201306069845,
        5166814508111167135,
        3284445399535257723,
    ]
    assert NULL_KEY == 2361492071075283931


def test_a_million_names_of_a_tunnel_have_a_million_keys() -> None:
    names = [f"{n:x}.{n % 977:03d}.exfil.example{n % 13}.com" for n in range(1_000_000)]
    assert len(np.unique(hash_strings(names))) == len(names)


def test_permutations_prefixes_and_repetitions_do_not_collide() -> None:
    alike = {"".join(p) for p in permutations("abcdefgh")}
    alike |= {"a" * n for n in range(1, 3000)} | {"ab" * n for n in range(2, 1500)}
    alike |= {"\0" * n for n in range(1, 300)}
    assert len(np.unique(hash_strings(sorted(alike)))) == len(alike)


def test_exchanging_two_blocks_of_a_long_path_changes_its_key() -> None:
    first, second = "/a" * 128, "/b" * 128
    assert len(np.unique(hash_strings([first + second, second + first]))) == 2


@pytest.mark.parametrize("place", [0, 1, 19, 255, 256, 700])
def test_changing_one_bit_of_a_string_moves_half_of_its_key(place: int) -> None:
    random = np.random.default_rng(place)
    texts = random.integers(32, 127, (4000, 800), np.uint8)
    texts[:, place] &= 0x7E
    near = texts.copy()
    near[:, place] |= 1
    keys, moved = (hash_strings([row.tobytes().decode() for row in t]) for t in (texts, near))
    assert 31.5 < float(np.bitwise_count(keys ^ moved).mean()) < 32.5


def test_low_bits_are_as_good_as_high_bits() -> None:
    keys = hash_strings([f"10.0.{n >> 8}.{n & 255}" for n in range(65_536)])
    for shift in (0, 24, 56):
        loads = np.bincount(((keys >> np.uint64(shift)) & np.uint64(255)).astype(np.int64))
        assert loads.min() > 170
        assert loads.max() < 350


def test_a_key_does_not_depend_on_the_strings_beside_it() -> None:
    names = [f"n{n}" * (n % 70) for n in range(5000)]
    together = hash_strings(names)
    assert [int(hash_strings([name])[0]) for name in names[::501]] == together[::501].tolist()


def test_mixing_is_sensitive_to_order_and_number() -> None:
    a, b = hash_strings(["a"]), hash_strings(["b"])
    assert len({int(k[0]) for k in (mix(a), mix(b), mix(a, b), mix(b, a), mix(a, a), a)}) == 6


def test_an_enum_counts_by_its_text() -> None:
    texts = ["TCP", None, "UDP", "TCP", "TCP"]
    frame = pl.DataFrame({"text": texts, "enum": pl.Series(texts, dtype=pl.Enum(["UDP", "TCP"]))})
    assert hash_columns(frame, ["enum"]).tolist() == hash_columns(frame, ["text"]).tolist()


def test_an_integer_counts_by_its_value_whatever_its_width() -> None:
    frame = pl.DataFrame({"narrow": pl.Series([1, 80], dtype=pl.UInt8), "wide": [1, 80]})
    assert hash_columns(frame, ["narrow"]).tolist() == hash_columns(frame, ["wide"]).tolist()


def test_null_is_neither_zero_nor_the_empty_string() -> None:
    frame = pl.DataFrame({"text": ["", None], "number": [0, None], "flag": [False, None]})
    for name in frame.columns:
        assert len(set(hash_columns(frame, [name]).tolist())) == 2


def test_repeated_and_distinct_columns_hash_alike() -> None:
    repeated = pl.DataFrame({"name": ["a", "b", None] * 9})
    assert (
        hash_columns(repeated, ["name"]).tolist()
        == mix(hash_strings(["a", "b", None] * 9)).tolist()
    )


def test_no_rows_have_no_keys() -> None:
    empty = pl.DataFrame(schema={"name": pl.String, "port": pl.UInt16, "none": pl.Null})
    assert len(hash_columns(empty, empty.columns)) == 0


def test_a_float_column_is_refused() -> None:
    with pytest.raises(TypeError, match="'share' is Float64"):
        hash_columns(pl.DataFrame({"share": [0.5]}), ["share"])
