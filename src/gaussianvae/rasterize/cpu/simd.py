"""Explicit 16-lane float32 SIMD for numba kernels.

numba has no vector type, and LLVM's loop vectorizer gives up on loops with early exits, selects and several live
accumulators. Here are two value types, `f32x16` (sixteen floats) and `mask16` (sixteen booleans), that map one to one
to the LLVM types <16 x float> and <16 x i1>. They live in local variables of jitted functions only and support + - * /,
unary -, comparisons and the functions below; simd_memory.py has loads and stores. LLVM lowers them to one AVX-512
register, two AVX2 registers or four SSE or NEON registers, so the same source runs everywhere.

Operators carry the flag `contract` (a * b + c may become one instruction) and nothing else, so nan and infinity behave
as IEEE says and the rounding trick inside `exp2` is safe.
"""

import operator

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import config, types
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model, type_callable

LANES = 16
# the features numba compiles for (its own override first), so that codegen and cache key agree
_FEATURES = config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()
F32 = ir.FloatType()
I32 = ir.IntType(32)
VF = ir.VectorType(F32, LANES)
VI = ir.VectorType(I32, LANES)
VB = ir.VectorType(ir.IntType(1), LANES)
CONTRACT = ("contract",)


class _VectorType(types.Type):
    def __init__(self, name, llvm_type):
        self.llvm_type = llvm_type
        super().__init__(name)

    def can_convert_from(self, typingctx, other):  # scalars broadcast
        if self.name == "f32x16" and isinstance(other, (types.Float, types.Integer)):
            return Conversion.safe


f32x16 = _VectorType("f32x16", VF)
mask16 = _VectorType("mask16", VB)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.llvm_type)


def _splat(builder, scalar, vec=VF):
    one = builder.insert_element(ir.Constant(vec, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(vec, ir.Undefined), ir.Constant(VI, [0] * LANES))


def _const(value):
    return ir.Constant(VF, [float(value)] * LANES)


def _consti(value):
    return ir.Constant(VI, [int(value)] * LANES)


def shuffle(builder, a, b, index):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(index)), list(index)))


def _call(builder, name, args, vec=VF):
    fnty = ir.FunctionType(vec, [a.type for a in args])
    fn = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
    return builder.call(fn, args)


def _fma(builder, a, b, c):
    # not llvm.fma: without FMA hardware that becomes sixteen calls of libm's fmaf (20 times slower in all)
    return _call(builder, "llvm.fmuladd.v16f32", [a, b, c])


@lower_cast(types.Float, f32x16)
def _cast_float(context, builder, fromty, toty, value):
    return _splat(builder, context.cast(builder, value, fromty, types.float32))


@lower_cast(types.Integer, f32x16)
def _cast_int(context, builder, fromty, toty, value):
    return _splat(builder, context.cast(builder, value, fromty, types.float32))


def _is_operand(t):
    return t == f32x16 or isinstance(t, (types.Float, types.Integer))


def _binary(op, build, result):
    @type_callable(op)
    def typing(context):
        def typer(a, b):
            if f32x16 in (a, b) and _is_operand(a) and _is_operand(b):
                return signature(result, f32x16, f32x16)

        return typer

    @lower_builtin(op, f32x16, f32x16)
    def lower(context, builder, sig, args):
        return build(builder, *args)


for _ops, _name in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
):
    for _op in _ops:
        _binary(_op, lambda b, x, y, n=_name: getattr(b, n)(x, y, flags=CONTRACT), f32x16)
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y, flags=("arcp", "contract")), f32x16)
for _op, _cmp in ((operator.ge, ">="), (operator.gt, ">"), (operator.le, "<="), (operator.lt, "<")):
    _binary(_op, lambda b, x, y, c=_cmp: b.fcmp_ordered(c, x, y), mask16)


@type_callable(operator.neg)
def _type_neg(context):
    def typer(a):
        if a == f32x16:
            return f32x16

    return typer


@lower_builtin(operator.neg, f32x16)
def _lower_neg(context, builder, sig, args):
    return builder.fneg(args[0])


@type_callable(operator.and_)
def _type_and(context):
    def typer(a, b):
        if a == mask16 and b == mask16:
            return mask16

    return typer


@lower_builtin(operator.and_, mask16, mask16)
def _lower_and(context, builder, sig, args):
    return builder.and_(*args)


def _function(n_args):
    """Make an intrinsic of 1, 2 or 3 vectors (scalars are broadcast) from a function that builds its instructions."""

    def wrap(build):
        typed = f32x16(*[f32x16] * n_args)

        def codegen(context, builder, sig, args):
            return build(builder, *args)

        # numba reads the number of arguments from the function itself
        def of_one(typingctx, x):
            return typed, codegen

        def of_two(typingctx, x, y):
            return typed, codegen

        def of_three(typingctx, x, y, z):
            return typed, codegen

        made = (of_one, of_two, of_three)[n_args - 1]
        made.__name__, made.__doc__ = build.__name__, build.__doc__
        return intrinsic(made)

    return wrap


@_function(1)
def splat(b, x):
    """Broadcast a scalar."""
    return x


@_function(3)
def fma(b, x, y, z):
    """x * y + z, one instruction where the machine has it."""
    return _fma(b, x, y, z)


@_function(2)
def vmin(b, x, y):
    """The smaller; y where either is nan."""
    return b.select(b.fcmp_ordered("<", x, y), x, y)


@_function(2)
def vmax(b, x, y):
    """The larger; y where either is nan."""
    return b.select(b.fcmp_ordered(">", x, y), x, y)


@_function(1)
def vabs(b, x):
    return _call(b, "llvm.fabs.v16f32", [x])


@_function(1)
def vsqrt(b, x):
    return _call(b, "llvm.sqrt.v16f32", [x])


@_function(1)
def negabs(b, x):
    """-|x| (sets the sign bit)."""
    return b.bitcast(b.or_(b.bitcast(x, VI), _consti(-(2**31))), VF)


# minimax polynomial for 2**f on [-0.5, 0.5], degree 4, relative error 2.6e-6
_EXP2 = (0.99999926, 0.69312181, 0.24024745, 0.05591786, 0.0095701)


@_function(1)
def exp2(b, x):
    """2**x for |x| < 126; garbage (never a trap) outside, which callers mask out."""
    magic = _const(12582912.0)  # 1.5 * 2**23: rounds to integer in the low bits
    shifted = b.fadd(x, magic)
    frac = b.fsub(x, b.fsub(shifted, magic))
    poly = _const(_EXP2[4])
    for c in _EXP2[3::-1]:
        poly = _fma(b, poly, frac, _const(c))
    exponent = b.shl(b.bitcast(shifted, VI), _consti(23))
    return b.bitcast(b.add(b.bitcast(poly, VI), exponent), VF)


@_function(1)
def log2(b, x):
    """log2(x) for normal positive x, absolute error about 2e-7."""
    bits = b.bitcast(x, VI)
    # split x = 2**e * m with m in [sqrt(1/2), sqrt(2))
    e = b.ashr(b.sub(bits, _consti(0x3F3504F3)), _consti(23))
    m = b.bitcast(b.sub(bits, b.shl(e, _consti(23))), VF)
    ef = b.sitofp(e, VF)
    # log(m) = 2 atanh(s), s = (m-1)/(m+1), |s| < 0.1716
    s = b.fdiv(b.fsub(m, _const(1.0)), b.fadd(m, _const(1.0)))
    z = b.fmul(s, s)
    p = _const(2.885390082 / 9)
    for k in (7, 5, 3, 1):
        p = _fma(b, p, z, _const(2.885390082 / k))
    return _fma(b, s, p, ef)


@_function(1)
def reciprocal(b, x):
    """1 / x to about 1e-7 for normal x: hardware estimate and one Newton step where there is one.

    A 512-bit divide blocks the multiplier for about ten cycles, this takes four."""
    if "+avx512f" not in _FEATURES:
        return b.fdiv(_const(1.0), x)
    i16 = ir.IntType(16)
    name = "llvm.x86.avx512.rcp14.ps.512"
    fnty = ir.FunctionType(VF, [VF, VF, i16])
    fn = b.module.globals.get(name) or ir.Function(b.module, fnty, name)
    r = b.call(fn, [x, ir.Constant(VF, [0.0] * LANES), ir.Constant(i16, -1)])
    return _fma(b, r, _fma(b, b.fneg(x), r, _const(1.0)), r)


@intrinsic
def select(typingctx, m, a, b):
    """m ? a : b, lane by lane."""

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return f32x16(mask16, f32x16, f32x16), codegen


@intrinsic
def any_lane(typingctx, m):
    """Whether any lane of a mask is set."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask16), codegen


@intrinsic
def vsum(typingctx, v):
    """Sum of the sixteen lanes (pairwise)."""

    def codegen(context, builder, sig, args):
        x = args[0]
        for step in (8, 4, 2, 1):
            index = [(i + step) % LANES for i in range(LANES)]
            x = builder.fadd(x, shuffle(builder, x, x, index))
        return builder.extract_element(x, ir.Constant(I32, 0))

    return types.float32(f32x16), codegen


def lane_constant(values):
    """Intrinsic without arguments that returns a constant vector."""
    constant = ir.Constant(VF, [float(v) for v in values])

    @intrinsic
    def get(typingctx):
        def codegen(context, builder, sig, args):
            return constant

        return f32x16(), codegen

    return get


@intrinsic
def trailing_zeros(typingctx, x):
    """Index of the lowest set bit of a non-zero uint64."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@intrinsic
def sums12(typingctx, vectors):
    """Lane k of the result = sum of the lanes of vectors[k], k < 12; lanes 12-15 are zero.

    A transpose that adds on the way, built from in-lane unpacks and 128-bit shuffles (one cheap
    instruction each): 36 instructions for twelve sums."""

    def codegen(context, builder, sig, args):
        v = [builder.extract_value(args[0], i) for i in range(12)]

        def merge(a, b, lo, hi):
            return builder.fadd(shuffle(builder, a, b, lo), shuffle(builder, a, b, hi))

        quads = [q for q in range(0, 16, 4)]
        unpack_lo = [q + k for q in quads for k in (0, 16, 1, 17)]
        unpack_hi = [q + k for q in quads for k in (2, 18, 3, 19)]
        pair_lo = [q + k for q in quads for k in (0, 1, 16, 17)]
        pair_hi = [q + k for q in quads for k in (2, 3, 18, 19)]
        groups = []
        for g in (0, 4, 8):  # each 128-bit lane: partial sums of four vectors
            ab = merge(v[g], v[g + 1], unpack_lo, unpack_hi)
            cd = merge(v[g + 2], v[g + 3], unpack_lo, unpack_hi)
            groups.append(merge(ab, cd, pair_lo, pair_hi))
        zero = ir.Constant(VF, [0.0] * LANES)
        first, last = list(range(8)) + list(range(16, 24)), list(range(8, 16)) + list(range(24, 32))
        p = merge(groups[0], groups[1], first, last)
        q = merge(groups[2], zero, first, last)
        even = [i + k for i in (0, 8, 16, 24) for k in range(4)]
        odd = [i + k for i in (4, 12, 20, 28) for k in range(4)]
        return merge(p, q, even, odd)

    return f32x16(vectors), codegen
