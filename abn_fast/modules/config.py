from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a model: `create_model(name, **arguments)`. The arguments are plain JSON values."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def with_arguments(self, **changes: Any) -> "ModelConfig":
        """The same model with other arguments."""
        return replace(self, arguments=self.arguments | changes)
