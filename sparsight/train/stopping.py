"""What stops a stage early, and what looks at it on the way."""

from __future__ import annotations

import random
import signal
import threading
import time
from types import FrameType
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from sparsight.train.logs import Log
from sparsight.train.objective import Learner
from sparsight.train.recipe import Stage


class Brake(TrainerCallback):
    """Stops a training after a step, with a checkpoint: at a Ctrl-C or SIGTERM, or when time is up.

    As a context it turns the signals into a wish that is granted at the end of the step. Outside
    a training, and the second time, they act at once.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.until = None if minutes is None else time.monotonic() + 60 * minutes
        self.wish: int | None = None  # the signal that came
        self._stepping = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Brake:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self.wish = self.wish is not None, number
        if again or not self._stepping:
            self.finish()

    def finish(self) -> None:
        """Raise what a signal that came would have raised; nothing if none came."""
        if self.wish == signal.SIGINT:
            raise KeyboardInterrupt
        if self.wish is not None:
            raise SystemExit(128 + self.wish)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stepping = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stepping = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        late = self.until is not None and time.monotonic() >= self.until
        stop = self.wish is not None or late
        if args.world_size > 1:  # all processes must stop at the same step
            if state.global_step % args.logging_steps:
                return control  # asking at each step would make it wait
            flag = torch.tensor(float(stop), device=args.device)
            torch.distributed.all_reduce(flag)
            stop = bool(flag)
        if stop:
            control.should_save = control.should_training_stop = True
        return control


class Checks(TrainerCallback):
    """Calls a stage's `check` every so many steps and logs what it says.

    The model is in evaluation mode meanwhile, and the random numbers of training go on as if
    nothing had been.
    """

    def __init__(self, stage: Stage, learner: Learner, log: Log) -> None:
        self.stage = stage
        self.learner = learner
        self.log = log

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        check, every = self.stage.check, self.stage.check_every
        if check is None or state.global_step % every or not state.is_world_process_zero:
            return control
        devices = [args.device] if args.device.type == "cuda" else []
        randoms = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices), torch.no_grad():
            self.learner.eval()
            found = check(self.learner.objective.parts)
        random.setstate(randoms[0])
        np.random.set_state(randoms[1])
        values = {f"check/{name}": float(value) for name, value in found.items()}
        self.log.add({"stage": self.stage.name, "step": state.global_step, **values})
        return control
