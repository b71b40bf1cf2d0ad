"""What the Stage Two ablation runs on, chosen before any fit was made and never used for tuning."""

from dataclasses import dataclass

#: Rows of the truth table that are fits: variants of `t4d/variants.yaml`.
TRUTH_ROWS = (
    "full",
    "no_diffusion_features",
    "no_4dsh",
    "no_features_no_4dsh",
    "no_arap",
    "no_sds",
    "animate3d",
    "animate3d_our_rates",
    "untrained_features",
    "random_features",
)
#: Rows without a fit, by mode: truth poses and light; truth poses in the light of frame 0; the unmoved object.
BOUNDS = {"truth": ("oracle", "oracle_first_light", "static"), "generated": ("static",)}
GENERATED_ROWS = ("full", "no_diffusion_features", "no_4dsh", "no_arap", "no_sds")


@dataclass(frozen=True)
class TruthCase:
    """One clip of a rig of the CC0 collection.

    Attributes:
        file: below the collection's folder.
        clip: display name.
        prompt: what it shows.
        group: "near" (mesh unseen in training, its joint set seen) or "far" (joint set unseen), as in split.json.
    """

    file: str
    clip: str
    prompt: str
    group: str

    @property
    def name(self) -> str:
        """Short, unique, fit for a file name."""
        return f"{self.file.rsplit('/', 1)[-1].split('.')[0].split('-')[0]}-{self.clip}"


TRUTH_CASES = (
    TruthCase("animals_pack/Bull.glb", "Gallop", "a bull is running", "near"),
    TruthCase("cute_fish_pack/Koi.glb", "Swimming_Fast", "a koi is swimming", "near"),
    TruthCase("dinosaurs_pack/Velociraptor.glb", "Velociraptor_Jump", "a velociraptor is jumping", "near"),
    TruthCase("ultimate_space_pack/Astronaut_RaeTheRedPanda-transformed.glb", "Run", "an astronaut is running", "near"),
    TruthCase("ultimate_space_pack/Mech_FinnTheFrog-transformed.glb", "Walk", "a mech is walking", "near"),
    TruthCase("animals_pack/Husky.glb", "Gallop_Jump", "a dog is leaping", "far"),
    TruthCase("cyberpunk_pack/Enemy_Flying.glb", "Attack", "a drone is attacking", "far"),
    TruthCase("fish_pack/Manta_ray.glb", "Swim", "a manta ray is swimming", "far"),
    TruthCase("mech_pack/George.glb", "Punch", "a robot is attacking", "far"),
    TruthCase("platformer_game_pack/Crab.glb", "Dance", "a crab is dancing", "far"),
)


@dataclass(frozen=True)
class GeneratedCase:
    """An object at rest and a sentence.

    Attributes:
        file: below the shared data folder.
        prompt: sentence.
        group: "near", "far" (rigs, see ``TruthCase``) or "static" (an object that was never a rig).
    """

    file: str
    prompt: str
    group: str

    @property
    def name(self) -> str:
        """Short, unique, fit for a file name."""
        return f"{self.file.rsplit('/', 1)[-1].split('.')[0]}-{self.prompt.split(' is ')[-1].replace(' ', '_')}"


GENERATED_CASES = (
    GeneratedCase("rigs_cc0/dinosaurs_pack/Velociraptor.glb", "a velociraptor is running", "near"),
    GeneratedCase("rigs_cc0/animals_pack/Husky.glb", "a dog is jumping", "far"),
    GeneratedCase("real3d/static/Duck.glb", "a duck is walking", "static"),
    GeneratedCase("real3d/static/Spot/spot_triangulated.obj", "a cow is walking", "static"),
    GeneratedCase("real3d/static/Spot/spot_triangulated.obj", "a cow is jumping", "static"),
)
