"""The vocabulary of the invented newsroom: 18 categories of 4 subcategories, and 6 angles.

A news item is written from the words of its subcategory, of its category and of its angle, so a
model that reads the text can recover all three. The words are everyday English, so a pretrained
tokenizer cuts them as it would real news. Names of people and places are invented.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One category: words of its own, invented names, and the words of each subcategory."""

    words: str
    entities: tuple[str, str, str]
    subcategories: dict[str, str]


@dataclass(frozen=True)
class Angle:
    """How a story is told. ``{a}``, ``{b}`` are subcategory words, ``{c}`` a category word,
    ``{e}`` a name."""

    titles: tuple[str, ...]
    sentences: tuple[str, ...]


CATEGORIES: dict[str, Category] = {
    "autos": Category(
        "car driver vehicle dealer road wheel model garage",
        ("Orlin Motors", "Bexley Speedway", "Dana Trask"),
        {
            "electriccars": "battery charger range hybrid plug voltage socket cable",
            "racing": "lap circuit pit podium qualifying overtaking grid champion",
            "repair": "brake mechanic oil tire gearbox clutch exhaust radiator",
            "trucks": "pickup trailer towing diesel cargo bed hauling axle",
        },
    ),
    "business": Category(
        "company market manager deal industry profit board customer",
        ("Halvern Group", "Mira Stokes", "Port Calder"),
        {
            "startups": "founder investor venture pitch prototype accelerator funding app",
            "banking": "loan deposit mortgage credit branch interest lender account",
            "retail": "store discount shopper checkout warehouse brand aisle coupon",
            "jobs": "salary hiring resume layoff union contract recruiter pension",
        },
    ),
    "education": Category(
        "school student teacher lesson classroom learning course campus",
        ("Wexford College", "Tom Arden", "Lakeview District"),
        {
            "university": "professor lecture degree tuition dormitory thesis scholarship faculty",
            "primaryschool": "pupil reading spelling playground homework alphabet recess",
            "exams": "test grade score essay marking admission cheating syllabus",
            "languages": "grammar vocabulary accent translation fluency dictionary verb",
        },
    ),
    "entertainment": Category(
        "celebrity fame fan paparazzi award gossip interview premiere",
        ("Lila Monroe", "Jasper Vane", "Crestwood Hall"),
        {
            "royals": "prince queen palace coronation duchess crown throne heir",
            "weddings": "bride groom ring vows honeymoon engagement veil bouquet",
            "theater": "stage playwright rehearsal curtain actor drama applause audition",
            "comedy": "joke comedian sketch laughter sitcom parody punchline improv",
        },
    ),
    "environment": Category(
        "nature planet climate earth green habitat conservation ecosystem",
        ("Tarn Valley", "Greta Holm", "Blue Coast Trust"),
        {
            "wildlife": "wolf bear eagle deer herd predator nest migration",
            "oceans": "coral whale reef tide plastic fishery seaweed shark",
            "energy": "solar turbine grid nuclear wind hydrogen carbon panel",
            "forests": "tree timber logging sapling canopy woodland ranger bark",
        },
    ),
    "food": Category(
        "recipe kitchen dish taste flavor ingredient meal cook",
        ("Rosa Quill", "Maple Street Diner", "Farrow Market"),
        {
            "baking": "bread cake flour oven yeast pastry cookie dough",
            "restaurants": "chef menu waiter dining reservation tasting bistro critic",
            "vegetarian": "tofu lentil salad vegetable vegan bean spinach mushroom",
            "drinks": "wine beer cocktail coffee brewery espresso vineyard whiskey",
        },
    ),
    "games": Category(
        "player level gamer quest score arena studio release",
        ("Nova Forge", "Kit Ashby", "Pixel Harbor"),
        {
            "consoles": "controller graphics console disc joystick upgrade backlog hardware",
            "boardgames": "dice chess card puzzle pawn rulebook tabletop token",
            "esports": "tournament sponsor streamer roster bracket coach lineup spectator",
            "mobilegames": "smartphone download tap puzzle purchase notification icon leaderboard",
        },
    ),
    "health": Category(
        "patient doctor hospital treatment symptom medicine clinic nurse",
        ("Saint Orwell Hospital", "Ines Calloway", "Medria Institute"),
        {
            "fitness": "workout muscle running yoga gym stretching marathon treadmill",
            "nutrition": "vitamin protein sugar diet calorie fiber cholesterol fasting",
            "mentalhealth": "anxiety therapy stress sleep depression mindfulness burnout counselor",
            "diseases": "virus vaccine infection cancer fever outbreak immunity antibody",
        },
    ),
    "home": Category(
        "house room furniture family apartment neighbor owner door",
        ("Elm Row", "Nora Pike", "Hearth and Beam"),
        {
            "gardening": "soil flower seed lawn compost rose pruning greenhouse",
            "decorating": "paint curtain carpet lamp wallpaper sofa cushion shelf",
            "pets": "dog cat puppy kitten leash vet hamster parrot",
            "cleaning": "dust vacuum laundry stain soap mop clutter detergent",
        },
    ),
    "legal": Category(
        "court judge law lawyer case ruling justice police",
        ("Ruth Penning", "Marlow County", "Graves and Lott"),
        {
            "crime": "robbery suspect burglary arrest detective theft weapon fugitive",
            "trials": "jury witness verdict testimony defendant appeal prosecutor sentence",
            "fraud": "scam embezzlement forgery bribe laundering swindle counterfeit audit",
            "privacy": "surveillance password consent tracking encryption leak identity warrant",
        },
    ),
    "movies": Category(
        "film director scene cinema screen cast trailer script",
        ("Ilya Marsh", "Silverline Pictures", "Odette Crane"),
        {
            "horror": "ghost zombie vampire haunted nightmare monster scream curse",
            "animation": "cartoon animator voice pixel puppet fairytale sidekick storyboard",
            "action": "explosion stunt hero villain chase spy sword rescue",
            "documentary": "archive footage narrator biography truth camera festival portrait",
        },
    ),
    "music": Category(
        "song album singer concert band stage tour listener",
        ("The Paper Kites Union", "Vera Lund", "Echo Park Hall"),
        {
            "rock": "guitar drummer amplifier riff bassist vinyl reunion encore",
            "classical": "orchestra violin symphony conductor opera piano cello sonata",
            "hiphop": "rapper beat rhyme mixtape sample producer freestyle turntable",
            "country": "banjo cowboy fiddle ballad ranch boots harmonica barn",
        },
    ),
    "politics": Category(
        "government minister party vote leader policy debate parliament",
        ("Senator Hale Brandt", "Anya Sorel", "Kestrel Bay"),
        {
            "elections": "ballot campaign candidate poll turnout recount primary landslide",
            "budget": "tax deficit spending treasury subsidy debt inflation surplus",
            "diplomacy": "treaty embassy ambassador summit sanction alliance border ceasefire",
            "immigration": "visa refugee asylum citizenship deportation migrant passport shelter",
        },
    ),
    "science": Category(
        "scientist research laboratory discovery theory experiment evidence data",
        ("Doctor Emil Voss", "Northgate Observatory", "Calyx Laboratory"),
        {
            "space": "rocket orbit asteroid telescope moon galaxy astronaut satellite",
            "archaeology": "fossil tomb excavation pottery skeleton ruins dinosaur temple",
            "physics": "particle quantum laser gravity neutron magnet collider electron",
            "biology": "gene cell enzyme bacteria mutation genome embryo protein",
        },
    ),
    "sports": Category(
        "team coach player season league fans stadium win",
        ("Redmoor Rovers", "Caleb Finch", "Summit Arena"),
        {
            "soccer": "goal striker penalty midfielder goalkeeper referee corner offside",
            "basketball": "dunk rebound dribble hoop playoff buzzer guard layup",
            "tennis": "racket serve backhand grandslam volley umpire set clay",
            "wintersports": "skiing snowboard slope skating hockey sled avalanche slalom",
        },
    ),
    "technology": Category(
        "software device computer internet data digital engineer update",
        ("Quanta Labs", "Priya Noor", "Fenwick Systems"),
        {
            "phones": "screen camera tablet charger keypad ringtone wireless headset",
            "robots": "robot sensor drone automation arm factory machine autopilot",
            "security": "hacker malware breach firewall phishing ransomware backup antivirus",
            "chips": "processor silicon transistor memory circuit wafer semiconductor nanometer",
        },
    ),
    "travel": Category(
        "tourist trip hotel destination journey guide vacation ticket",
        ("Cape Solene", "Old Harbor Inn", "Marco Dell"),
        {
            "flights": "airline airport pilot runway luggage delay cabin boarding",
            "beaches": "island sand surf resort snorkel hammock lagoon palm",
            "hiking": "trail mountain backpack tent summit canyon campfire map",
            "cities": "museum subway cathedral skyline market monument bridge nightlife",
        },
    ),
    "weather": Category(
        "forecast temperature sky season meteorologist warning degree cloud",
        ("Gale Station", "Owen Frost", "Mistral Plain"),
        {
            "storms": "hurricane tornado lightning thunder hail gust cyclone evacuation",
            "snow": "blizzard ice frost plow sleet snowfall freezing icicle",
            "heat": "drought heatwave sunburn wildfire humidity shade dehydration smoke",
            "floods": "rain river dam levee puddle sandbag rainfall overflow",
        },
    ),
}

ANGLES: dict[str, Angle] = {
    "report": Angle(
        (
            "{e} announces {c} plan for {a} and {b}",
            "Breaking: {a} {c} confirmed after {b} talks",
            "{e} confirms {c} move on {a} and {b}",
            "Officials announce {a} change, {b} and {c} next",
        ),
        (
            "The {c} announcement on {a} and {b} was confirmed on Tuesday.",
            "Officials said the {b} decision follows months of {a} talks about the {c}.",
        ),
    ),
    "guide": Angle(
        (
            "How to choose the right {a}, {b} and {c}",
            "Ten easy {c} tips for better {a} and {b}",
            "A beginner's step by step guide to {a}, {b} and {c}",
            "Simple {c} tricks to get more from your {a} and {b}",
        ),
        (
            "Follow these simple steps to get {c}, {a} and {b} right at the first try.",
            "Our tips help you compare {b} and {a} and pick the best {c}.",
        ),
    ),
    "opinion": Angle(
        (
            "Opinion: why the {c} should stop arguing about {a} and {b}",
            "I think the {c} and {a} debate misses the {b}",
            "Column: the trouble with {a}, {b} and the {c}",
            "Editorial: {e} is wrong about {c}, {a} and {b}",
        ),
        (
            "I believe the {c} argument over {a} and {b} has gone on too long.",
            "Critics should admit that {b} and {a} never were the problem of the {c}.",
        ),
    ),
    "numbers": Angle(
        (
            "{a} and {c} in charts: {b} up {n} percent in a year",
            "{c} survey: {n} percent prefer {a} over {b}",
            "The {c} by numbers: record {a}, falling {b}",
            "New {c} statistics rank {a} and {b} across the country",
        ),
        (
            "Statistics on {c} show that {a} and {b} rose by {n} percent last year.",
            "The survey ranks {b} far ahead of {a}, with an average of {n} per {c}.",
        ),
    ),
    "people": Angle(
        (
            "She lost her {c}, then {a} and {b} gave her hope",
            "Meet the {c} couple whose life is {a} and {b}",
            "A grandmother's love of {a}, {b} and the {c}",
            "{e} remembers a {c} childhood of {a} and {b}",
        ),
        (
            "Her story began with {a}, {b}, a {c} and the love of a grandmother.",
            "Friends remember how {b} and {a} changed her life and her childhood {c}.",
        ),
    ),
    "mystery": Angle(
        (
            "What really happened to the missing {c}, {a} and {b}?",
            "The strange secret behind the {a}, the {b} and the {c}",
            "Nobody can explain this bizarre {c}, {a} and {b}",
            "{e} and the unsolved {c} riddle of the {a} and {b}",
        ),
        (
            "Nobody can explain why the {c}, the {a} and the {b} vanished overnight.",
            "The strange {b} and {a} remain an unsolved riddle for the {c}.",
        ),
    ),
}
