"""vae-gen simplify"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from vae_gen.cli import messages, options
from vae_gen.errors import BundleError, MissingExtraError, OutputError
from vae_gen.files import make_folder, whole_file

if TYPE_CHECKING:
    import onnx

    from vae_gen_export.simplify import Simplification

WHEN = ("before", "after")


@click.command()
@click.argument("source", metavar="IN.onnx", type=options.PathType())
@click.argument("target", metavar="OUT.onnx", type=options.PathType())
@click.option("--overwrite", is_flag=True, help="Replace OUT.onnx if it is there.")
@options.json_option
@options.quiet_option
def simplify(source: Path, target: Path, overwrite: bool, as_json: bool, quiet: bool) -> None:
    """Make an ONNX graph cheaper without changing what it computes.

    Chains of affine layers take their cheapest form, channels that make no difference go, constants are computed.
    The new graph is compared with the old one on random data, and written only if they agree. Where that would cost
    accuracy, the graph is only tidied, and a message says so.

    \b
    vae-gen simplify decoder.onnx smaller.onnx
    """
    try:
        from vae_gen_export.simplify.agreement import TOLERANCE, rounding
    except ModuleNotFoundError as error:
        raise MissingExtraError("vae-gen simplify", error.name or "onnx", "train") from error

    if target.exists() and not overwrite:
        raise OutputError(f"{target} is there already; choose another name, or give --overwrite")
    before, bytes_before = _read(source), source.stat().st_size
    after, what, difference = _simplified(source, before)
    allowed = TOLERANCE if difference <= TOLERANCE else TOLERANCE + rounding(before)
    if not difference <= allowed:
        messages.say(
            f"folded, the graph would differ from {source} by {difference:.2g} of the largest value, and at most "
            f"{allowed:.2g} is allowed, so it is only tidied",
            quiet,
        )
        after, what, difference = _simplified(source, before, fold=False)
    if not difference <= allowed:
        raise BundleError(
            f"the tidied graph differs from {source} by {difference:.2g} of the largest value, and at most "
            f"{allowed:.2g} is allowed; nothing was written. Please report this, with the file"
        )
    make_folder(target.parent)
    with whole_file(target) as partial:
        partial.write_bytes(after.SerializeToString())

    sizes = {"bytes": (bytes_before, target.stat().st_size)}
    sizes["nodes"] = len(before.graph.node), len(after.graph.node)
    if as_json:
        about = {f"{name}_{when}": size for name, both in sizes.items() for when, size in zip(WHEN, both, strict=True)}
        click.echo(json.dumps({**about, **what.as_dict(), "largest_difference": difference}, indent=2))
    elif not quiet:
        sizes["multiply-adds"] = what.multiply_adds_before, what.multiply_adds_after
        steps = what.lines()
        table = [f"{name:14}{first:>14,}{second:>14,}" for name, (first, second) in sizes.items()]
        click.echo("\n".join([*steps, *[""] * bool(steps), f"{'':14}{WHEN[0]:>14}{WHEN[1]:>14}", *table]))
    messages.say(f"largest difference on random data: {difference:.2g} of the largest value", quiet)
    messages.say(f"written to {target}", quiet)


def _simplified(
    source: Path, before: onnx.ModelProto, fold: bool = True
) -> tuple[onnx.ModelProto, Simplification, float]:
    """What the graph in `source` becomes, what was done, and how much it differs. Raises BundleError."""
    import onnx

    from vae_gen_export.simplify import simplify
    from vae_gen_export.simplify.agreement import largest_difference

    try:
        after, what = simplify(before, fold)
        onnx.checker.check_model(after)
    except Exception as error:  # a graph may hold anything
        kind, text = type(error).__name__, next(iter(str(error).splitlines()), "")
        raise BundleError(
            f"{source} cannot be simplified: {kind}: {text}; nothing was written. Please report this, with the file"
        ) from error
    try:
        return after, what, largest_difference(before, after)
    except BundleError as error:
        raise BundleError(f"{source} and what it became cannot be compared: {error}; nothing was written") from error


def _read(source: Path) -> onnx.ModelProto:
    import onnx

    try:
        model = onnx.load(source)
        onnx.checker.check_model(model)
    except OSError as error:
        raise BundleError(f"cannot read {source}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file may raise anything
        raise BundleError(f"{source} is no valid ONNX graph: {str(error).splitlines()[0]}") from error
    return model
