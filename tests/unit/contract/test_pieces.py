"""Files are written in large pieces, whatever the chunks."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from contract.pieces import PIECE_BYTES, write_in_pieces


class _Recorder(io.BytesIO):
    """Notes the size of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # any bytes
        self.sizes.append(len(data))
        return super().write(data)


@given(
    st.lists(
        st.sampled_from([0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 3]), max_size=4
    )
)
def test_pieces_are_the_chunks(sizes: list[int]) -> None:
    """All of them are full but the last."""
    chunks = [bytes([k + 1]) * size for k, size in enumerate(sizes)]
    file = _Recorder()
    write_in_pieces(file, chunks)
    assert file.getvalue() == b"".join(chunks)
    assert set(file.sizes[:-1]) <= {PIECE_BYTES}
    assert file.sizes[-1] < PIECE_BYTES
