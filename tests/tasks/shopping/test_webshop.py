"""The text shop: its pages, its reward by hand, and trips of models that do what they are told."""

import json
import random

import pytest
import torch
from helpers.checkpoints import letters, llama
from helpers.language import held_out_wishes, scripted

from m2n2lab import CheckpointSpace, InputError
from m2n2lab.tasks import WebShop, webshop
from m2n2lab.tasks.shopping.catalogue import Goal, Product, goals, products
from m2n2lab.tasks.shopping.product_files import read_goals, read_products
from m2n2lab.tasks.shopping.simulator import Action, Shop, Visit, parse_action, reward

HOODIE = Product(
    "B1",
    "Alder hoodie, slim fit",
    "hoodie",
    ("fashion", "hoodie"),
    29.99,
    ("slim fit", "machine wash"),
    {"color": ("red", "blue"), "size": ("small", "large")},
    ("This hoodie keeps warm.",),
    "For every day.",
)
WISH = Goal(
    "i need a slim fit red hoodie", HOODIE, ("slim fit", "keeps warm"), ("red", "large"), 30
)


def other(**changes):
    return Product(**{**HOODIE.__dict__, **changes})


# -- the reward, by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bought", "chosen", "expected"),
    [
        (HOODIE, ("red", "large"), 1.0),  # 2 attributes, 2 options and the price of 5
        (HOODIE, ("red",), 4 / 5),
        (HOODIE, (), 3 / 5),
        (HOODIE, ("blue", "small"), 3 / 5),
        (other(price=31.0), ("red", "large"), 4 / 5),
        (other(price=30.0), ("large", "red"), 1.0),
        (other(attributes=(), bullets=(), title="Alder hoodie"), ("red", "large"), 3 / 5),
        (other(attributes=("fit slim",)), ("Red", "LARGE"), 1.0),  # the order of words is free
        (other(title="Brook chair"), ("red", "large"), 0.0),  # nothing in common with the title
        # One of the two nouns agrees, which is more than a fifth, whatever its type.
        (other(title="Alder chair", query="chair", categories=()), ("red",), 4 / 5),
    ],
)
def test_a_purchase_is_worth_what_webshop_says(bought, chosen, expected):
    assert reward(bought, chosen, WISH) == pytest.approx(expected)


def test_the_type_of_product_counts_by_the_nouns_of_its_title():
    long = other(title=" ".join(f"word{'abcdefghijklmnopq'[k]}" for k in range(12)), attributes=())
    goal = Goal("", long, (), (), None)
    words = long.title.split()

    def worth(shared, **changes):
        return reward(other(title=" ".join(words[:shared]), attributes=(), **changes), (), goal)

    foreign = {"query": "chair", "categories": ("home", "hoodie")}
    assert worth(0) == 0.0
    assert worth(1) == 0.1  # 1 of 12 is less than a tenth
    assert worth(2) == 1.0  # the same search found it
    assert worth(2, **foreign) == 0.5  # one level is not enough, and 2 of 12 neither
    assert worth(3, **foreign) == 1.0  # 3 of 12 is more than a fifth
    assert worth(2, query="chair") == 1.0  # two levels agree


# -- pages and actions -----------------------------------------------------------------------------


def test_a_trip_goes_from_page_to_page_as_in_webshop():
    visit = Visit(Shop([HOODIE]), WISH)
    head = "Instruction: [SEP] i need a slim fit red hoodie"
    assert visit.observation == f"WebShop [SEP] {head} [SEP] Search"
    assert visit.act(Action("search", "red hoodie"))
    assert visit.observation == (
        f"{head} [SEP] Back to Search [SEP] Page 1 (Total results: 1) [SEP] B1 [SEP] "
        "Alder hoodie, slim fit [SEP] $29.99"
    )
    assert visit.act(Action("click", "b1"))
    item = (
        f"{head} [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] blue [SEP] size "
        "[SEP] small [SEP] large [SEP] Alder hoodie, slim fit [SEP] Price: $29.99 [SEP] "
        "Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    assert visit.observation == item
    assert visit.act(Action("click", "Features"))
    assert visit.observation == (
        f"{head} [SEP] Back to Search [SEP] < Prev [SEP] This hoodie keeps warm."
    )
    assert visit.act(Action("click", "< prev"))
    assert visit.act(Action("click", "RED"))
    assert visit.act(Action("click", "large"))
    assert visit.observation == item
    assert visit.act(Action("click", "buy now"))
    assert (visit.done, visit.reward) == (True, 1.0)
    assert not visit.act(Action("click", "buy now"))


@pytest.mark.parametrize(
    "action",
    [
        None,
        Action("click", "Buy Now"),
        Action("click", ""),
        Action("search", ""),
        Action("click", "B1"),
    ],
)
def test_impossible_actions_change_nothing(action):
    visit = Visit(Shop([HOODIE]), WISH)
    before = visit.observation
    assert not visit.act(action)
    assert visit.observation == before


def test_results_are_turned_over_and_a_new_search_begins_again():
    visit = Visit(Shop(products()), WISH)
    assert visit.act(Action("search", "hoodie fashion alder brook"))
    first = visit.clickables
    assert "< Prev" not in first
    assert visit.act(Action("click", "next >"))
    assert set(first) & set(visit.clickables) == {"Back to Search", "Next >"}
    assert not visit.act(Action("click", first[-1]))  # of the page before
    assert visit.act(Action("click", "< Prev"))
    assert visit.clickables == first
    assert visit.act(Action("click", "Back to Search"))
    assert visit.act(Action("search", "zzz"))
    assert "Total results: 0" in visit.observation


@pytest.mark.parametrize(
    ("text", "action"),
    [
        (" I look.\nAction: search[red hoodie]", ("search", "red hoodie")),
        ("click[ Buy Now ] and go", ("click", "Buy Now")),
        ("I could click[x].\nAction:\nSEARCH [a]\nclick[b]", ("search", "a")),
        ("Action: buy it", None),
        ("search[never closed", None),
        ("", None),
        ("[" * 10_000, None),
    ],
)
def test_the_first_action_after_its_mark_is_read(text, action):
    assert parse_action(text) == action


# -- the catalogue ---------------------------------------------------------------------------------


def test_a_generated_catalogue_is_the_same_for_a_seed_and_every_wish_can_be_fulfilled():
    sold = products(3)
    assert sold == products(3) != products(4)
    assert len({product.id for product in sold}) == 300
    wishes = goals(sold, 1)
    assert wishes == goals(sold, 1) != goals(sold, 2)
    assert len({wish.product.id for wish in wishes}) == 300
    shop, draw = Shop(sold), random.Random(0)
    for wish in wishes:
        assert reward(wish.product, wish.options, wish) == 1.0
        assert wish.product.price < wish.limit
        values = [value for values in wish.product.options.values() for value in values]
        assert set(wish.options) <= set(values)
    for wish in draw.sample(wishes, 10):
        assert wish.product.id in shop.search(wish.instruction)[:20]


def test_searched_and_held_out_wishes_are_different_products(monkeypatch):
    task, few = webshop(limit=250), webshop(limit=8)
    searched = {goal.product.id for goal in task.goals}
    tested = {goal.product.id for goal in held_out_wishes(task, monkeypatch)}
    assert (len(searched), len(tested), searched & tested) == (240, 60, set())
    assert (few.points, len(held_out_wishes(few, monkeypatch))) == (8, 2)


OFFICIAL = [
    {
        "asin": "B2",
        "name": "Cedar desk lamp",
        "query": "Desk Lamps",
        "product_category": "Home › Lighting › Lamps",
        "small_description": ["warm light"],
        "full_description": "A lamp.",
        "pricing": "$1,020.50$1,100.00",
        "customization_options": {
            "Color": [{"value": "Black/Gold"}, {"value": None}],
            "Size": None,
        },
    },
    {"asin": "B3", "name": "Fjord mug", "pricing": None, "small_description": None},
]
INSTRUCTIONS = {
    "B2": {
        "attributes": ["warm light", "metal"],
        "instruction": "Find me a metal lamp.",
        "instruction_attributes": ["metal"],
    },
    "B3": {"attributes": []},
}


def saved(path, content):
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_webshops_own_files_are_read(tmp_path):
    items = saved(tmp_path / "items.json", OFFICIAL)
    known = saved(tmp_path / "ins.json", INSTRUCTIONS)
    lamp, mug = read_products(items, known)
    assert (lamp.price, mug.price) == (1020.5, 100.0)
    assert lamp.categories == ("Home", "Lighting", "Lamps")
    assert lamp.attributes == ("warm light", "metal")
    assert lamp.options == {"color": ("black | gold",)}
    (wish,) = read_goals([lamp, mug], known)
    assert wish.instruction.startswith("Find me a metal lamp, and color: black | gold, and price")
    assert reward(lamp, wish.options, wish) == 1.0
    written = [{"instruction": "a mug", "instruction_attributes": [], "instruction_options": []}]
    human = saved(tmp_path / "human.json", {"B3": written})
    (wish,) = webshop(items, known, human).goals
    assert wish.instruction.startswith("a mug, and price lower than 1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be a list of products, but there is no such file"),
        ([], "must be a list of products, got an empty one"),
        ({"a": 1}, "must be a list of products, got a dict"),
        ([{"asin": "B1"}], "products with an asin and a name, got .* as number 0;"),
    ],
)
def test_product_files_that_hold_none_are_refused(tmp_path, content, message):
    path = tmp_path / "items.json"
    if content is not None:
        saved(path, content)
    with pytest.raises(InputError, match=message):
        webshop(path)


def test_wishes_must_fit_the_products(tmp_path):
    items = saved(tmp_path / "items.json", OFFICIAL)
    with pytest.raises(InputError, match="need a file with instructions"):
        webshop(items)
    with pytest.raises(InputError, match="an instruction for one of the 2 products, but it has"):
        webshop(items, saved(tmp_path / "ins.json", {"B9": {"instruction": "x"}}))
    with pytest.raises(InputError, match="got only the instructions"):
        webshop(attributes=items)
    (tmp_path / "ins.json").write_text("{")
    with pytest.raises(InputError, match="could not be read"):
        webshop(items, tmp_path / "ins.json")


# -- trips of models -------------------------------------------------------------------------------


def trips(**options):
    wish = Goal("i want a blue hoodie", HOODIE, ("slim fit",), ("blue",), 20)
    return WebShop(Shop([HOODIE]), [WISH, wish], [WISH], **options)


def test_all_trips_advance_together_and_their_transcripts_are_kept(monkeypatch):
    task = trips(turns=8)
    script = [" hm\nAction: search[hoodie]", " ok\nAction: click[B1]", "???", " Action: click[red]"]
    asked = scripted(task, monkeypatch, [*script, "Action: click[Buy Now]"])
    one, two = task.episodes(None)
    assert [len(prompts) for prompts in asked] == [2] * 5
    assert asked[1][0] == (
        f"{task.preamble}\n\nObservation: WebShop [SEP] Instruction: [SEP] {WISH.instruction} "
        "[SEP] Search\nThought: hm\nAction: search[hoodie]\n"
        f"Observation: {one.turns[1].observation}\nThought:"
    )
    assert [turn.possible for turn in one.turns] == [True, True, False, True, True]
    assert (one.reward, two.reward) == (pytest.approx(4 / 5), pytest.approx(1 / 3))
    assert one.bought == "Alder hoodie, slim fit (red)"
    assert "???\n(not possible here: nothing happened)" in one.transcript
    assert one.transcript.endswith("Bought: Alder hoodie, slim fit (red) Reward 0.80.")


def test_a_trip_ends_early_after_so_many_impossible_actions_in_a_row(monkeypatch):
    script = ["???", "Action: search[hoodie]", "???", "???", "Action: click[B1]"]
    for patience, turns in ((2, 4), (1, 1), (None, 8)):
        task = trips(turns=8, patience=patience)
        asked = scripted(task, monkeypatch, script)
        one, _ = task.episodes(None)
        assert len(asked) == len(one.turns) == turns
        assert one.reward == 0.0


@pytest.mark.parametrize("text", ["", "x" * 10_000, "click[Buy Now]", "\x00<script>"])
def test_a_trip_of_nonsense_ends_at_the_limit_without_a_reward(monkeypatch, text):
    task = trips(turns=3)
    asked = scripted(task, monkeypatch, [text])
    assert task.evaluate(None).tolist() == [0.0, 0.0]
    assert len(asked) == 3
    sample = task.samples(None, [1])[0]
    assert (sample.index, sample.prediction, sample.right) == (1, "nothing", False)
    assert sample.answer.count("Observation:") == 3
    assert sample.truth == "Alder hoodie, slim fit (blue)"


def test_a_prompt_shows_as_much_of_the_past_as_is_asked_for(monkeypatch):
    task = trips(turns=3, history=1, opener="Action:", preamble="Buy!")
    asked = scripted(task, monkeypatch, [" search[hoodie]", " click[B1]"])
    task.episodes(None)
    assert asked[0][0].startswith("Buy!\n\nObservation: WebShop")
    assert asked[0][0].endswith("Search\nAction:")
    assert asked[2][0].count("Observation:") == 2
    assert "Action: click[B1]\nObservation:" in asked[2][0]


def test_a_real_model_is_scored_the_same_for_any_batch_size(tmp_path):
    for seed, name in enumerate("ab"):
        llama(tmp_path / name, seed, torch.float32, initializer_range=0.5)
        letters(tmp_path / name)
    space, seen = CheckpointSpace(tmp_path / "a", tmp_path / "b"), []
    for batch in (1, 5):
        task = webshop(limit=5, turns=2, batch=batch, max_new_tokens=8)
        task.check_space(space)
        space.materialise(space.seeds[1])
        model = space.materialise(space.seeds[0])
        seen.append(task.episodes(model))
        assert task.evaluate(model).tolist() == [0.0] * 5
    assert seen[0] == seen[1]
    assert len({turn.text for episode in seen[0] for turn in episode.turns}) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "reakt"}, "did you mean 'react'"),
        ({"turns": 0}, "turns must be an integer >= 1"),
        ({"patience": 0}, "patience must be an integer >= 1"),
        ({"history": -1}, "history must be an integer"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        trips(**options)
