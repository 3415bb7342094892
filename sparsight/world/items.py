"""The world's exams as items that any model can be asked."""

from __future__ import annotations

from functools import partial

from sparsight.bench.item import Item
from sparsight.world.exam import exam
from sparsight.world.examine import clip_of
from sparsight.world.tasks.question import score

RIGHT = 0.5  # a score from which an answer counts as right, as in `tasks.question.right`


def exam_items(
    task: str,
    count: int,
    seed: int = 0,
    side: int = 112,
    split: str = "test",
    frames: str | None = "all",
) -> list[Item]:
    """`count` questions of a task of the world, each about a scene of its own that is painted
    when it is asked about. The first of a higher count are those of a lower one.

    Args:
        task, split, seed: as in `sparsight.world.exam.exam`.
        side: pixels of the shorter side.
        frames: which frames of a film are looked at where a plan does not say.

    Raises `UserError` as `exam` does.
    """
    return [
        Item(
            id=f"{split}-{task}-{seed}-{place:05d}-{side}px",
            task=task,
            media=(partial(clip_of, item.scene, side),),
            question=item.question.text,
            answer=item.question.answer,
            score=partial(score, item.question),
            passes=RIGHT,
            frames=frames,
        )
        for place, item in enumerate(exam(task, split, count, seed=seed))
    ]
