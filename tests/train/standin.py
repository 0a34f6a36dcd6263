"""The device "standin": a GPU that is computed on the CPU, bit for bit, and refuses what GPUs refuse.

Its tensors do not mix with the CPU's, cannot become NumPy arrays or lists, and have a generator of their own. There is
no float64, as on Apple's GPUs. What is copied to the CPU without waiting is NaN: nothing here learns when it has
arrived. `Standin.waits` counts the operations that make the CPU wait.

Import it before the first backward pass, when autograd counts the devices. It uses PyTorch's PrivateUse1, the device of
backends written elsewhere. `Standin.exchanges` counts what torchrun's processes exchange of its tensors, by gloo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
CROSSING = (aten._to_copy.default, aten.copy_.default)  # may have tensors on both sides
INDEXING = (aten.index.Tensor, aten.index_put_.default)  # take indices from the CPU too
IN_BF16 = (aten.linear.default, aten.conv2d.default, aten.conv_transpose2d.input)  # under autocast


class Standin:
    """The module torch.standin, as PyTorch wants it, and the state of the device."""

    generator = torch.Generator()
    waits = exchanges = 0

    is_initialized = is_available = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 2)  # one each for two processes; to PyTorch each of them is the first
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])
    manual_seed_all = generator.manual_seed


class StandinTensor(Tensor):
    """A tensor on the device; what it holds is `values`, on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> StandinTensor:
        if values.dtype == torch.float64:
            raise TypeError("standin has no float64")
        made: StandinTensor = Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device="standin:0"
        )
        made.values = values
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"StandinTensor({self.values})"

    # Where it has these two, nn.Module.to exchanges a parameter for its copy, `values` included.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *shape: object) -> StandinTensor:
        return StandinTensor(inner["values"])

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, *args, **(kwargs or {}))


def compute(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """The operator's result, where it belongs. Raises RuntimeError for what is on the wrong device."""
    _refuse_strangers(operator, args, kwargs)
    mine = {id(tensor.values): tensor for tensor in _tensors(args, kwargs) if isinstance(tensor, StandinTensor)}
    device = kwargs.get("device")
    stays = bool(mine) if device is None else torch.device(device).type == "standin"
    if operator == aten.copy_.default:
        stays = isinstance(args[0], StandinTensor)
    if operator == aten._local_scalar_dense.default:  # of item() and tolist()
        stays = False
        Standin.waits += 1
    Standin.exchanges += stays and operator.namespace == "c10d"
    if device is not None:
        kwargs["device"] = torch.device("cpu")
    if stays and kwargs.get("generator") is not None:
        raise RuntimeError(f"{operator}: a generator of the CPU for a tensor on standin")

    def wrap(found: Tensor) -> Tensor:
        return mine[id(found)] if id(found) in mine else StandinTensor(found)

    args_here, kwargs_here = tree_map_only(StandinTensor, lambda tensor: tensor.values, (args, kwargs))
    random = _own_generator() if stays and torch.Tag.nondeterministic_seeded in operator.tags else nullcontext()
    with torch.inference_mode(False), random:  # in inference mode views could not be told apart from what they show
        found = operator(*args_here, **kwargs_here)
        if operator in CROSSING:
            found = _crossed(found, args, kwargs, stays)
        # What was changed in place is its owner again, and not a second tensor.
        return tree_map_only(Tensor, wrap, found) if stays else found


@contextmanager
def _own_generator() -> Iterator[None]:
    """Within it the CPU's random numbers are the device's: not every operator takes a generator."""
    of_the_cpu = torch.get_rng_state()
    torch.set_rng_state(Standin.generator.get_state())
    yield
    Standin.generator.set_state(torch.get_rng_state())
    torch.set_rng_state(of_the_cpu)


def _crossed(found: Any, args: Any, kwargs: Any, stays: bool) -> Any:
    """What arrives on the other device at once."""
    if stays and all(isinstance(tensor, StandinTensor) for tensor in _tensors(args, kwargs)):
        return found
    if not (kwargs.get("non_blocking") or args[2:] == (True,)):  # of _to_copy, of copy_
        Standin.waits += 1
    elif not stays:
        found.fill_(torch.nan)
    return found


def _refuse_strangers(operator: Any, args: Any, kwargs: Any) -> None:
    """As CUDA: tensors without dimensions may come from the CPU, but not in lists, and so may indices."""
    if operator in CROSSING:
        return
    for argument in (*(args[:1] if operator in INDEXING else args), *kwargs.values()):
        for tensor in _tensors(argument):
            if tensor.device.type != "standin" and (tensor.dim() or isinstance(argument, list | tuple)):
                raise RuntimeError(f"{operator}: all tensors must be on one device, but they are on standin and cpu")


def _tensors(*trees: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]


def _in_bf16(operator: Any) -> Callable[..., Any]:
    def computed(*args: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operator(*tree_map_only(Tensor, lambda tensor: tensor.to(torch.bfloat16), args))

    return computed


_setup_privateuseone_for_python_backend("standin", Standin)
ALL, ATEN = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
ALL.fallback(compute, "PrivateUse1")  # where no argument is a tensor: torch.zeros and its like
ALL.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
dist.Backend.register_backend("standin_ccl", dist.ProcessGroupGloo, devices=["standin"])
for operator in IN_BF16:
    ATEN.impl(operator, _in_bf16(operator), "AutocastPrivateUse1")
