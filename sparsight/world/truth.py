"""The truth of a scene as plain values and as words, for files and sheets."""

from __future__ import annotations

from typing import Any

from sparsight.world.scene import ACTIONS, Event, Look, Scene, Thing, boxes


def names(scene: Scene) -> list[str]:
    """What each thing is called: its phrase, with a number where several share one."""
    phrases = [thing.look.phrase for thing in scene.things]
    return [
        f"{phrase} {phrases[:place].count(phrase) + 1}" if phrases.count(phrase) > 1 else phrase
        for place, phrase in enumerate(phrases)
    ]


def sentence(scene: Scene, event: Event) -> str:
    """An event in words: "red ring moves left", "horse blinks 3 times"."""
    called = names(scene)
    other = "" if event.other is None else f"the {called[event.other]}"
    does = ACTIONS[event.action].format(detail=event.detail, other=other)
    often = f" {event.times} times" if event.times > 1 else ""
    return f"{called[event.thing]} {does}{often}"


def truth(scene: Scene) -> dict[str, Any]:
    """Everything that is known of a scene, ready for JSON.

    Seconds throughout. `boxes` holds for each thing and each frame [x0, y0, x1, y1] in percent of
    the picture, cut off at its edges, or None while the thing is not in it.
    """
    return {
        "split": scene.split,
        "seed": scene.seed,
        "frames": scene.frames,
        "fps": scene.fps,
        "duration": scene.duration,
        "things": [
            _thing(thing, name, scene.duration)
            for thing, name in zip(scene.things, names(scene), strict=True)
        ],
        "events": [_event(scene, event) for event in scene.events],
        "sounds": [
            {"what": sound.name, "thing": sound.thing, "start": sound.start, "end": sound.end}
            for sound in scene.sounds
        ],
        "narration": [
            {"text": said.text, "thing": said.thing, "start": said.start, "end": said.end}
            for said in scene.narration
        ],
        "cuts": list(scene.cuts),
        "boxes": percent_boxes(scene),
    }


def percent_boxes(scene: Scene) -> list[list[list[float] | None]]:
    """For each thing and frame its box in percent, or None while it is not in the picture."""
    found = boxes(scene, scene.times).transpose(1, 0, 2)
    clipped = (100 * found.clip(0, 1)).round(1)
    inside = (clipped[..., 0] < clipped[..., 2]) & (clipped[..., 1] < clipped[..., 3])
    return [
        [box if seen else None for box, seen in zip(row, there, strict=True)]
        for row, there in zip(clipped.tolist(), inside.tolist(), strict=True)
    ]


def _thing(thing: Thing, name: str, duration: float) -> dict[str, Any]:
    return {
        "name": name,
        "looks": [
            {"start": start, **_look(look)}
            for start, look in zip(thing.looks.times, thing.looks.values, strict=True)
        ],
        "shown": [
            [max(0.0, start), min(duration, end)]
            for start, end in thing.shown
            if start < duration and end > 0
        ],
    }


def _look(look: Look) -> dict[str, Any]:
    return {"kind": look.kind, "name": look.name, "color": look.color}


def _event(scene: Scene, event: Event) -> dict[str, Any]:
    return {
        "what": sentence(scene, event),
        "action": event.action,
        "thing": event.thing,
        "start": event.start,
        "end": event.end,
        "detail": event.detail,
        "other": event.other,
        "times": event.times,
        "cause": event.cause,
    }
