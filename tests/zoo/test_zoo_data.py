"""Training data and tasks of the zoo's language models."""

import itertools
import re

import pytest
from helpers.language import held_out_wishes

from m2n2lab import InputError
from m2n2lab.tasks.language.answer_extraction import extract
from m2n2lab.tasks.shopping.catalogue import goals, products
from m2n2lab.tasks.shopping.simulator import Shop
from m2n2lab.zoo import shop, word_problems
from m2n2lab.zoo.arithmetic import MAX_NUMBER, ORDER, part_of, sample_problems
from m2n2lab.zoo.shopping_episodes import PRODUCTS_PER_PAGE, plan, trip, wishes


def test_each_step_of_a_worked_answer_is_right_and_the_last_is_the_answer():
    for found in sample_problems("train", 500):
        *steps, last = found.answer.split("\n")
        assert 1 <= len(steps) <= 3
        for step, order in zip(steps, ORDER, strict=False):
            whole = re.fullmatch(rf"{order} (\d+)([-+*/])(\d+)=<<\1\2\3=(\d+)>>\4", step)
            a, sign, b, result = whole.groups()
            worth = {"+": "a+b", "-": "a-b", "*": "a*b", "/": "a/b"}[sign]
            sums = {"a+b": int(a) + int(b), "a-b": int(a) - int(b), "a*b": int(a) * int(b)}
            assert int(result) == sums.get(worth, int(a) // int(b))
            assert sign != "/" or int(a) % int(b) == 0
            assert max(int(a), int(b), int(result)) <= MAX_NUMBER
        assert last == f"#### {result}"
        assert extract(found.answer, "strict") == int(result)


def test_problems_of_different_parts_never_meet():
    parts = {
        part: {p.question for p in sample_problems(part, 300, seed=3)} for part in ("train", "test")
    }
    parts["search"] = {p.question for p in sample_problems("search", 300, seed=4)}
    assert all(len(part) == 300 for part in parts.values())
    for one, other in itertools.combinations(parts.values(), 2):
        assert not one & other
    for part in parts:
        assert all(part_of(p) == part for p in sample_problems(part, 30, seed=9))


def test_problems_are_the_same_for_the_same_seed_only():
    assert sample_problems("test", 20, seed=1) == sample_problems("test", 20, seed=1)
    assert sample_problems("test", 20, seed=1) != sample_problems("test", 20, seed=2)
    with pytest.raises(InputError, match="part"):
        sample_problems("exam", 1)


def test_a_good_customer_nearly_always_gets_what_was_wanted():
    sold = products(5)
    market = Shop(sold, PRODUCTS_PER_PAGE)
    rewards = []
    for goal in goals(sold, 5)[:60]:
        turns, reward = trip(market, goal)
        assert len(turns) == 3 + len(goal.options)
        # The product may lack an option that was wanted; it is bought all the same.
        assert all(turn.possible for turn in (*turns[:2], turns[-1]))
        assert turns[-1].text == " click[Buy Now]"
        rewards.append(reward)
    assert sum(rewards) / len(rewards) > 0.9


def test_customers_take_the_first_product_that_is_cheap_enough():
    sold = products(0)
    market = Shop(sold, PRODUCTS_PER_PAGE)
    for goal in goals(sold, 0)[:30]:
        search, pick, *_ = plan(market, goal)
        found = market.search(search.value)[:PRODUCTS_PER_PAGE]
        dearer = found[: found.index(pick.value)]
        assert all(market.products[id].price > goal.limit for id in dearer)


def test_no_wish_of_the_tests_is_trained_on(monkeypatch):
    tested = held_out_wishes(shop(48, 48), monkeypatch)
    assert len(tested) == 48
    asked = {
        (goal.product.query, frozenset(goal.attributes), goal.options)
        for goal in (*shop(300, 0).goals, *tested)
    }
    for _, goal in itertools.islice(wishes(), 600):
        assert (goal.product.query, frozenset(goal.attributes), goal.options) not in asked


def test_prompts_of_the_shop_show_the_page_and_what_was_done():
    task = shop(2, 1)
    turns, _ = trip(task.shop, task.goals[0])
    prompt = task.prompt(turns[:2], turns[2].observation)
    first, second = (turn.text for turn in turns[:2])
    assert prompt == (
        f"Action:{first}\nAction:{second}\nObservation: {turns[2].observation}\nAction:"
    )


def test_the_zoos_problems_can_be_made_again():
    from m2n2lab.tasks.registry import make_again

    task = word_problems(5, 3) + shop(4, 2)
    assert make_again(task.origin).identity() == task.identity()
