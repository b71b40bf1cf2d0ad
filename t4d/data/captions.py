"""Sentences for clips: canonical verbs from clip names, training paraphrases, and paraphrases kept for evaluation."""

import re

import numpy as np

# First match wins; a clip name is split at capitals and underscores and lowered before matching.
_RULES = [
    (r"\b(death|dead|die|dying)\b", "die"),
    (r"\b(out of water)\b", "flop"),
    (r"\b(hit|react|recieve|receive)\b", "get hit"),
    (r"\bgallop jump\b", "leap"),
    (r"\b(gallop|run|running|sprint)\b", "run"),
    (r"\b(walk|walking)\b", "walk"),
    (r"\b(bounce|bouncing)\b", "bounce"),
    (r"\b(jump|jumping|hop|land|landing)\b", "jump"),
    (r"\b(crawl|crawling|creep|creeping)\b", "crawl"),
    (r"\b(fall|falling|topple)\b", "fall"),
    (r"\b(swim|swimming)\b", "swim"),
    (r"\b(fly|flying)\b", "fly"),
    (r"\b(dance|dancing)\b", "dance"),
    (r"\b(hello|wave|waving)\b", "wave"),
    (r"\b(yes|nod)\b", "nod"),
    (r"\b(no)\b", "shake head"),
    (r"\b(punch|sword|slash|bite|headbutt|weapon|attack)\b", "attack"),
    (r"\b(kick)\b", "kick"),
    (r"\b(shoot|gun pointing)\b", "shoot"),
    (r"\b(eat|eating)\b", "eat"),
    (r"\b(duck|crouch)\b", "duck"),
    (r"\b(pickup|interact)\b", "pick up"),
    (r"\b(tank forward|tank backwards)\b", "drive"),
    (r"\b(turning)\b", "turn"),
    (r"\b(roll)\b", "roll"),
    (r"\b(spin|spinning|twirl)\b", "spin"),
    (r"\b(slither|slithering)\b", "slither"),
    (r"\b(open|on|activate)\b", "open"),
    (r"\b(close|off|shut)\b", "close"),
    (r"\b(idle|survey|stand)\b", "idle"),
]

#: Verbs left out of training at first: their motion dwarfs everything else.
VIOLENT = ("die", "flop", "get hit")

# verb: (third person, -ing, further third-person forms used in training, forms seen in evaluation only)
VERBS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "walk": (
        "walks",
        "walking",
        ("strolls", "paces", "takes a walk", "walks forward", "marches"),
        ("wanders", "ambles along"),
    ),
    "run": ("runs", "running", ("gallops", "sprints", "races", "runs fast", "dashes"), ("jogs", "hurries along")),
    "leap": ("leaps", "leaping", ("jumps while running", "gallops and jumps"), ("vaults", "bounds forward")),
    "jump": ("jumps", "jumping", ("jumps up", "hops", "jumps into the air"), ("springs up", "leaps upwards")),
    "bounce": ("bounces", "bouncing", ("bounces up and down", "hops up and down"), ("bobs up and down",)),
    "swim": (
        "swims",
        "swimming",
        ("swims forward", "swims through the water", "glides through the water"),
        ("paddles along",),
    ),
    "fly": (
        "flies",
        "flying",
        ("flaps its wings", "flies through the air", "beats its wings"),
        ("soars", "flutters along"),
    ),
    "dance": ("dances", "dancing", ("dances around", "dances happily", "grooves"), ("boogies", "shows off its moves")),
    "wave": ("waves", "waving", ("waves hello", "waves a hand", "says hello"), ("greets you", "is waving hello")),
    "nod": ("nods", "nodding", ("nods its head", "says yes"), ("bobs its head", "agrees")),
    "shake head": ("shakes its head", "shaking its head", ("says no",), ("refuses",)),
    "attack": ("attacks", "attacking", ("strikes", "fights", "hits forward"), ("lunges", "charges at something")),
    "kick": ("kicks", "kicking", ("kicks a leg", "kicks forward"), ("swings a leg",)),
    "shoot": ("shoots", "shooting", ("fires", "fires a shot"), ("opens fire",)),
    "eat": ("eats", "eating", ("eats from the ground", "grazes", "has a meal"), ("feeds", "munches")),
    "duck": ("ducks", "ducking", ("crouches", "crouches down"), ("hunkers down",)),
    "squat": ("squats", "squatting", ("does squats", "bends its knees"), ("does knee bends",)),
    "bow": ("bows", "bowing", ("takes a bow", "bows down"), ("bends forward politely",)),
    "cheer": ("cheers", "cheering", ("raises both arms", "celebrates"), ("rejoices",)),
    "pick up": ("picks something up", "picking something up", ("reaches down",), ("grabs something",)),
    "drive": ("drives", "driving", ("drives forward", "rolls along", "drives along the road"), ("cruises",)),
    "turn": ("turns", "turning", ("turns around", "turns to the side"), ("changes direction",)),
    "roll": ("rolls", "rolling", ("rolls over", "rolls forward"), ("tumbles",)),
    "spin": ("spins", "spinning", ("spins around", "turns around itself", "rotates"), ("twirls", "whirls around")),
    "shake": ("shakes", "shaking", ("shakes its body", "trembles"), ("shivers", "vibrates")),
    "sway": (
        "sways",
        "swaying",
        ("sways from side to side", "swings gently", "sways in the wind"),
        ("rocks to and fro",),
    ),
    "stretch": ("stretches", "stretching", ("stretches up", "grows taller"), ("extends itself",)),
    "breathe": ("breathes", "breathing", ("breathes slowly", "breathes in and out"), ("inhales and exhales",)),
    "hover": ("hovers", "hovering", ("floats", "hovers in the air", "floats up and down"), ("levitates",)),
    "wag": ("wags its tail", "wagging its tail", ("swings its tail",), ("waggles its tail",)),
    "look around": ("looks around", "looking around", ("turns its head", "looks left and right"), ("gazes about",)),
    "sit": ("sits down", "sitting down", ("sits", "takes a seat"), ("settles on its haunches",)),
    "rear": ("rears up", "rearing up", ("stands on its hind legs", "rears"), ("rises on its back legs",)),
    "crawl": (
        "crawls",
        "crawling",
        ("creeps", "crawls along", "crawls over the ground", "creeps close to the ground"),
        ("inches along", "sneaks low over the ground"),
    ),
    "fall": (
        "falls",
        "falling",
        ("falls over", "falls down", "falls to the ground", "topples over"),
        ("tips over", "collapses"),
    ),
    "slither": ("slithers", "slithering", ("crawls forward", "wriggles", "winds along"), ("snakes along",)),
    "curl": ("curls up", "curling up", ("coils", "rolls itself up"), ("winds itself up",)),
    "pulse": ("pulses", "pulsing", ("pulsates", "swims by pulsing", "contracts and expands"), ("throbs",)),
    "open": ("opens", "opening", ("opens up",), ("unfolds",)),
    "close": ("closes", "closing", ("shuts", "closes up"), ("folds up",)),
    "bloom": ("blooms", "blooming", ("opens its petals", "opens"), ("blossoms", "unfolds")),
    "flutter": ("flutters", "fluttering", ("flutters in the wind", "waves in the wind"), ("flaps in the breeze",)),
    "grow": ("grows", "growing", ("gets bigger", "grows up"), ("becomes larger",)),
    "idle": ("stands still", "standing still", ("is idling", "rests", "stands and breathes", "waits"), ("stays put",)),
}


def verb_of(clip_name: str) -> str | None:
    """Canonical verb of a clip name such as "TRex_Run" or "AnimalArmature|Gallop"; None where it names none known."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", clip_name.rsplit("|", 1)[-1])
    name = re.sub(r"[_.\d]+", " ", name).lower().strip()
    for pattern, verb in _RULES:
        if re.search(pattern, name):
            return verb
    return None


def caption(noun: str, verb: str, rng: np.random.Generator, held_out: bool = False) -> str:
    """A sentence such as "a fox is running".

    Args:
        noun: Without article ("red panda").
        verb: A key of `VERBS`.
        rng: Chooses the wording; a third of training sentences are the plain "a NOUN is VERBing".
        held_out: Use wordings that never occur in training.
    """
    third, ing, more, kept = VERBS[verb]
    start = f"{_article(noun)} {noun}" if held_out or rng.random() < 0.75 else f"the {noun}"
    if held_out:
        chosen = str(rng.choice(kept))
        return f"{start} {chosen}"
    kind = rng.random()
    if kind < 0.35:
        return f"{start} is {ing}"
    if kind < 0.5:
        return f"{start} {third}"
    if kind < 0.6:
        return f"{start} {ing}"
    return f"{start} {rng.choice(more)}"


def plain_caption(noun: str, verb: str) -> str:
    """The one standard sentence of a verb: "a fox is running"."""
    return f"{_article(noun)} {noun} is {VERBS[verb][1]}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
