"""All effects by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_mock.faults import effects, wire

if TYPE_CHECKING:
    from seedbed_mock.faults.effects import Effect

EFFECTS: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (
        effects.Code,
        effects.Status,
        effects.Html,
        effects.Empty,
        effects.WrongType,
        effects.NotJson,
        effects.OtherShape,
        effects.NoData,
        wire.Reset,
        wire.CloseAfterHeaders,
        wire.CutShort,
        wire.Trickle,
        wire.Hang,
        wire.AnswerToNothing,
        effects.Delay,
        effects.Fail,
        effects.Stuck,
        effects.Slow,
        effects.Late,
        effects.Lost,
        effects.Orphan,
        effects.EmptyUrl,
        effects.DeadUrl,
        effects.Expired,
        effects.OtherSize,
        effects.CutImage,
        effects.Never,
        effects.LateCallback,
        effects.Twice,
        effects.OutOfOrder,
        effects.Early,
        effects.Unsigned,
        effects.WrongSignature,
        effects.OtherId,
        effects.Stale,
        effects.Unlike,
        effects.Again,
    )
}
"""In the order in which they are documented."""
