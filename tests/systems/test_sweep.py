"""Every registered system on every family: it works, or says in one line what is missing."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import sparsight
from sparsight.core.clip import Clip
from sparsight.core.errors import UserError
from sparsight.core.plan import Plan
from sparsight.core.registry import count_of
from sparsight.core.reply import Reply, TokenMap
from sparsight.core.tokens import VisualTokens
from sparsight.measure.flops import decoder_shape
from sparsight.measure.memory import kv_bytes
from sparsight.vlm.families import family_of, model_types
from sparsight.vlm.families.base import FILM, MIXED, PICTURE, PICTURES, Family
from sparsight.vlm.pipeline import VLM, Prepared
from sparsight.vlm.prompt import pad
from tests.vlm.tiny import FAMILIES, Recipe, checkpoint, film, picture, user

PICTURE_1, PICTURE_2 = picture(40, 56, 1), picture(33, 24, 2)
MOVIE = Clip.from_frames(film(32, 48, 1, frames=4), fps=2.0, origin="film")
QUESTION = "what is in it ?"
NEW = 2

# ---- the families ------------------------------------------------------------------------------


def recipes() -> dict[str, Recipe]:
    """The first recipe of each family in the families' own tests, by the family's name."""
    found: dict[str, Recipe] = {}
    for path in sorted(FAMILIES.glob("test_*.py")):
        for value in vars(importlib.import_module(path.stem)).values():
            if isinstance(value, type) and issubclass(value, Recipe) and hasattr(value, "family"):
                found.setdefault(value.family.name, value())
    return found


RECIPES = recipes()
EVERYWHERE = frozenset(family_of(kind).name for kind in model_types())
CLS = frozenset({"llava", "llava-next", "llava-next-video", "video-llava", "internvl"})
BLOCKS = CLS | {"llava-onevision", "smolvlm"}
SQUARE = BLOCKS | {"fast-vlm"}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VLM]:
    """`models(family, dtype)`: a random checkpoint, made once."""
    made: dict[tuple[str, torch.dtype], VLM] = {}

    def get(name: str, dtype: torch.dtype = torch.float32) -> VLM:
        if (name, dtype) not in made:
            if dtype == torch.float32:
                recipe = RECIPES[name]
                with pytest.MonkeyPatch.context() as patch:  # their processor is not needed here
                    patch.setattr(recipe, "processor", lambda *_: None)
                    family = checkpoint(recipe, tmp_path_factory.mktemp(name)).family
            else:
                whole = get(name).family
                model = copy.deepcopy(whole.model).to(dtype)
                family = type(whole)(model, whole.tokenizer, whole.settings)
            made[name, dtype] = VLM(family, Plan(name))
        return made[name, dtype]

    return get


@pytest.fixture(scope="session")
def plain(models: Callable[..., VLM]) -> Callable[[str, str], Reply]:
    """`plain(family, media)`: what the model says without any system."""
    known: dict[tuple[str, str], Reply] = {}

    def get(name: str, media: str) -> Reply:
        if (name, media) not in known:
            known[name, media] = models(name).ask(MEDIA[media], QUESTION, max_tokens=NEW)
        return known[name, media]

    return get


# ---- the systems -------------------------------------------------------------------------------

Kept = Callable[[TokenMap, TokenMap], bool]


def halves(share: float) -> Kept:
    """That share of each medium, separators aside."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        count = int((item.kept_view >= 0).sum())
        return count == count_of(share, int((whole.view >= 0).sum()))

    return check


def at_most(share: float) -> Kept:
    """At most that share of each view, and something of each."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        counts = item.kept_view[item.kept_view >= 0].bincount()
        sizes = whole.view[whole.view >= 0].bincount()
        return len(counts) == len(sizes) and all(
            1 <= count <= count_of(share, size)
            for count, size in zip(counts.tolist(), sizes.tolist(), strict=True)
        )

    return check


def each_view(share: float) -> Kept:
    """Exactly that share of each view."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        counts = item.kept_view[item.kept_view >= 0].bincount().tolist()
        sizes = whole.view[whole.view >= 0].bincount().tolist()
        return counts == [count_of(share, size) for size in sizes]

    return check


def of_film(kept: Kept) -> Kept:
    """That of a film; a picture stays whole."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        return (kept if "frame" in item.role else all_of_it)(item, whole)

    return check


def windows(share: float) -> Kept:
    """The first of every four frames whole, that share of the others."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        counts = item.kept_view[item.kept_view >= 0].bincount().tolist()
        sizes = whole.view[whole.view >= 0].bincount().tolist()
        wanted = [int(size * share) if at % 4 else size for at, size in enumerate(sizes)]
        return counts == wanted

    return check


def no_more(item: TokenMap, whole: TokenMap) -> bool:
    """No more than there were, and something of each medium."""
    return 0 < len(item.kept) <= len(whole.box)


def fewer(item: TokenMap, whole: TokenMap) -> bool:
    """Something of each view, but not all of them; how much depends on the content."""
    views = item.kept_view[item.kept_view >= 0]
    whole_views = whole.view[whole.view >= 0]
    return len(views) < len(whole_views) and torch.equal(views.unique(), whole_views.unique())


def no_more_than(count: int) -> Kept:
    """So many tokens at most, and something."""
    return lambda item, _: 0 < len(item.kept) <= count


def chosen_frames(count: int) -> Kept:
    """All tokens of so many frames."""
    return lambda item, whole: len(item.frames) == count and len(item.kept) == len(item.box)


def rounded_down(share: float) -> Kept:
    """That share of each medium, but for less than a token a view."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        wanted = count_of(share, int((whole.view >= 0).sum()))
        return wanted - len(item.role) < int((item.kept_view >= 0).sum()) <= wanted

    return check


def about(share: float) -> Kept:
    """That share of each medium, but for a token a view."""

    def check(item: TokenMap, whole: TokenMap) -> bool:
        wanted = share * int((whole.view >= 0).sum())
        return abs(int((item.kept_view >= 0).sum()) - wanted) < len(item.role) + 1

    return check


def pairs_of_views(item: TokenMap, whole: TokenMap) -> bool:
    return item.kept_view.bincount().tolist() == [2] * len(item.role)


def all_of_it(item: TokenMap, whole: TokenMap) -> bool:
    return len(item.kept) == len(whole.box)


@dataclass(frozen=True)
class Case:
    """How a system is tried.

    knobs     the setting that is tried
    nothing   the setting that keeps everything
    kept      whether one medium's tokens are as many as the setting says
    families  those that can supply what the system needs
    packs     it packs in its own way, without separators: keeping everything is then the
              projected features row by row, not the family's own packing
    saves     whether the LLM has less to read
    selects   it chooses the frames
    second    it reads a second prompt along, which costs a little instead of saving
    packed    it caches in few bits
    """

    knobs: dict[str, Any]
    nothing: dict[str, Any]
    kept: Kept
    families: frozenset[str] = EVERYWHERE
    packs: bool = False
    saves: bool = True
    selects: bool = False
    second: bool = False
    packed: bool = False
    missing: str = ""
    media: tuple[str, ...] = field(default=("mixed", "pictures"))


FILMS = ("mixed", "film")
HALF = {"keep": 0.5}
ALL = {"keep": 1.0}
CASES = {
    "random": Case(HALF, ALL, halves(0.5)),
    "uniform": Case(HALF, ALL, halves(0.5)),
    "pool": Case(HALF, ALL, at_most(0.5)),
    "downsample": Case(HALF, ALL, at_most(0.5)),
    "divprune": Case(HALF, ALL, halves(0.5)),
    "fastervlm": Case(HALF, ALL, each_view(0.5), CLS, missing="cls attention"),
    "fastv": Case({**HALF, "layer": 1}, {**ALL, "layer": 1}, all_of_it),
    "pyramiddrop": Case({"layers": (1,)}, {"keep": 1.0, "layers": (1,)}, all_of_it),
    "sparsevlm": Case(
        {"layers": (1,), "counts": (1,)}, {"layers": (1,), "counts": (9999,)}, all_of_it
    ),
    "gsearch": Case({"keep": 0.7}, ALL, all_of_it),
    "adatoken-3d": Case({"layers": (1,), "ratios": (0.5,)}, {"eps": 0.0}, all_of_it),
    "evs": Case(HALF, ALL, of_film(halves(0.5)), media=FILMS),
    "vidcom2": Case(HALF, ALL, of_film(halves(0.5)), media=FILMS),
    "dycoke": Case(
        {"rate": 0.5, "layer": 1},
        {"rate": 0.0, "forget": 0.0},
        of_film(windows(0.5)),
        media=FILMS,
    ),
    "flashvid": Case(
        {**HALF, "layer": 1, "score": "none"},
        {**ALL, "layer": 1, "inside": 1.0, "score": "none"},
        of_film(fewer),
        media=FILMS,
    ),
    "prunevid": Case(
        {**HALF, "static": 0.0, "layer": 1, "inside": 0.5},
        {**ALL, "static": 1.0, "layer": 1, "inside": 1.0},
        of_film(no_more),
        media=FILMS,
    ),
    "yopo": Case({"skip": (0, 1)}, {"through": 1.0, "alone": False}, all_of_it),
    "tome": Case({"r": 2}, {"r": 0}, all_of_it, BLOCKS, saves=False, missing="tower blocks"),
    "pllava": Case(
        {"shape": (2, 1, 2), "frames": 4},
        {"shape": (99, 99, 99), "frames": 1},
        lambda item, _: len(item.kept) == 4,
        packs=True,
    ),
    "ts-llava": Case(
        {"frames": 2, "thumbnail": 2, "samples": 3},
        {"frames": 4, "thumbnail": 0, "samples": 9999},
        # three sampled ones and the whole thumbnail, beside two frames
        lambda item, _: len(item.role) == 3 and len(item.kept) > 3,
        SQUARE,
        packs=True,
        selects=True,
        missing="square views",
        media=("film",),
    ),
    "tstar": Case(
        {"frames": 2, "rate": 2.0, "grid": (1, 2), "budget": 1.0},
        {"frames": 4, "rate": 2.0},
        of_film(chosen_frames(2)),
        selects=True,
        media=FILMS,
    ),
    "quota": Case(
        {"keep": 3, "newline": "none", "names": "words"},
        {"keep": 1.0, "version": "v2", "newline": "none", "names": "none"},
        of_film(no_more_than(3)),
        packs=True,
        selects=True,
        media=FILMS,
    ),
    "visionzip": Case(HALF, ALL, each_view(0.5), CLS, missing="cls attention"),
    "prumerge": Case(
        {**HALF, "adaptive": False},
        {**ALL, "adaptive": False},
        each_view(0.5),
        CLS,
        missing="cls attention joined",
    ),
    "vispruner": Case(HALF, ALL, each_view(0.5), CLS, missing="cls attention"),
    "cdpruner": Case(HALF, ALL, each_view(0.5)),
    "hired": Case(HALF, ALL, rounded_down(0.5), CLS, missing="cls attention"),
    "fourier-vlm": Case({"grid": (1, 2)}, {"ratio": 1.0}, pairs_of_views, packs=True),
    "damro": Case(
        {"k": 1},
        {"k": 1, "alpha": 0.0, "beta": 0.0},
        all_of_it,
        CLS,
        second=True,
        missing="cls attention",
    ),
    "intp": Case(
        {"clips": 2, "frames": 2, "stretch": 2.0, "bits": 4, "group": 8, "window": 8},
        {"clips": 1, "frames": 4, "bits": 16},
        all_of_it,
        packed=True,
        selects=True,
        media=("mixed", "film"),
    ),
    "explain-compress": Case(HALF, ALL, halves(0.5)),
    "llavolta": Case({"layer": 1, "stride": 2}, {"layer": 1, "stride": 1}, all_of_it),
    "holitom": Case(
        {"keep": 0.25, "layer": 1},
        {**ALL, "tau": 1.0, "inner": 0.0},
        about(0.25),
        BLOCKS,
        missing="received attention",
        media=("mixed", "pictures", "film"),
    ),
}

#: Systems that answer by several calls, which have no one prompt to look into, and a setting.
PIPELINES: dict[str, dict[str, Any]] = {"llovi": {"prompt": "standard"}}

MEDIA: dict[str, list[Any]] = {
    "mixed": [PICTURE_1, MOVIE],
    "pictures": [PICTURE_1, PICTURE_2],
    "film": [MOVIE],
    "picture": [PICTURE_1],
}
NEEDED = {
    "mixed": {PICTURE, FILM, MIXED},
    "pictures": {PICTURES},
    "film": {FILM},
    "picture": {PICTURE},
}

WORKING = [
    pytest.param(system, family, id=f"{system}-{family}")
    for system, case in CASES.items()
    for family in sorted(case.families)
]
REFUSED = [
    pytest.param(system, family, id=f"{system}-{family}")
    for system, case in CASES.items()
    for family in sorted(EVERYWHERE - case.families)
]


def test_every_registered_system_and_every_family_is_swept() -> None:
    assert {*CASES, *PIPELINES} == set(sparsight.catalogue())
    assert set(RECIPES) == EVERYWHERE


@pytest.mark.parametrize(("system", "family"), REFUSED)
def test_a_family_that_cannot_supply_a_need_says_so_in_one_line(
    models: Callable[..., VLM], system: str, family: str
) -> None:
    vlm = models(family)
    with pytest.raises(UserError) as caught:
        vlm.using(system, **CASES[system].knobs)
    assert str(caught.value) == (
        f"{system} needs {CASES[system].missing}, which {vlm.family.label} cannot supply"
    )


# ---- what every system must satisfy ------------------------------------------------------------


@torch.inference_mode()
def logits(vlm: VLM, prepared: Prepared) -> Tensor:
    """The logits of a prompt under the plan."""
    model = vlm.family.model
    batch = pad([prepared.prompt], model.get_input_embeddings()(torch.tensor(0)))
    with vlm.driving(batch):
        return model(
            inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions
        ).logits


@torch.inference_mode()
def prepare(vlm: VLM, media: Sequence[Any]) -> Prepared:
    return vlm.prepare([[user(*media, QUESTION)]])[0]


@torch.inference_mode()
def rows_of_features(family: Family, views: Any) -> Tensor:
    """The projected features of one medium, view by view, row by row, without separators."""
    [features] = family.project(family.encode([views]))
    return features.features.flatten(0, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("system", "family"), WORKING)
def test_keeping_everything_is_bit_identical(
    models: Callable[..., VLM], system: str, family: str, dtype: torch.dtype
) -> None:
    case = CASES[system]
    vlm = models(family, dtype)
    whole = prepare(vlm.using(system, **case.nothing), MEDIA["film"])
    assert whole.prompt.embeds.dtype == dtype
    if case.packs:
        expected = rows_of_features(vlm.family, whole.seen[0].views)
        assert torch.equal(whole.media[0].kept.embeds, expected)
        return
    reference = prepare(vlm, MEDIA["film"])
    assert torch.equal(whole.prompt.embeds, reference.prompt.embeds)
    assert torch.equal(whole.prompt.positions, reference.prompt.positions)
    under = logits(vlm.using(system, **case.nothing), whole)
    assert torch.equal(under, logits(vlm, reference))


def assert_reduced(case: Case, reply: Reply, whole: Reply, vlm: VLM) -> None:
    """Counts as the setting says, order kept, text kept, the cache as short as it must be."""
    if not case.selects:  # some families write a line for every frame
        assert reply.usage.prompt - reply.usage.visual_kept == (
            whole.usage.prompt - whole.usage.visual_kept
        )
    for item, full in zip(reply.maps, whole.maps, strict=True):
        assert case.kept(item, full), (len(item.kept), len(full.box))
        assert item.kept.diff().gt(0).all()
        if not case.packs:
            separators = ((item if case.selects else full).view < 0).nonzero()[:, 0]
            assert torch.isin(separators, item.kept).all()
    shape = decoder_shape(vlm.family.decoder.config)
    text = reply.usage.prompt - reply.usage.visual_kept
    lived = torch.cat([item.layers for item in reply.maps])
    layers = [
        text + int((lived > layer).sum()) + reply.usage.answer - 1 for layer in range(shape.layers)
    ]
    held = kv_bytes(shape, layers, value_bytes=4)
    if case.second:
        assert held < reply.kv_bytes <= 2 * held
        assert whole.flops.prefill < reply.flops.prefill <= 2 * whole.flops.prefill
        return
    if case.packed:
        assert reply.kv_bytes < held
        return
    assert reply.kv_bytes == held
    if case.saves:
        assert reply.kv_bytes < whole.kv_bytes
        assert reply.flops.prefill < whole.flops.prefill
    else:
        assert reply.flops.tower < whole.flops.tower


@pytest.mark.parametrize(("system", "family"), WORKING)
def test_tokens_are_saved_in_order_and_the_same_ones_again(
    models: Callable[..., VLM], plain: Callable[[str, str], Reply], system: str, family: str
) -> None:
    case, vlm = CASES[system], models(family)
    fast = vlm.using(system, **case.knobs)
    for media in case.media:
        if not NEEDED[media] <= vlm.family.supports:
            continue
        reply = fast.ask(MEDIA[media], QUESTION, max_tokens=NEW)
        assert_reduced(case, reply, plain(family, media), fast)
    again = fast.ask(MEDIA[media], QUESTION, max_tokens=NEW)
    assert again.tokens == reply.tokens
    for one, two in zip(again.maps, reply.maps, strict=True):
        assert torch.equal(one.kept, two.kept)
        assert torch.equal(one.layers, two.layers)


@pytest.mark.parametrize(("system", "family"), WORKING)
def test_a_row_of_a_batch_equals_the_row_alone(
    models: Callable[..., VLM], system: str, family: str
) -> None:
    case = CASES[system]
    fast = models(family).using(system, **case.knobs)
    rows = [[user(MOVIE, QUESTION)], [user(MOVIE, "where is the red cat in it ? one word .")]]
    if "pictures" in case.media:
        rows[1] = [user(PICTURE_1, "where is the red cat in it ? one word .")]
        rows.append([user("where is the cat ?")])
    for row, reply in zip(rows, fast.chat_batch(rows, max_tokens=NEW), strict=True):
        alone = fast.chat(row, max_tokens=NEW)
        assert reply.tokens == alone.tokens
        assert reply.usage == alone.usage
        for one, two in zip(reply.maps, alone.maps, strict=True):
            assert torch.equal(one.kept, two.kept)
            assert torch.equal(one.layers, two.layers)


BY_CLS: dict[str, dict[str, Any]] = {
    "fastervlm": HALF,
    "visionzip": HALF,
    "prumerge": {**HALF, "adaptive": False},
    "vispruner": HALF,
    "hired": HALF,
    "damro": {"k": 1},
}


@pytest.mark.parametrize("family", sorted(BLOCKS - CLS))
@pytest.mark.parametrize("system", BY_CLS)
def test_towers_without_cls_take_the_substitute(
    models: Callable[..., VLM], plain: Callable[[str, str], Reply], system: str, family: str
) -> None:
    knobs = {**BY_CLS[system], "score": "received"}
    fast = models(family).using(system, **knobs)
    reply = fast.ask(MEDIA["mixed"], QUESTION, max_tokens=NEW)
    assert_reduced(CASES[system], reply, plain(family, "mixed"), fast)
    again = fast.ask(MEDIA["mixed"], QUESTION, max_tokens=NEW)
    assert again.tokens == reply.tokens


@pytest.mark.parametrize("family", sorted(EVERYWHERE))
def test_a_systems_dropping_inside_the_llm_is_exact(
    models: Callable[..., VLM], family: str
) -> None:
    vlm = models(family)
    depth = len(vlm.family.decoder.layers)  # type: ignore[arg-type]
    reply = vlm.using("fastv", keep=3, layer=1).ask([MOVIE], QUESTION, max_tokens=1)
    [item] = reply.maps
    real = item.kept_view >= 0
    assert sorted(item.layers[real].tolist()) == [1] * (int(real.sum()) - 3) + [depth] * 3


COMPOSED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "tome+fastervlm": [("tome", {"r": 2}), ("fastervlm", {"keep": 0.5})],
    "ts-llava+fastv": [
        ("ts-llava", {"frames": 4, "thumbnail": 2, "grids": 2, "samples": 6}),
        ("fastv", {"keep": 3, "layer": 1}),
    ],
    "pllava+fastv": [
        ("pllava", {"shape": (2, 2, 2), "frames": 4}),
        ("fastv", {"keep": 3, "layer": 1}),
    ],
    "fastervlm+fastv": [("fastervlm", {"keep": 4}), ("fastv", {"keep": 3, "layer": 1})],
    "evs+pyramiddrop": [("evs", {"keep": 0.6}), ("pyramiddrop", {"layers": (1,)})],
    "vidcom2+sparsevlm": [
        ("vidcom2", {"keep": 0.6}),
        ("sparsevlm", {"layers": (1,), "counts": (2,)}),
    ],
    "pllava+gsearch": [
        ("pllava", {"shape": (2, 2, 2), "frames": 4}),
        ("gsearch", {"keep": 0.7}),
    ],
    "tstar+fastervlm": [
        ("tstar", {"frames": 2, "rate": 2.0, "grid": (1, 2)}),
        ("fastervlm", {"keep": 0.5}),
    ],
    "quota+fastv": [
        ("quota", {"keep": 8, "newline": "none", "names": "none"}),
        ("fastv", {"keep": 3, "layer": 1}),
    ],
    "explain-compress+adatoken-3d": [
        ("explain-compress", {"keep": 0.6}),
        ("adatoken-3d", {"layers": (1,), "ratios": (0.5,)}),
    ],
    "intp+fastv": [
        ("intp", {"clips": 2, "frames": 2, "stretch": 2.0, "bits": 4, "group": 8, "window": 8}),
        ("fastv", {"keep": 3, "layer": 1}),
    ],
    "pllava+uniform": [("pllava", {"shape": (2, 2, 2), "frames": 4}), ("uniform", {"keep": 5})],
}


@pytest.mark.parametrize("family", ["llava", "llava-onevision", "llava-next-video", "internvl"])
@pytest.mark.parametrize("names", COMPOSED)
def test_systems_in_different_slots_compose(
    models: Callable[..., VLM], plain: Callable[[str, str], Reply], names: str, family: str
) -> None:
    fast, depth = models(family), len(models(family).family.decoder.layers)  # type: ignore[arg-type]
    for system, knobs in COMPOSED[names]:
        if system == "fastervlm" and family not in CLS:
            knobs = {**knobs, "score": "received"}
        fast = fast.using(system, **knobs)
    reply = fast.ask([MOVIE], QUESTION, max_tokens=NEW)
    [item], whole = reply.maps, plain(family, "film")
    assert reply.systems == tuple(names.split("+"))
    assert reply.kv_bytes < whole.kv_bytes
    real = item.kept_view >= 0
    if names.endswith("fastv"):
        assert (item.layers[real] == depth).sum() == 3
    if names.startswith("tome"):
        assert reply.flops.tower < whole.flops.tower
        assert each_view(0.5)(item, whole.maps[0])
    if names == "fastervlm+fastv":
        assert real.sum() == 4 * len(item.role)
    if names == "pllava+uniform":
        assert real.sum() == 5
    again = fast.ask([MOVIE], QUESTION, max_tokens=NEW)
    assert again.tokens == reply.tokens


@pytest.mark.parametrize("family", sorted(EVERYWHERE))
@pytest.mark.parametrize("system", PIPELINES)
def test_a_pipeline_answers_by_several_calls(
    models: Callable[..., VLM], system: str, family: str
) -> None:
    vlm = models(family)
    fast = vlm.using(system, **PIPELINES[system])
    for media in ("film", "picture"):
        if not NEEDED[media] <= vlm.family.supports:
            continue
        reply = fast.ask(MEDIA[media], QUESTION, max_tokens=NEW)
        assert len(reply.tokens) == NEW
        assert reply.usage.answer > NEW
        assert reply.usage.visual_kept == reply.usage.visual_seen > 0
        assert reply.flops.tower > 0
        assert fast.ask(MEDIA[media], QUESTION, max_tokens=NEW).tokens == reply.tokens


def test_encode_gives_what_a_system_leaves(models: Callable[..., VLM]) -> None:
    fast = models("llava").using("uniform", keep=5)
    tokens: list[VisualTokens] = fast.encode([MOVIE, PICTURE_1])
    assert [len(item) for item in tokens] == [5, 5]
