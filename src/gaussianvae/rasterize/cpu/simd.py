"""Functions of the vectors of simd_types.py, for numba kernels; of any width where nothing else is said."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from gaussianvae.rasterize.cpu.simd_types import (
    FEATURES,
    I32,
    FloatVector,
    MaskVector,
    f32_pixels,
    f32x16,
    vector_among,
)


def _ints(like):
    return ir.VectorType(I32, like.type.count)


def _const(like, value):
    return ir.Constant(like.type, [float(value)] * like.type.count)


def _consti(like, value):
    return ir.Constant(_ints(like), [int(value)] * like.type.count)


def shuffle(builder, a, b, index):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(index)), list(index)))


def _call(builder, name, *args):
    fnty = ir.FunctionType(args[0].type, [a.type for a in args])
    fn = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
    return builder.call(fn, args)


def _call_sized(builder, name, *args):
    return _call(builder, f"llvm.{name}.v{args[0].type.count}f32", *args)


def _fma(builder, a, b, c):
    # not llvm.fma: without FMA hardware that becomes a call of libm's fmaf a lane (20 times slower in all)
    return _call_sized(builder, "fmuladd", a, b, c)


def _splat(vector):
    @intrinsic
    def splat(typingctx, x):
        return vector(vector), lambda context, builder, sig, args: args[0]

    return splat


splat, splat_pixels = _splat(f32x16), _splat(f32_pixels)
"""Broadcast a scalar, to 16 lanes or to those of pixels."""


def _function(n_args):
    """Make an intrinsic of 1, 2 or 3 vectors (scalars are broadcast) from a function that builds its instructions."""

    def wrap(build):
        def typed(*operands):
            vector = vector_among(operands)
            if vector:
                return vector(*[vector] * n_args), lambda context, builder, sig, args: build(builder, *args)

        # numba reads the number of arguments from the function itself
        def of_one(typingctx, x):
            return typed(x)

        def of_two(typingctx, x, y):
            return typed(x, y)

        def of_three(typingctx, x, y, z):
            return typed(x, y, z)

        made = (of_one, of_two, of_three)[n_args - 1]
        made.__name__, made.__doc__ = build.__name__, build.__doc__
        return intrinsic(made)

    return wrap


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
    return _call_sized(b, "fabs", x)


@_function(1)
def vsqrt(b, x):
    return _call_sized(b, "sqrt", x)


@_function(1)
def negabs(b, x):
    """-|x| (sets the sign bit)."""
    return b.bitcast(b.or_(b.bitcast(x, _ints(x)), _consti(x, -(2**31))), x.type)


# minimax polynomial for 2**f on [-0.5, 0.5], degree 4, relative error 2.6e-6
_EXP2 = (0.99999926, 0.69312181, 0.24024745, 0.05591786, 0.0095701)


@_function(1)
def exp2(b, x):
    """2**x for |x| < 126; garbage (never a trap) outside, which callers mask out."""
    magic = _const(x, 12582912.0)  # 1.5 * 2**23: rounds to integer in the low bits
    shifted = b.fadd(x, magic)
    frac = b.fsub(x, b.fsub(shifted, magic))
    poly = _const(x, _EXP2[4])
    for c in _EXP2[3::-1]:
        poly = _fma(b, poly, frac, _const(x, c))
    exponent = b.shl(b.bitcast(shifted, _ints(x)), _consti(x, 23))
    return b.bitcast(b.add(b.bitcast(poly, _ints(x)), exponent), x.type)


@_function(1)
def log2(b, x):
    """log2(x) for normal positive x, absolute error about 2e-7."""
    bits = b.bitcast(x, _ints(x))
    # split x = 2**e * m with m in [sqrt(1/2), sqrt(2))
    e = b.ashr(b.sub(bits, _consti(x, 0x3F3504F3)), _consti(x, 23))
    m = b.bitcast(b.sub(bits, b.shl(e, _consti(x, 23))), x.type)
    ef = b.sitofp(e, x.type)
    # log(m) = 2 atanh(s), s = (m-1)/(m+1), |s| < 0.1716
    s = b.fdiv(b.fsub(m, _const(x, 1.0)), b.fadd(m, _const(x, 1.0)))
    z = b.fmul(s, s)
    p = _const(x, 2.885390082 / 9)
    for k in (7, 5, 3, 1):
        p = _fma(b, p, z, _const(x, 2.885390082 / k))
    return _fma(b, s, p, ef)


@_function(1)
def reciprocal(b, x):
    """1 / x to about 1e-7 for normal x: with AVX-512 (of 16 lanes) hardware estimate and one Newton step.

    A 512-bit divide blocks the multiplier for about ten cycles, this takes four. A 256-bit one blocks it for three, no
    more than estimate and step (of AVX) would."""
    if "+avx512f" not in FEATURES:
        return b.fdiv(_const(x, 1.0), x)
    every = ir.Constant(ir.IntType(16), -1)
    r = _call(b, "llvm.x86.avx512.rcp14.ps.512", x, _const(x, 0.0), every)
    return _fma(b, r, _fma(b, b.fneg(x), r, _const(x, 1.0)), r)


@intrinsic
def select(typingctx, m, a, b):
    """m ? a : b, lane by lane."""
    vector = vector_among((a, b))
    if vector and m == vector.mask:
        return vector(m, vector, vector), lambda context, builder, sig, args: builder.select(*args)


@intrinsic
def any_lane(typingctx, m):
    """Whether any lane of a mask is set."""

    def codegen(context, builder, sig, args):
        bits = ir.IntType(args[0].type.count)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    if isinstance(m, MaskVector):
        return types.boolean(m), codegen


@intrinsic
def vsum(typingctx, v):
    """Sum of the lanes (pairwise)."""

    def codegen(context, builder, sig, args):
        x, step = args[0], args[0].type.count // 2
        while step:
            index = [(i + step) % x.type.count for i in range(x.type.count)]
            x, step = builder.fadd(x, shuffle(builder, x, x, index)), step // 2
        return builder.extract_element(x, ir.Constant(I32, 0))

    if isinstance(v, FloatVector):
        return types.float32(v), codegen


def lane_constant(values):
    """Intrinsic without arguments that returns a constant vector."""
    vector, constant = FloatVector(len(values)), [float(v) for v in values]

    @intrinsic
    def get(typingctx):
        return vector(), lambda context, builder, sig, args: ir.Constant(vector.llvm_type, constant)

    return get


@intrinsic
def trailing_zeros(typingctx, x):
    """Index of the lowest set bit of a non-zero uint64."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@intrinsic
def sums12(typingctx, vectors):
    """Lane k of the result, which has 16, = sum of the lanes of vectors[k], k < 12; lanes 12-15 are zero.

    A transpose that adds on the way, built from in-lane unpacks and 128-bit shuffles (one cheap
    instruction each): 36 instructions for twelve sums of vectors of one register each."""

    def codegen(context, builder, sig, args):
        v = [builder.extract_value(args[0], i) for i in range(12)]
        lanes = v[0].type.count

        def merge(a, b, lo, hi):
            return builder.fadd(shuffle(builder, a, b, lo), shuffle(builder, a, b, hi))

        quads = range(0, lanes, 4)
        unpack_lo = [q + k for q in quads for k in (0, lanes, 1, lanes + 1)]
        unpack_hi = [q + k for q in quads for k in (2, lanes + 2, 3, lanes + 3)]
        pair_lo = [q + k for q in quads for k in (0, 1, lanes, lanes + 1)]
        pair_hi = [q + k for q in quads for k in (2, 3, lanes + 2, lanes + 3)]
        groups = []
        for g in (0, 4, 8):  # each 128-bit lane: partial sums of four vectors
            ab = merge(v[g], v[g + 1], unpack_lo, unpack_hi)
            cd = merge(v[g + 2], v[g + 3], unpack_lo, unpack_hi)
            groups.append(merge(ab, cd, pair_lo, pair_hi))
        first = [i + k for i in (0, lanes) for k in range(lanes // 2)]
        last = [i + lanes // 2 for i in first]
        p = merge(groups[0], groups[1], first, last)
        q = merge(groups[2], _const(v[0], 0.0), first, last)
        if lanes == 8:
            return shuffle(builder, p, q, range(16))
        even = [i + k for i in (0, 8, 16, 24) for k in range(4)]
        odd = [i + 4 for i in even]
        return merge(p, q, even, odd)

    return f32x16(vectors), codegen
