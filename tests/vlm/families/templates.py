"""Chat templates shaped like those of the hub's checkpoints."""

from __future__ import annotations


def _each(kind: str, written: str) -> str:
    pick = "message['content'] | selectattr('type', 'equalto', '" + kind + "')"
    return "{% for content in " + pick + " %}" + written + "{% endfor %}"


_TURN = "{{ content['text'] + ' ' }}"
_TEXT = (
    "{% if message['role'] != 'assistant' %}"
    + _each("text", _TURN)
    + "{% else %}"
    + _each("text", "{% generation %}" + _TURN + "{% endgeneration %}")
    + "{% endif %}"
)


def vicuna(*media: str) -> str:
    """LLaVA-1.5, LLaVA-NeXT (Vicuna), LLaVA-NeXT-Video, Video-LLaVA: "USER: ... ASSISTANT:"."""
    written = "".join(_each(kind, "{{ '<" + kind + ">\\n' }}") for kind in media)
    return (
        "{% for message in messages %}{% if message['role'] != 'system' %}"
        "{{ message['role'].upper() + ': ' }}{% endif %}"
        + written
        + _TEXT
        + "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    )


def chatml(*media: str) -> str:
    """LLaVA-OneVision, FastVLM: "<|im_start|>user ... <|im_end|>"."""
    written = "".join(_each(kind, "{{ '<" + kind + ">' }}") for kind in media)
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
        + written
        + _each("text", "{{ '\\n' + content['text'] }}")
        + "{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
