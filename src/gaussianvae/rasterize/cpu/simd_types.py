"""Vector types for numba kernels: what they are to numba and to LLVM, and their operators.

numba has no vector type, and LLVM's loop vectorizer gives up on loops with early exits, selects and several live
accumulators. Here are two kinds of value types of any width: `f32x16` (sixteen floats) and its `mask` (sixteen
booleans) map one to one to the LLVM types <16 x float> and <16 x i1>. They live in local variables of jitted functions
only and support + - * /, unary -, comparisons, & of masks and the functions of simd.py; scalar operands are broadcast.
simd_memory.py has loads and stores. LLVM lowers 16 lanes to one AVX-512 register, two AVX2 registers or four SSE or
NEON registers, so the same source runs everywhere.

Kernels whose lanes are Gaussians or tiles have 16 of them. Where lanes are pixels they are `PIXELS`: 16 with AVX-512,
else 8, since sums of the backward pass that take two registers each don't fit the sixteen of AVX2.

Operators carry the flag `contract` (a * b + c may become one instruction) and nothing else, so nan and infinity behave
as IEEE says and the rounding trick inside `exp2` is safe.
"""

import operator

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config, types
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import lower_builtin, lower_cast, models, register_model, type_callable

# the features numba compiles for (its own override first), so that codegen and cache key agree
FEATURES = config.CPU_FEATURES if config.CPU_FEATURES is not None else llvm.get_host_cpu_features().flatten()
LANES = 16
PIXELS = 16 if "+avx512f" in FEATURES else 8
F32, I32 = ir.FloatType(), ir.IntType(32)
CONTRACT = ("contract",)


class _Vector(types.Type):
    def __init__(self, name, element, lanes):
        self.llvm_type = ir.VectorType(element, lanes)
        super().__init__(f"{name}{lanes}")


class FloatVector(_Vector):
    """So many floats."""

    def __init__(self, lanes):
        super().__init__("f32x", F32, lanes)
        self.mask = MaskVector(lanes)

    def can_convert_from(self, typingctx, other):  # scalars broadcast
        if isinstance(other, (types.Float, types.Integer)):
            return Conversion.safe


class MaskVector(_Vector):
    """So many booleans."""

    def __init__(self, lanes):
        super().__init__("mask", ir.IntType(1), lanes)


f32x16, f32_pixels = FloatVector(LANES), FloatVector(PIXELS)


@register_model(FloatVector)
@register_model(MaskVector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm_type)


@lower_cast(types.Float, FloatVector)
@lower_cast(types.Integer, FloatVector)
def _broadcast(context, builder, fromty, toty, value):
    scalar, vector = context.cast(builder, value, fromty, types.float32), toty.llvm_type
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def vector_among(operands):
    """The vector type of operands that are vectors of one width and scalars; None of any others."""
    vectors = {t for t in operands if isinstance(t, FloatVector)}
    if len(vectors) == 1 and all(isinstance(t, (FloatVector, types.Float, types.Integer)) for t in operands):
        return vectors.pop()


def _binary(op, build, result):
    @type_callable(op)
    def typing(context):
        def typer(a, b):
            vector = vector_among((a, b))
            if vector:
                return signature(result(vector), vector, vector)

        return typer

    @lower_builtin(op, FloatVector, FloatVector)
    def lower(context, builder, sig, args):
        return build(builder, *args)


for _ops, _name in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
):
    for _op in _ops:
        _binary(_op, lambda b, x, y, n=_name: getattr(b, n)(x, y, flags=CONTRACT), lambda vector: vector)
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y, flags=("arcp", "contract")), lambda vector: vector)
for _op, _cmp in ((operator.ge, ">="), (operator.gt, ">"), (operator.le, "<="), (operator.lt, "<")):
    _binary(_op, lambda b, x, y, c=_cmp: b.fcmp_ordered(c, x, y), lambda vector: vector.mask)


@type_callable(operator.neg)
def _type_neg(context):
    def typer(a):
        if isinstance(a, FloatVector):
            return a

    return typer


@lower_builtin(operator.neg, FloatVector)
def _lower_neg(context, builder, sig, args):
    return builder.fneg(args[0])


@type_callable(operator.and_)
def _type_and(context):
    def typer(a, b):
        if isinstance(a, MaskVector) and a == b:
            return a

    return typer


@lower_builtin(operator.and_, MaskVector, MaskVector)
def _lower_and(context, builder, sig, args):
    return builder.and_(*args)
