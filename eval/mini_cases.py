"""Which objects, verbs and starts ``python -m eval.mini`` asks the model for. Chosen before anything was measured.

- near and far: of the rigs' `split.json`. Far: joint sets never trained on. Near: other meshes of the collection's
  training joint sets; mini's training leaves out the twins of what is evaluated (`t4d.data.catalog.EVALUATION_TWINS`),
  and with Fox and Cow the only trained rigs of Wolf's and Bull's joint sets: these two are as unseen as the far ones.
- real3d: models from elsewhere whose joints are not those of any trained rig; they count as far.
"""

from dataclasses import dataclass, replace

#: The six verbs with the most rigs in near, far and real3d together.
VERBS = ("attack", "idle", "jump", "nod", "run", "walk")
MIDDLE = 0.4  # where in its loop a clip begins that does not begin at rest


@dataclass(frozen=True)
class Case:
    """One thing to animate.

    Attributes:
        group: "far", "near" or "real3d".
        rig: Path below the rig folder without suffix, or below real3d with it.
        verb: Canonical verb of the prompt.
        rest: The clip begins in the rest pose; otherwise in the middle of the motion.
        noun: For the prompt; "" takes the pack's.
        real: A real clip of that verb exists.
        variant: Which of the rig's clips of that verb is the real one.
    """

    group: str
    rig: str
    verb: str
    rest: bool = True
    noun: str = ""
    real: bool = True
    variant: int = 0

    @property
    def object(self) -> str:
        """Short name of the object."""
        return self.rig.rsplit("/", 1)[-1].rsplit(".", 1)[0].removesuffix("-transformed")

    @property
    def name(self) -> str:
        """Unique among cases."""
        start = "rest" if self.rest else "mid"
        return f"{self.group}/{self.object}/{self.verb.replace(' ', '_')}/{start}" + (
            f"/{self.variant}" if self.variant else ""
        )


@dataclass(frozen=True)
class Plan:
    """What is sampled.

    Attributes:
        first: Cases sampled once, with the first seed.
        more: (case, number of seeds) sampled more often.
    """

    first: tuple[Case, ...]
    more: tuple[tuple[Case, int], ...]

    def samples(self, seeds: tuple[int, ...]) -> list[tuple[Case, int]]:
        """(case, seed) in the order of work, without repeats: the first seed of every case comes first.

        Args:
            seeds: At least as many as the most asked for.
        """
        counts = {case: 1 for case in self.first}
        for case, number in self.more:
            counts[case] = max(counts.get(case, 0), number)
        return [(case, seeds[k]) for k in range(max(counts.values())) for case, number in counts.items() if k < number]


_FAR = {
    "animals_pack/Husky": ("attack", "idle", "jump", "run", "walk"),
    "cyberpunk_pack/Enemy_Flying": ("attack", "idle", "run", "walk"),
    "easy_enemies_pack/Frog": ("attack", "idle", "jump"),
    "mech_pack/George": ("attack", "idle", "jump", "nod", "run", "walk"),
    "platformer_game_pack/Crab": ("attack", "idle", "jump", "nod", "walk"),
}
REAL3D = {
    "animated/Fox.glb": ("fox", ("idle", "run", "walk")),
    "animated/RobotExpressive.glb": ("robot", ("attack", "idle", "jump", "nod", "run", "walk")),
}
KENNEY = ("animated/KenneyCharacter/KenneyCharacter.glb", "person")

REST = tuple(Case("far", rig, verb) for rig, verbs in _FAR.items() for verb in verbs) + tuple(
    Case("real3d", rig, verb, noun=noun) for rig, (noun, verbs) in REAL3D.items() for verb in verbs
)
_WALKERS = ("Husky", "Enemy_Flying", "George", "Crab", "Fox", "RobotExpressive")
_OFTEN = ("Frog/jump", *(f"{name}/walk" for name in _WALKERS))
_EIGHT = ("Husky/walk", "Frog/jump", "George/walk", "Fox/walk")
MID = tuple(
    Case("far", rig, verb, rest=False)
    for rig, verb in (
        ("animals_pack/Husky", "walk"),
        ("animals_pack/Husky", "run"),
        ("easy_enemies_pack/Frog", "jump"),
        ("mech_pack/George", "walk"),
        ("mech_pack/George", "dance"),
        ("platformer_game_pack/Crab", "walk"),
        ("cyberpunk_pack/Enemy_Flying", "walk"),
        ("fish_pack/Whale", "swim"),
        ("fish_pack/Manta_ray", "swim"),
    )
) + (
    Case("real3d", "animated/Fox.glb", "run", rest=False, noun="fox"),
    Case("real3d", "animated/RobotExpressive.glb", "walk", rest=False, noun="robot"),
)
NEAR = tuple(
    Case("near", rig, verb, rest)
    for rig, verb in (
        ("animals_pack/Wolf", "walk"),
        ("dinosaurs_pack/Velociraptor", "run"),
        ("cute_fish_pack/Koi", "swim"),
        ("mech_pack/Stan", "walk"),
    )
    for rest in (True, False)
)


def _named(names: tuple[str, ...]) -> list[Case]:
    by_name = {f"{case.object}/{case.verb}": case for case in REST}
    return [by_name[name] for name in names]


FULL = Plan((*REST, *MID, *NEAR), tuple((case, 8 if case in _named(_EIGHT) else 4) for case in _named(_OFTEN)))
QUICK = Plan(
    (
        *_named(("Husky/walk", "Husky/run", "Husky/idle", "George/walk", "George/jump", "George/idle")),
        *_named(("Crab/walk", "Crab/jump", "Crab/idle")),
        *(MID[i] for i in (0, 3, 5, 7)),
    ),
    tuple((case, 2) for case in _named(("Husky/walk", "George/walk", "Crab/walk"))),
)
#: Of every fork: half of `QUICK`.
QUICK_FORK = Plan(
    (*_named(("Husky/walk", "Husky/idle", "George/walk", "Crab/walk", "Crab/jump")), MID[0], MID[3]),
    tuple((case, 2) for case in _named(("Husky/walk",))),
)


def _still(rig: str, noun: str, verbs: tuple[str, ...]) -> list[Case]:
    return [Case("real3d", rig, verb, noun=noun, real=False) for verb in verbs]


#: Gate 7: twelve objects, three verbs each.
SHEETS: tuple[tuple[Case, Case, Case], ...] = tuple(
    (three[0], three[1], three[2])
    for three in (
        _named(("Husky/walk", "Husky/jump", "Husky/idle")),
        _named(("Enemy_Flying/walk", "Enemy_Flying/attack", "Enemy_Flying/idle")),
        _named(("Frog/jump", "Frog/attack", "Frog/idle")),
        _named(("George/walk", "George/jump", "George/nod")),
        _named(("Crab/walk", "Crab/jump", "Crab/nod")),
        [replace(MID[8], rest=True), *(Case("far", "fish_pack/Manta_ray", v, real=False) for v in ("jump", "idle"))],
        [replace(MID[7], rest=True), *(Case("far", "fish_pack/Whale", v, real=False) for v in ("jump", "idle"))],
        _named(("Fox/walk", "Fox/run", "Fox/idle")),
        _named(("RobotExpressive/walk", "RobotExpressive/jump", "RobotExpressive/nod")),
        [Case("real3d", KENNEY[0], verb, noun=KENNEY[1]) for verb in ("walk", "jump", "idle")],
        _still("static/Spot/spot_triangulated.obj", "cow", ("walk", "jump", "eat")),
        _still("static/Duck.glb", "duck", ("walk", "jump", "spin")),
    )
)
