"""One stage under transformers' `Trainer`: what it is given, and what it does differently.

Different are the optimiser's groups (rates by pattern), the losses and metrics that are logged,
and the checkpoints (whole or not there). The loop, accumulation, clipping, autocast, DDP, FSDP
and the data loader are `Trainer`'s and accelerate's.
"""

from __future__ import annotations

import copy
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from sparsight.core.errors import UserError
from sparsight.measure.memory import give_back_freed, is_scarce, peak_bytes
from sparsight.train import checkpoints
from sparsight.train.data import Drawn, Stream
from sparsight.train.faults import NotFiniteError, full_disk
from sparsight.train.logs import Log, Meter, means, merged
from sparsight.train.objective import Learner
from sparsight.train.optimizers import optimizer
from sparsight.train.parameters import Pace, canonical, groups_of
from sparsight.train.recipe import Recipe, Stage
from sparsight.train.schedule import share

#: So many skipped samples are named; the rest are counted.
MOST_WARNINGS = 20
_LOG = logging.getLogger("sparsight.train")


class Collator:
    """Samples drawn from a stream -> the objective's batch, beside what was skipped."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        skipped = [(item.number, item.reason) for one in drawn for item in one.skipped]
        return {"batch": self.collate([one.sample for one in drawn]), "skipped": skipped}


def arguments(recipe: Recipe, stage: Stage, folder: Path, seed: int, cpu: bool) -> Any:
    """The `TrainingArguments` of a stage. cpu: keep off a GPU that is there."""
    cuda = torch.cuda.is_available() and not cpu
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": stage.steps,
        "per_device_train_batch_size": stage.batch,
        "gradient_accumulation_steps": stage.accumulate,
        "max_grad_norm": stage.clip,
        "bf16": stage.precision == "bfloat16",
        "seed": seed,
        "use_cpu": cpu or not (cuda or torch.backends.mps.is_available()),
        "logging_steps": stage.log_every,
        "logging_nan_inf_filter": False,  # it would wait for the device at each step
        "save_steps": stage.save_every,
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": [],
        "dataloader_num_workers": stage.workers,
        "dataloader_pin_memory": cuda,
        "accelerator_config": {"non_blocking": cuda},
        "ddp_find_unused_parameters": True,
    }
    if stage.workers:
        given["dataloader_multiprocessing_context"] = "fork"  # a recipe need not be picklable
    try:
        # a copy, since transformers writes into what it is given
        made = TrainingArguments(**{**given, **copy.deepcopy(dict(recipe.trainer))})
    except TypeError as error:
        raise UserError(f"`trainer` of the recipe: {error}") from None
    if made.n_gpu > 1:  # several GPUs are for torchrun; DataParallel would slow one down
        made._n_gpu = 1
    return made


class StageTrainer(Trainer):
    """A `Trainer` for one stage of a recipe."""

    optimizer: Any
    lr_scheduler: Any
    control: Any

    def __init__(
        self,
        stage: Stage,
        learner: Learner,
        stream: Stream,
        args: Any,
        paces: Mapping[str, Pace],
        log: Log,
        learned: set[str],
    ) -> None:
        """Args:
        paces: how each learning parameter learns, by canonical name.
        log: where each line goes.
        learned: canonical names of the parameters that this run has changed or may change;
            only these, and all buffers, go into checkpoints.
        """
        self.stage = stage
        self.paces = paces
        self.journal = log
        self.learned = learned
        self.meter = Meter(args.device)
        self.skipped = 0  # samples that could not be read, on all processes up to the last log line
        self.good: Path | None = None  # the last good checkpoint
        self._run_dir: Path | None = None
        self._since = (time.perf_counter(), 0)
        super().__init__(
            model=learner,
            args=args,
            train_dataset=stream,
            data_collator=Collator(learner.objective.collate),
        )
        self.callback_handler.callbacks = [
            callback
            for callback in self.callback_handler.callbacks
            if type(callback).__name__ not in ("PrinterCallback", "ProgressCallback")
        ]

    # ---- order, optimiser, schedule ------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self.train_dataset)  # the stream has its order already

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            if self.stage.muon and self.is_fsdp_enabled:
                raise UserError(
                    f"stage {self.stage.name!r}: Muon needs whole matrices, which FSDP cuts: "
                    "leave out `muon`, or train without FSDP"
                )
            groups = groups_of(self.model if model is None else model, self.paces)
            fused = self.args.device.type in ("cpu", "cuda")
            self.optimizer = optimizer(groups, self.stage.betas, fused)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            stage = self.stage
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer,
                lambda step: share(step, stage.steps, stage.schedule, stage.warmup, stage.floor),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # ---- losses --------------------------------------------------------------------------------

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        """What the losses of this step are means over, all batches and processes together."""
        if self.args.world_size * self.stage.accumulate == 1:
            return None  # the batch's own mean is the step's
        counts = [self._count(item["batch"]) for item in batch_samples]
        if not counts or any(item is None for item in counts):
            return None
        total = sum(counts)
        if self.args.world_size == 1:
            return total
        if not isinstance(total, Tensor):
            total = torch.full((), float(total), device=device)
        return self.accelerator.reduce(total.to(device).float())

    def _count(self, batch: Any) -> Any:
        return self.accelerator.unwrap_model(self.model).objective.count(batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        self._note_skipped(inputs["skipped"])
        out = model(batch=inputs["batch"])
        loss, weight = out["loss"], 1.0
        if num_items_in_batch is not None:
            weight = self._count(inputs["batch"]) / num_items_in_batch * self.args.world_size
            # `Trainer` will divide by the batches of the step
            loss = loss * weight * self.current_gradient_accumulation_steps
        self._note(out, weight)
        if loss.device.type == "cpu" and not loss.isfinite():
            raise NotFiniteError(self._not_finite("the loss"))
        return (loss, out) if return_outputs else loss

    def _note(self, out: Mapping[str, Any], weight: Tensor | float) -> None:
        named: dict[str, Tensor] = {"loss": out["loss"], **_prefixed("loss", out["losses"])}
        for name, value in named.items():
            self.meter.add(name, value.detach() * weight, weight)
        for name, value in out["metrics"].items():
            total, count = value if isinstance(value, tuple) else (value, 1.0)
            self.meter.add(name, total, count)

    def _note_skipped(self, skipped: Sequence[tuple[int, str]]) -> None:
        for number, reason in skipped:
            self.skipped += 1
            if self.skipped <= MOST_WARNINGS:
                text = f"stage {self.stage.name}: sample {number} is skipped: {reason}"
                last = self.skipped == MOST_WARNINGS
                _LOG.warning(text + (" (further ones are only counted)" if last else ""))
                self.journal.add(
                    {
                        "stage": self.stage.name,
                        "step": self.state.global_step + 1,
                        "skipped_sample": number,
                        "reason": reason,
                    }
                )

    # ---- the log -------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """`Trainer` calls this every `log_every` steps, and once at the end without a loss."""
        if "loss" not in logs:
            return
        sums = self._gathered(self.meter.read())
        self.meter.clear()
        found = means(sums)
        losses = {name: value for name, value in found.items() if name.split("/")[0] == "loss"}
        bad = [name for name, value in losses.items() if not math.isfinite(value)]
        if bad:
            raise NotFiniteError(self._not_finite(" and ".join(bad)))
        now, step = time.perf_counter(), self.state.global_step
        began, before = self._since
        self._since = (now, step)
        samples = (step - before) * self.stage.batch * self.stage.accumulate * self.args.world_size
        record = {
            "stage": self.stage.name,
            "step": step,
            **found,
            **self._rates(step),
            **{name: logs[name] for name in ("grad_norm",) if name in logs},
            "samples_per_second": round(samples / max(now - began, 1e-9), 2),
            "memory_mib": round(peak_bytes(self.args.device) / 2**20),
            "skipped": self._total(self.skipped),
        }
        if self.is_world_process_zero():
            self.journal.add(record)
        if self.args.device.type == "cpu" and is_scarce():
            give_back_freed()
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, record)

    def _rates(self, step: int) -> dict[str, float]:
        """The learning rate of step `step` (from 1) by pattern; as "rate" where it is one."""
        stage = self.stage
        now = share(step - 1, stage.steps, stage.schedule, stage.warmup, stage.floor)
        rates = {pace.pattern: pace.rate * now for pace in self.paces.values()}
        return _prefixed("rate", rates) or {"rate": next(iter(rates.values()))}

    def _gathered(self, sums: dict[str, Any]) -> dict[str, tuple[float, float]]:
        if self.args.world_size == 1:
            return sums
        from accelerate.utils import gather_object

        return merged(gather_object([sums]))

    def _total(self, count: int) -> int:
        """A count over all processes."""
        if self.args.world_size == 1:
            return count
        from accelerate.utils import gather_object

        return sum(gather_object([count]))

    def _not_finite(self, what: str) -> str:
        step = self.state.global_step
        kept = "there is no checkpoint yet" if self.good is None else f"the last good: {self.good}"
        return (
            f"{what} is not a finite number after step {step} of stage {self.stage.name!r} "
            f"({kept}): lower the rates, raise warmup, or look for bad data"
        )

    # ---- checkpoints ---------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._run_dir or self.args.output_dir)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """`Trainer`'s checkpoint, written beside and put in place when it is whole."""
        self._refuse_bad_weights()
        folder, step = Path(self.args.output_dir), self.state.global_step
        target = checkpoints.named(folder, self.stage.name, step)
        part = target.with_name(f".{target.name}.part")
        main = self.is_world_process_zero()
        if main:
            checkpoints.remove(part)
            part.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self._run_dir = part
        try:
            super()._save_checkpoint(model, trial)
            sums, skipped = self._gathered(self.meter.read()), self._total(self.skipped)
            self.accelerator.wait_for_everyone()
            if main:
                written = part / f"checkpoint-{step}"
                checkpoints.write_note(written, {"sums": sums, "skipped": skipped})
                checkpoints.sync(written)
                checkpoints.put(written, target)
                checkpoints.prune(folder, keep=target)
        except Exception as error:
            shutil.rmtree(part, ignore_errors=True)
            raise full_disk(error, f"the checkpoint of step {step}", self.good) from error
        finally:
            self._run_dir = None
        self.good = target
        self.accelerator.wait_for_everyone()

    def _refuse_bad_weights(self) -> None:
        """A checkpoint with a NaN in it must never take a good one's place."""
        sums = [p.detach().sum() for p in self.model.parameters() if p.requires_grad and p.numel()]
        if not all_finite(sums):
            raise NotFiniteError(self._not_finite("a weight"))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The whole weights in one file, also where FSDP has its own files of shards beside."""
        if self.is_fsdp_enabled:
            self._save(output_dir, self.accelerator.get_state_dict(self.model))
        else:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        assert output_dir is not None
        learner: Any = self.model
        state = learner.state_dict() if state_dict is None else state_dict
        parameters = {name for name, _ in learner.named_parameters(remove_duplicate=False)}
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        kept = {
            name: value.contiguous()
            for name, value in untied(state).items()
            if name not in parameters or canonical(name) in self.learned
        }
        safetensors.torch.save_file(kept, Path(output_dir, "model.safetensors"), {"format": "pt"})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_learned(self.model, Path(resume_from_checkpoint))

    def go_on(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Take over what a checkpoint says beside weights and optimiser."""
        note = checkpoint.read()
        self.good = checkpoint.folder
        self._since = (time.perf_counter(), checkpoint.step)
        if self.is_world_process_zero():
            self.skipped = note["skipped"]
            self.meter.write(note["sums"])


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}/{name}": value for name, value in values.items()} if len(values) > 1 else {}


def untied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state without second names of one tensor: the first name stays."""
    seen: set[tuple[Any, ...]] = set()
    kept = {}
    for name, value in state.items():
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = value
    return kept


def all_finite(values: Sequence[Tensor]) -> bool:
    """Whether scalars on one device are all finite; waits for the device once."""
    local = [value.full_tensor() if hasattr(value, "full_tensor") else value for value in values]
    return bool(torch.stack([value.float() for value in local]).isfinite().all())


def load_learned(learner: nn.Module, folder: Path) -> set[str]:
    """Put a checkpoint's tensors into a learner; returns the parameters' canonical names."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    unknown = learner.load_state_dict(state, strict=False).unexpected_keys
    assert not unknown, f"the checkpoint holds {unknown[0]}, which the recipe's model has not"
    return {canonical(name) for name in state}
