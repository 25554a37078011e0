"""A shop as its owner exports it: items, events and customers, with a planted taste.

Every item is of one kind (kitchen, garden, ...), which only its words tell; every customer likes
two kinds. A purchase follows a view of the same item, so events repeat. Some ids are unknown, some
prices and texts missing, as in any export. English, German and Chinese.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

START = 1_735_689_600_000  # 2025-01-01 in milliseconds
DAY = 86_400_000
UNKNOWN_EVENTS = 3  # of each item that the shop does not have
LIKED = 0.85  # share of views that are of a liked kind


@dataclass(frozen=True)
class Language:
    """The words of a catalogue.

    Attributes:
        kinds: by kind the things there are and what they are good for.
        looks: how a thing may look; materials: what it is made of.
        brands: names of makers.
        title, description: patterns of thing, look, material, brand, use.
    """

    kinds: dict[str, tuple[list[str], list[str]]]
    looks: list[str]
    materials: list[str]
    brands: list[str]
    title: str
    description: str


ENGLISH = Language(
    kinds={
        "kitchen": (
            ["espresso machine", "frying pan", "bread knife", "kettle", "mixing bowl", "toaster"],
            ["cooking", "baking at home", "a slow breakfast", "twelve cups of coffee"],
        ),
        "garden": (
            ["watering can", "hedge shears", "flower pot", "garden hose", "spade", "bird feeder"],
            ["roses and herbs", "the balcony", "digging the beds", "a green lawn"],
        ),
        "office": (
            ["desk lamp", "notebook", "fountain pen", "paper tray", "office chair", "stapler"],
            ["long meetings", "tidy desks", "writing letters", "working late"],
        ),
        "sport": (
            ["running shoes", "yoga mat", "dumbbells", "tennis racket", "skipping rope", "jersey"],
            ["marathon runners", "morning training", "strong shoulders", "the next match"],
        ),
        "music": (
            [
                "guitar strings",
                "headphones",
                "drum sticks",
                "music stand",
                "microphone",
                "metronome",
            ],
            ["rehearsals", "quiet listening", "small stages", "learning scales"],
        ),
        "baby": (
            ["stroller", "rattle", "baby blanket", "high chair", "night light", "bottle warmer"],
            ["the first year", "calm nights", "little hands", "long walks with a newborn"],
        ),
        "travel": (
            [
                "suitcase",
                "backpack",
                "neck pillow",
                "passport case",
                "rain jacket",
                "travel adapter",
            ],
            ["long flights", "a weekend away", "rainy cities", "hand luggage"],
        ),
        "pets": (
            [
                "dog leash",
                "cat tree",
                "aquarium pump",
                "hamster wheel",
                "dog bed",
                "scratching post",
            ],
            ["curious kittens", "old dogs", "clean tanks", "walks in the forest"],
        ),
    },
    looks=["green", "black", "white", "blue", "red", "silver", "foldable", "large", "light"],
    materials=["steel", "oak", "cotton", "ceramic", "aluminium", "wool", "bamboo"],
    brands=["Northall", "Brightwell", "Kestrel", "Marlow", "Fenwick", "Ashby", "Tarn", "Hollis"],
    title="{brand} {look} {material} {thing}",
    description="This {thing} of {material} is made for {use}. It is {look}; {brand} has made "
    "things for {other} since 1974.",
)
GERMAN = Language(
    kinds={
        "küche": (
            [
                "Kaffeemaschine",
                "Bratpfanne",
                "Brotmesser",
                "Wasserkocher",
                "Rührschüssel",
                "Toaster",
            ],
            ["fürs Kochen", "zum Backen", "für ein gemütliches Frühstück", "für zwölf Tassen"],
        ),
        "garten": (
            [
                "Gießkanne",
                "Heckenschere",
                "Blumentopf",
                "Gartenschlauch",
                "Spaten",
                "Vogelhäuschen",
            ],
            ["für Rosen und Kräuter", "für den Balkon", "zum Umgraben", "für grünen Rasen"],
        ),
        "büro": (
            ["Schreibtischlampe", "Notizbuch", "Füllfederhalter", "Ablage", "Bürostuhl", "Locher"],
            ["für lange Sitzungen", "für Ordnung", "zum Briefeschreiben", "für späte Stunden"],
        ),
        "sport": (
            ["Laufschuhe", "Gymnastikmatte", "Hanteln", "Tennisschläger", "Springseil", "Trikot"],
            ["für Läufer", "fürs Frühtraining", "für kräftige Schultern", "fürs nächste Spiel"],
        ),
        "musik": (
            [
                "Gitarrensaiten",
                "Kopfhörer",
                "Trommelstöcke",
                "Notenständer",
                "Mikrofon",
                "Metronom",
            ],
            ["für Proben", "zum ruhigen Hören", "für kleine Bühnen", "für Tonleitern"],
        ),
        "baby": (
            ["Kinderwagen", "Rassel", "Babydecke", "Hochstuhl", "Nachtlicht", "Flaschenwärmer"],
            ["fürs erste Jahr", "für ruhige Nächte", "für kleine Hände", "für Spaziergänge"],
        ),
        "reise": (
            ["Reisekoffer", "Rucksack", "Nackenkissen", "Passhülle", "Regenjacke", "Reiseadapter"],
            ["für lange Flüge", "für ein Wochenende", "für verregnete Städte", "als Handgepäck"],
        ),
        "tiere": (
            ["Hundeleine", "Kratzbaum", "Aquarienpumpe", "Hamsterrad", "Hundebett", "Futternapf"],
            ["für neugierige Kätzchen", "für alte Hunde", "für saubere Becken", "für den Wald"],
        ),
    },
    looks=["grün", "schwarz", "weiß", "blau", "rot", "silbern", "klappbar", "groß", "leicht"],
    materials=["Edelstahl", "Eiche", "Baumwolle", "Keramik", "Aluminium", "Wolle", "Bambus"],
    brands=["Nordhalle", "Heller & Söhne", "Falkner", "Grünwald", "Möwe", "Äscher", "Tannhof"],
    title="{brand} {thing} aus {material}, {look}",
    description="{thing} aus {material}, gemacht {use}. Farbe und Form: {look}. {brand} fertigt "
    "seit 1974 auch Zubehör {other}.",
)
CHINESE = Language(
    kinds={
        "厨房": (
            ["咖啡机", "平底锅", "面包刀", "电热水壶", "搅拌碗", "烤面包机"],
            ["家庭烹饪", "在家烘焙", "悠闲早餐", "十二杯咖啡"],
        ),
        "园艺": (
            ["浇水壶", "修枝剪", "花盆", "花园软管", "铁锹", "喂鸟器"],
            ["种植玫瑰和香草", "阳台绿化", "翻土松土", "养护草坪"],
        ),
        "办公": (
            ["台灯", "笔记本", "钢笔", "文件架", "办公椅", "订书机"],
            ["长时间会议", "整理桌面", "书写信件", "加班工作"],
        ),
        "运动": (
            ["跑步鞋", "瑜伽垫", "哑铃", "网球拍", "跳绳", "球衣"],
            ["马拉松跑者", "早晨训练", "锻炼肩膀", "下一场比赛"],
        ),
        "音乐": (
            ["吉他弦", "耳机", "鼓槌", "谱架", "麦克风", "节拍器"],
            ["乐队排练", "安静聆听", "小型舞台", "练习音阶"],
        ),
        "母婴": (
            ["婴儿推车", "摇铃", "婴儿毯", "儿童餐椅", "小夜灯", "暖奶器"],
            ["宝宝第一年", "安稳夜晚", "小手抓握", "带新生儿散步"],
        ),
        "旅行": (
            ["行李箱", "双肩背包", "颈枕", "护照夹", "雨衣", "旅行转换插头"],
            ["长途飞行", "周末短途", "多雨城市", "随身行李"],
        ),
        "宠物": (
            ["狗牵引绳", "猫爬架", "水族箱水泵", "仓鼠跑轮", "狗窝", "猫抓板"],
            ["好奇的小猫", "年老的狗", "清洁鱼缸", "林间散步"],
        ),
    },
    looks=["绿色", "黑色", "白色", "蓝色", "红色", "银色", "可折叠", "大号", "轻便"],
    materials=["不锈钢", "橡木", "纯棉", "陶瓷", "铝合金", "羊毛", "竹制"],
    brands=["北山", "明泉", "红隼", "青禾", "海鸥", "松涛", "云岭", "长河"],
    title="{brand}{look}{material}{thing}",
    description="这款{material}{thing}专为{use}设计，外观{look}。{brand}自1974年起也生产适合{other}的产品。",
)
LANGUAGES = {"en": ENGLISH, "de": GERMAN, "zh": CHINESE}


@dataclass(frozen=True)
class Shop:
    """A shop's exports.

    Attributes:
        items: ``sku, title, description, brand, price``; every price a number, some missing.
        events: ``customer_id, sku, ts`` (milliseconds), ``event`` (view, cart, purchase), in the
            order of time.
        users: ``customer_id, age, country``.
        kinds: sku -> what kind of thing it is; no column says so.
        unclicked: the items that nobody clicked.
        unknown: ids in the events that no item has.
    """

    items: pd.DataFrame
    events: pd.DataFrame
    users: pd.DataFrame
    kinds: dict[str, str]
    unclicked: tuple[str, ...]
    unknown: tuple[str, ...]


def make_shop(
    language: str = "en",
    *,
    items: int = 800,
    events: int = 12_000,
    users: int = 600,
    unclicked: int = 40,
    unknown: int = 5,
    seed: int = 0,
) -> Shop:
    """Make a shop in one language; the ids and events of all languages are the same.

    Args:
        language: en, de or zh.
        items: in the catalogue, among them those that nobody clicked.
        events: in all, those of unknown items included.
        users: customers.
        unclicked: items that nobody clicked.
        unknown: items that events name and the catalogue lacks.
        seed: of everything.
    """
    generator = np.random.default_rng(seed)
    words = LANGUAGES[language]
    kind = generator.permutation(np.arange(items) % len(words.kinds))
    skus = [f"S{number}" for number in 1000 + generator.permutation(9 * items)[:items]]
    catalogue = _catalogue(np.random.default_rng(seed + 1), words, skus, kind)
    missing = tuple(f"X{number}" for number in range(1, unknown + 1))
    log = _log(generator, skus, kind, events - UNKNOWN_EVENTS * unknown, users, unclicked)
    strangers = log.sample(UNKNOWN_EVENTS * unknown, random_state=seed)
    strangers = strangers.assign(sku=[*missing] * UNKNOWN_EVENTS, event="view")
    log = pd.concat([log, strangers]).sort_values(["ts", "customer_id"], kind="stable")
    customers = pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in range(users)],
            "age": generator.integers(18, 80, users),
            "country": generator.choice(["DE", "FR", "CN", "US"], users),
        }
    )
    names = list(words.kinds)
    return Shop(
        items=catalogue,
        events=log.reset_index(drop=True),
        users=customers,
        kinds={sku: names[number] for sku, number in zip(skus, kind, strict=True)},
        unclicked=tuple(skus[items - unclicked :]),
        unknown=missing,
    )


def write_shop(folder: Path, language: str = "en", **sizes: int) -> Shop:
    """Make a shop and write ``items.csv``, ``events.csv`` and ``users.csv``; returns it.

    Args:
        folder: made where it is missing.
        language: en, de or zh.
        sizes: as ``make_shop`` takes them.
    """
    shop = make_shop(language, **sizes)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("items", "events", "users"):
        getattr(shop, name).to_csv(folder / f"{name}.csv", index=False)
    return shop


def _catalogue(
    generator: np.random.Generator, words: Language, skus: list[str], kind: np.ndarray
) -> pd.DataFrame:
    kinds = list(words.kinds.values())
    rows = []
    for sku, number in zip(skus, kind.tolist(), strict=True):
        things, uses = kinds[number]
        use, other = generator.permutation(len(uses))[:2]
        said = {
            "thing": things[generator.integers(len(things))],
            "look": words.looks[generator.integers(len(words.looks))],
            "material": words.materials[generator.integers(len(words.materials))],
            "brand": words.brands[generator.integers(len(words.brands))],
            "use": uses[use],
            "other": uses[other],
        }
        price = round(float(np.exp(generator.normal(3 + number / 8, 0.7))), 2)
        rows.append(
            {
                "sku": sku,
                "title": words.title.format(**said),
                "description": words.description.format(**said)
                if generator.random() > 0.03
                else None,
                "brand": said["brand"] if generator.random() > 0.02 else None,
                "price": price if generator.random() > 0.05 else None,
            }
        )
    return pd.DataFrame(rows)


def _log(
    generator: np.random.Generator,
    skus: list[str],
    kind: np.ndarray,
    count: int,
    users: int,
    unclicked: int,
) -> pd.DataFrame:
    """``count`` events, each view of an item perhaps followed by a cart and a purchase."""
    shown = np.arange(len(skus) - unclicked)
    fame = 1 / (10 + generator.permutation(len(shown)))
    kinds = int(kind.max()) + 1
    likes = np.array([generator.permutation(kinds)[:2] for _ in range(users)])
    user = np.sort(np.concatenate([np.arange(users), generator.integers(0, users, count - users)]))
    liked = np.where(
        generator.random(count) < LIKED,
        likes[user, generator.integers(0, 2, count)],
        generator.integers(0, kinds, count),
    )
    item = np.zeros(count, dtype=np.int64)
    for number in range(kinds):
        of_kind = shown[kind[shown] == number]
        weights = fame[of_kind] / fame[of_kind].sum()
        mine = np.flatnonzero(liked == number)
        item[mine] = generator.choice(of_kind, len(mine), p=weights)
    time = START + generator.integers(0, 90 * DAY, count)
    event = np.full(count, "view", dtype=object)
    bought = np.flatnonzero(generator.random(count - 2) < 0.2)
    for step, name in ((1, "cart"), (2, "purchase")):  # the next events of the same customer
        same = bought[user[bought] == user[bought + step]]
        item[same + step], event[same + step] = item[same], name
        time[same + step] = time[same] + 1000 * step + generator.integers(0, 999, len(same))
    alone = np.flatnonzero((event == "view") & (np.append(event[1:], "view") == "view"))
    item[generator.permutation(alone)[: len(shown)]] = shown  # each is clicked at least once
    names = np.array(skus, dtype=object)
    return pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in user],
            "sku": names[item],
            "ts": time,
            "event": event,
        }
    )
