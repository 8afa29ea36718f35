"""Tables: what is written is read; TensorFlow's own bytes come out again; damage is named with its offset."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.weights.crc32c import masked_crc32c
from hanformer.weights.protobuf import varint
from hanformer.weights.table import Handle, is_table, read_table, table_bytes
from tests.weights.material import GOLDEN, put
from tests.weights.test_snappy import pack

MAGIC = bytes.fromhex("57fb808b247547db")
KEYS = st.binary(max_size=6)


def block(entries: list[tuple[int, bytes, bytes]], packing: int = 0) -> bytes:
    """A block of (shared length, rest of the key, value), with its trailer."""
    content = b"".join(
        varint(n) + varint(len(key)) + varint(len(value)) + key + value for n, key, value in entries
    )
    content += bytes(4) + (1).to_bytes(4, "little")
    packed = (pack(content) if packing == 1 else content) + bytes([packing])
    return packed + masked_crc32c(packed).to_bytes(4, "little")


def table(blocks: list[bytes], handles: list[Handle] | None = None) -> bytes:
    """A table of these data blocks; `handles` falsify where they stand."""
    content, true = b"", []
    for data in blocks:
        true.append(Handle(len(content), len(data) - 5))
        content += data
    index = block([(0, bytes([n]), handle.encoded()) for n, handle in enumerate(handles or true)])
    footer = Handle(0, 0).encoded() + Handle(len(content), len(index) - 5).encoded()
    return content + index + footer.ljust(40, b"\0") + MAGIC


def read(tmp_path: Path, content: bytes, checksums: bool = True) -> dict[bytes, bytes]:
    path = tmp_path / "x.index"
    put(path, content)
    return read_table(path, checksums=checksums)


@settings(deadline=None, derandomize=True)
@given(
    entries=st.dictionaries(
        st.one_of(KEYS, st.text("ab", max_size=9).map(str.encode)), st.binary(max_size=40)
    )
)
def test_what_is_written_is_read(
    entries: dict[bytes, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("table") / "x"
    path.write_bytes(table_bytes(sorted(entries.items())))
    assert list(read_table(path).items()) == sorted(entries.items())


def test_many_blocks(tmp_path: Path) -> None:
    entries = {b"key/%06d" % number: bytes([number % 256]) * 500 for number in range(1500)}
    content = table_bytes(sorted(entries.items()))
    assert content.count(b"key/") > 1500 // 16  # every restart point stores its key whole
    assert len(content) > 2 * (1 << 18) and read(tmp_path, content) == entries


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/model.ckpt.index")), ids=lambda path: path.parent.name)
def test_tables_of_tensorflow_come_out_byte_for_byte(path: Path) -> None:
    assert table_bytes(read_table(path).items()) == path.read_bytes()


def test_real_tables_come_out_byte_for_byte(data_folder: Path) -> None:
    """Those of four Chinese checkpoints; the ALBERT ones are packed, so their entries are compared alone."""
    for path in sorted((data_folder / "checkpoints").glob("*/*.index")):
        entries = read_table(path)
        assert list(entries) == sorted(entries) and len(entries) in (98, 207, 208, 251)
        assert (table_bytes(entries.items()) == path.read_bytes()) == ("albert" not in path.name)


def test_packed_blocks(tmp_path: Path) -> None:
    content = table([block([(0, b"a", b"1" * 99), (1, b"b", b"2")], packing=1)])
    assert read(tmp_path, content) == {b"a": b"1" * 99, b"ab": b"2"}


def test_unsorted_names_are_refused_when_written() -> None:
    with pytest.raises(UserError, match="sorted names"):
        table_bytes([(b"b", b""), (b"a", b"")])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "footer of 48 bytes, the file has 0"),
        (bytes(47), "footer"),
        (bytes(60), "expected a table that ends with 57fb808b247547db"),
        (table([block([(0, b"b", b""), (0, b"a", b"")])]), "does not sort after"),
        (table([block([(0, b"a", b""), (0, b"a", b"")])]), "does not sort after"),
        (table([block([(0, b"a", b""), (2, b"a", b"")])]), "byte 0.*does not fit"),
        (table([block([])], [Handle(1 << 40, 3)]), "were asked for"),
        (table([block([])], [Handle(0, 1 << 62)]), "were asked for"),
        (table([block([])], [Handle(0, 8), Handle(0, 8)]), "in another block"),
        (table([block([], packing=7)]), "packing 0 .none. or 1 .snappy., got 7"),
        (b"\xff" * 40 + MAGIC, "64 bits"),
    ],
)
def test_damage_has_a_name(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.index.*{message}.*get it again"):
        read(tmp_path, content)


def test_restart_points_that_do_not_exist(tmp_path: Path) -> None:
    content = (99).to_bytes(4, "little") + b"\0"
    with pytest.raises(UserError, match="restart points"):
        read(tmp_path, table([content + masked_crc32c(content).to_bytes(4, "little")]))


def test_keys_that_share_too_much(tmp_path: Path) -> None:
    """A file of some hundred kilobytes whose keys would take half a gigabyte."""
    entries = [(0, b"a" * 60_000, b"")] + [(60_000 + n // 128, bytes([n % 128 + 1]), b"") for n in range(128)]
    entries += [(60_001 + n, b"\x01", b"") for n in range(1200)]
    with pytest.raises(UserError, match="the keys take more than"):
        read(tmp_path, table([block(entries)]))


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Only the padding of the footer, and where the middle index stands, which nobody reads, say nothing."""
    content = table([block([(0, b"", b"head"), (0, b"name", b"value")]), block([(0, b"other", b"value")])])
    entries = read(tmp_path, content)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        try:
            assert read(tmp_path, bytes(changed)) == entries
            assert len(content) - 48 <= place < len(content) - 8
        except UserError as error:
            assert "x.index" in str(error)


def test_is_table(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(table([]))
    (tmp_path / "other").write_bytes(b"x")
    assert is_table(tmp_path / "table")
    assert not is_table(tmp_path / "other") and not is_table(tmp_path / "missing")
