"""Two cases from operation, decided: one modality alone is wrong, and number formats that differ with and without being declared."""

from __future__ import annotations

from accuracy.policy import Formats, Settings, effective
from accuracy.types import Gate, Verdict
from tests.unit.accuracy.test_decision import laid_out, result_of, run, sample


def test_images_alone_are_enough_to_block() -> None:
    """OC-070: text agrees, four of ten image prompts are far off: their stratum is named, and it has its own result."""
    strata = ("Chat", "Chat/Image")
    samples = [sample(n, 20.0 if n % 2 and n % 10 in (1, 3, 5, 9) else 0.8, stratum=strata[n % 2]) for n in range(600)]
    found, _ = run(laid_out(strata), samples)
    assert found.verdict is Verdict.BLOCK
    assert "Chat/Image" in found.message
    assert result_of(found, Gate.TOKENS, "kl", "Chat").estimate < result_of(found, Gate.TOKENS, "kl", "Chat/Image").estimate


def test_a_declared_quantisation_has_its_own_margins_and_an_undeclared_one_none() -> None:
    """OC-071: 8 times the noise, which is .016 nats: beyond κ 2 of equal formats, well inside κ 12 of bf16 -> w8a8."""
    bf16, w8a8 = Formats(weights="bf16"), Formats(weights="w8a8")
    samples = [sample(n, 8.0) for n in range(600)]
    undeclared = effective(Settings(), reference=bf16)
    assert undeclared.declared == ""
    assert run(laid_out(policy=undeclared), samples)[0].verdict is Verdict.BLOCK
    declared = effective(Settings(), reference=bf16, candidate=w8a8)
    assert declared.declared == "bf16 -> w8a8"
    found, _ = run(laid_out(policy=declared), samples)
    assert found.verdict is not Verdict.BLOCK
    assert result_of(found, Gate.TOKENS, "kl", "Chat").decision == "Pass"
