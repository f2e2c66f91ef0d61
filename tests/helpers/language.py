"""Language models in tests: answers in order, answers by a script, what tasks ask."""


def answers(generator, asked, prompts, watch=None):
    """Return a generator's answers in the order of their prompts."""
    found = {}
    for batch in generator.batches(*asked, prompts, watch):
        found.update(zip(batch.indices, batch.texts, strict=True))
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def scripted(task, monkeypatch, script):
    """Let the model answer by the number of the turn; returns the prompts of each turn."""
    asked = []

    def ask(_, prompts, meter, count):
        asked.append(prompts)
        turn = script[min(len(asked) - 1, len(script) - 1)]
        return [turn] * len(prompts)

    monkeypatch.setattr(task, "ask", ask)
    monkeypatch.setattr(task, "tokenizer", lambda _: None)
    return asked


def prompts_of(task, monkeypatch, answer=""):
    """Return a list of all prompts of a language task from now on, each answered alike."""
    asked = []

    def ask(model, prompts, meter, count=1):
        asked.extend(prompts)
        return [answer] * len(prompts)

    monkeypatch.setattr(task, "ask", ask)
    monkeypatch.setattr(task, "tokenizer", lambda model: None)
    return asked


def held_out_wishes(task, monkeypatch):
    """Return the wishes that a text shop keeps for held-out scores."""
    found, visits = [], task.shop.visits

    def visited(wishes):
        found.extend(wishes)
        return visits(wishes)

    with monkeypatch.context() as patch:
        prompts_of(task, patch)
        patch.setattr(task.shop, "visits", visited)
        task.held_out(None)
    return found
