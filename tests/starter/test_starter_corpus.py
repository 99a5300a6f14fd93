import copy
import random
from dataclasses import replace
from itertools import product
from typing import Any

from restrl.starter.composition import split_of
from restrl.starter.corpus import END, CorpusConfig, Document, document_at, documents
from restrl.starter.inputs import draw_inputs
from restrl.starter.rendering import Plan, render_body


def parts(document: Document) -> tuple[str, str]:
    """The program, and the review line or an empty string."""
    text = document.text.removesuffix(END)
    program, _, review = text.partition("# review: ")
    return program, review.strip()


def outcomes(program: str, inputs: list[tuple[Any, ...]]) -> list[Any]:
    scope: dict[str, Any] = {}
    exec(program, scope)
    results = []
    for args in inputs:
        try:
            results.append(scope["solve"](*copy.deepcopy(args)))
        except Exception as error:
            results.append(type(error))
    return results


def test_documents_are_deterministic_and_addressable() -> None:
    assert list(documents(7, 5)) == [document_at(i) for i in range(7, 12)]
    assert document_at(0, seed=1) != document_at(0, seed=0)


def test_only_train_compositions_appear() -> None:
    assert {split_of(d.composition.names) for d in documents(0, 500)} == {"train"}


def test_documents_end_with_the_marker_and_compile() -> None:
    for document in documents(0, 200):
        assert document.text.endswith("\n" + END) and document.text.count(END) == 1
        compile(parts(document)[0], "document", "exec")


def test_without_mistakes_every_program_is_right_and_reviewed_so() -> None:
    config = CorpusConfig(careful=0.0, sloppy=0.0, review_share=1.0)
    assert {parts(d)[1] for d in documents(0, 150, config=config)} == {"ok"}


def test_reviews_tell_the_truth() -> None:
    """Compared on inputs that the corpus never used, with every right way to write the program.

    A review comes from a few sample inputs, so a rare mistake may pass it; a right program is never called wrong.
    """
    config = CorpusConfig(review_share=1.0, structural=0.0)
    verdicts: list[bool] = []
    missed = 0
    for index in range(120):
        document = document_at(index, config=config)
        program, review = parts(document)
        body = program.removeprefix(document.prompt).splitlines()
        right = right_body(document, len(body))
        kind = document.composition.steps[0].operation.source
        inputs = draw_inputs(random.Random(5), kind, document.composition.k_kind, 40)
        same = any(outcomes(document.prompt + r, inputs) == outcomes(program, inputs) for r in right)
        verdicts.append(review == "ok")
        missed += review == "ok" and not same
        assert review == "ok" or not same, (program, review)
        if review != "ok":
            line = int(review.removeprefix("bug in line "))
            assert 1 <= line <= len(body)
            assert any(r.splitlines()[line - 1] != body[line - 1] for r in right)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.9
    assert missed <= 0.1 * len(verdicts)


def right_body(document: Document, lines: int) -> list[str]:
    """Every right way to write the document's composition in that many lines."""
    choices = [range(len(step.operation.forms)) for step in document.composition.steps]
    bodies = [
        render_body(document.composition, Plan(forms, fold)) for forms in product(*choices) for fold in (False, True)
    ]
    return [body for body in bodies if len(body.splitlines()) == lines]


def test_mistakes_follow_the_settings() -> None:
    def wrong_share(config: CorpusConfig) -> float:
        config = replace(config, review_share=1.0)
        return sum(parts(d)[1] != "ok" for d in documents(0, 300, config=config)) / 300

    few = wrong_share(CorpusConfig(careful=0.05, sloppy=0.05))
    usual = wrong_share(CorpusConfig())
    many = wrong_share(CorpusConfig(careful=0.8, sloppy=0.8))
    assert few < usual < many
    assert 0.25 < usual < 0.65
