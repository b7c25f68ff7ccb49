"""How another process comes by the same maker: by a name, by how a backbone was loaded, or by the thing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrm.core.errors import RunError
from rrm.core.parties import Maker
from rrm.learning.text_maker import TextMaker
from rrm.models.backbone import Backbone
from rrm.models.vllm_sampler import VLLMSampler, VLLMSetting

MakerOf = Callable[[str | Path | Backbone | Maker], Maker]
"""`rrm.loop.training.maker_of`."""


@dataclass(frozen=True)
class Recipe:
    """What a maker is made from; to be sent."""

    maker_of: MakerOf
    model: str | Maker = ""
    """As `rrm.train` takes it, if nothing else is said."""
    loaded: Mapping[str, Any] | None = None
    """What `Backbone.load` was given."""
    parts: tuple[Any, ...] = ()
    """What `Backbone` was given."""
    sampler: VLLMSetting | None = None
    """Who samples, if it is not the model itself."""

    @classmethod
    def of(cls, model: str | Path | Backbone | Maker, maker_of: MakerOf) -> Recipe:
        """Raises `RunError` for a backbone that neither was loaded by name nor is copied for each node."""
        if isinstance(model, str | Path):
            return cls(maker_of, _absolute(model))
        if type(model) is TextMaker:  # what somebody made of it is sent as it is
            model = model.backbone
        if not isinstance(model, Backbone):
            return cls(maker_of, model)
        if model.origin is not None:
            setting = model.sampler.setting if isinstance(model.sampler, VLLMSampler) else None
            loaded = {**model.origin, "name": _absolute(model.origin["name"])}
            return cls(maker_of, loaded=loaded, sampler=setting)
        if model.adapters != "full":
            raise RunError(
                f"the model {model.name!r} was put together by hand, and its adapters are in it: workers cannot make "
                "it again. Save it into a folder, and give that"
            )
        return cls(maker_of, parts=(model.name, model.model, model.tokenizer, model.adapters, dict(model.chat.options)))

    def make(self) -> Maker:
        """The maker. Raises `ModelError` if its model cannot be loaded here."""
        if self.loaded is not None:
            backbone = Backbone.load(**self.loaded)
            backbone.sampler = None if self.sampler is None else VLLMSampler(self.sampler)
            return self.maker_of(backbone)
        return self.maker_of(Backbone(*self.parts) if self.parts else self.model)


def _absolute(name: str | Path) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else str(name)
