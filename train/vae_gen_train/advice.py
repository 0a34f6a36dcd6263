"""What to tell of a run that went less well than it could, by what it has logged."""

from __future__ import annotations

from pathlib import Path

from vae_gen_train.metrics_log import read_metrics

OVERFITTED_NATS, OVERFITTED_SHARE = 1.0, 0.02  # by which a loss may have risen since it was lowest
SPOILT = 1.25  # times the squared error; with MNIST it becomes 1.05 times


def overfitting(run: Path, steps: int) -> str:
    """What to tell of a VAE of so many steps that knew its validation images better before; nothing if by little."""
    found = [each for each in read_metrics(run) if each["split"] == "validation" and each["step"] <= steps]
    if not found:
        return ""
    best, last = min(found, key=lambda record: record["total"]), found[-1]
    if last["total"] - best["total"] <= max(OVERFITTED_NATS, OVERFITTED_SHARE * abs(best["total"])):
        return ""
    return (
        f"the network overfits: the loss of the validation images was {best['total']:,.2f} at step {best['step']:,} "
        f"and is {last['total']:,.2f} at step {last['step']:,}; more pictures help, or fewer steps "
        f"(--steps {best['step']}), or --weight-decay 0.2"
    )


def cost_of_the_prior(run: Path, steps: int) -> str:
    """What to tell where the prior's steps have spoilt the reconstructions of the VAE after `steps`; or nothing."""
    errors = {
        each["step"]: each["sse"] for each in read_metrics(run) if each["split"] == "validation" and "sse" in each
    }
    before, (_, after) = errors.get(steps), max(errors.items(), default=(0, 0.0))
    if before is None or after <= SPOILT * before:
        return ""
    return (
        "the prior's steps have spoilt the reconstructions: the squared error of the validation images was "
        f"{before:.2f} after the VAE's steps and is {after:.2f}; more pictures help, or a new run with "
        "--adversarial-target reconstructions, which leaves the decoder as it is"
    )
