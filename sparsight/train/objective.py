"""What a stage learns: the interface of an objective, and the module that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparsight.train.parts import Parts

#: A number to log: a value, or a sum and what it is divided by (right answers, answers).
Metric = Tensor | tuple[Tensor, Tensor | float]


class Objective(nn.Module):
    """Turns samples into losses. Subclass it and implement `forward`, often `collate`.

    Modules that an objective owns (read-outs that exist only in training) are trained and
    checkpointed with the model, go by "objective.NAME" in a stage's patterns, and are not
    exported. A stage takes them over from the stage before where names and shapes agree.

    `prepare` and `collate` run in the data loader's processes: CPU only, the weights unused.

    packs  whether it follows a stage's `pack`
    pack   the tokens that a row may hold, from the stage
    seed   of the stage's random numbers
    """

    packs: ClassVar[bool] = False
    pack: int | None = None
    seed: int = 0

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = parts  # not a module itself, so its model is not registered a second time

    def prepare(self, item: Any) -> Any:
        """One item of the data set -> one sample. A `ValueError` (`UserError`) or `OSError` here
        or while the item is read skips the sample, with a warning."""
        return item

    def collate(self, samples: Sequence[Any]) -> Any:
        """Samples -> a batch: nested dicts, lists and tuples of tensors and of plain objects.
        Its tensors are on the device when `forward` gets it."""
        return list(samples)

    def forward(self, batch: Any) -> Mapping[str, Tensor] | tuple[Mapping[str, Tensor], Any]:
        """A batch -> its named losses (scalars, already weighted; their sum is what falls), or
        these and a mapping of metrics by name (see `Metric`), which are logged as means."""
        raise AssertionError(f"{type(self).__name__} must implement forward")

    def count(self, batch: Any) -> Tensor | int | None:
        """What the losses of a batch are means over (answer tokens), or None.

        With a count, the batches of one step and of several processes weigh by it, so that
        accumulating gives the gradient of one large batch.
        """
        return None


class Learner(nn.Module):
    """A model under an objective: one forward from batch to losses, as `Trainer` wraps it."""

    accepts_loss_kwargs = False

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model = objective.parts.model
        self.objective = objective
        own = {id(parameter) for parameter in self.model.parameters()}
        shared = [name for name, p in objective.named_parameters() if id(p) in own]
        assert not shared, f"the objective holds the model's {shared[0]}: use self.parts.model"

    @property
    def _no_split_modules(self) -> list[str]:
        """The blocks that FSDP wraps, as the model names them."""
        return sorted(getattr(self.model, "_no_split_modules", None) or [])

    def forward(self, batch: Any) -> dict[str, Any]:
        out = self.objective(batch)
        losses, metrics = out if isinstance(out, tuple) else (out, {})
        assert losses, "an objective must return at least one loss"
        return {"loss": sum(losses.values()), "losses": dict(losses), "metrics": dict(metrics)}

    def gradient_checkpointing_enable(self, *arguments: Any, **options: Any) -> None:
        """For `Trainer`: the model forgets activations and computes them again."""
        self.model.gradient_checkpointing_enable(*arguments, **options)

    def activation_checkpointing_enable(self, *arguments: Any, **options: Any) -> None:
        """The same by the newer name."""
        self.model.activation_checkpointing_enable(*arguments, **options)

    def train(self, mode: bool = True) -> Learner:
        """Training mode, but for the parts that are frozen: no dropout there, and no running
        statistics that move."""
        super().train(mode)
        if mode:
            _rest(self)
        return self


def _rest(module: nn.Module) -> None:
    """Put every part that has parameters, none of which learns, in evaluation mode."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
    elif not isinstance(module, _BatchNorm):
        for child in module.children():
            _rest(child)
