"""What loading found: missing, unexpected, misshapen and unused tensors, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = 6


@dataclass(frozen=True)
class LoadReport:
    """How a checkpoint and a model fit together.

    检查点与模型的吻合情况。

    `missing` parameters (with the published name that was looked for), `misshapen` ones (with both shapes),
    `unexpected` published names that mean nothing in this family, `unused` ones that belong to parts which the
    model was built without, `dropped` those of them that are no head's: what the published model was computed with,
    and this one is not; and `fresh` parameters that no checkpoint of the family has.
    """

    origin: str
    loaded: int
    missing: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every published parameter was found, in its shape."""
        return not (self.missing or self.misshapen)

    def text(self) -> str:
        """All of it, a paragraph each. 完整报告。"""
        titles = {
            "missing": "missing",
            "misshapen": "wrong shape",
            "unexpected": "unexpected",
            "dropped": "left out of this model, though it belongs to the published one",
            "unused": "not used by this model",
            "fresh": "new, with initial weights",
        }
        parts = [f"{self.origin}: {self.loaded} parameters loaded"]
        parts += [
            _listed(title, getattr(self, name)) for name, title in titles.items() if getattr(self, name)
        ]
        return "\n".join(parts)

    def complaint(self) -> str:
        """What keeps the model from being loaded, in a line. 不吻合之处。"""
        found = (("missing", self.missing), ("wrong shape", self.misshapen), ("unexpected", self.unexpected))
        return "; ".join(_listed(title, names) for title, names in found if names)


def _listed(title: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{title} ({len(names)}): {', '.join(names[:_SHOWN])}{more}"
