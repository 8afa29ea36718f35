"""Recurrent cells by name."""

from __future__ import annotations

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell
from hanformer.nn.layers.recurrent.gru import GruCell, ModifiedGruCell, ResetAfterGruCell
from hanformer.nn.layers.recurrent.lstm import LstmCell
from hanformer.nn.layers.recurrent.on_lstm import OnLstmCell
from hanformer.nn.layers.recurrent.simple import SimpleCell

ON_LSTM = "on_lstm"
_PLAIN: dict[str, type[SimpleCell | LstmCell | GruCell | ResetAfterGruCell | ModifiedGruCell]] = {
    "simple": SimpleCell,
    "lstm": LstmCell,
    "gru": GruCell,
    "gru_reset_after": ResetAfterGruCell,
    "gru_modified": ModifiedGruCell,
}
KINDS = (ON_LSTM, *_PLAIN)


def make_cell(
    kind: str, input_size: int, hidden_size: int, *, chunk_size: int = 1, form: str = "paper"
) -> RecurrentCell:
    """A new cell by the name of its kind; `chunk_size` and `form` are those of ON-LSTM, and no others use them.

    按名称新建循环单元。

    Raises UserError for an unknown kind, and for sizes that do not fit.
    """
    if kind == ON_LSTM:
        return OnLstmCell(input_size, hidden_size, chunk_size, form)
    if kind not in _PLAIN:
        raise UserError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    return _PLAIN[kind](input_size, hidden_size)
