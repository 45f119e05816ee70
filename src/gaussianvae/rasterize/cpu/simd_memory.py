"""Loads, stores, gathers and transposes of vectors (see simd_types.py); of 16 lanes where nothing else is said."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from gaussianvae.rasterize.cpu.simd import shuffle
from gaussianvae.rasterize.cpu.simd_types import I32, LANES, FloatVector, f32_pixels, f32x16

VF, VI = f32x16.llvm_type, ir.VectorType(I32, LANES)


def _pointer(context, builder, array_type, array, index, vec=VF):
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vec.as_pointer())


def _load(builder, pointer):
    value = builder.load(pointer)
    value.align = 4
    return value


def _store(builder, value, pointer):
    builder.store(value, pointer).align = 4


def _loading(vector):
    @intrinsic
    def load(typingctx, array, index):
        def codegen(context, builder, sig, args):
            return _load(builder, _pointer(context, builder, sig.args[0], args[0], args[1], vector.llvm_type))

        return vector(array, types.intp), codegen

    return load


load, load_pixels, load8 = _loading(f32x16), _loading(f32_pixels), _loading(FloatVector(8))
"""array.flat[index : index + lanes] (C-contiguous float32, no bounds check, any alignment)."""


@intrinsic
def store(typingctx, array, index, value):
    """array.flat[index : index + lanes] = value, a vector of any width."""

    def codegen(context, builder, sig, args):
        _store(builder, args[2], _pointer(context, builder, sig.args[0], args[0], args[1], args[2].type))

    if isinstance(value, FloatVector):
        return types.void(array, types.intp, value), codegen


@intrinsic
def fetch_add(typingctx, array, index):
    """array.flat[index] += 1 for an int64 array, atomically among threads; returns the value before."""

    def codegen(context, builder, sig, args):
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(array, types.intp), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line at array.flat[index] (read)."""

    def codegen(context, builder, sig, args):
        i8p = ir.IntType(8).as_pointer()
        data = make_array(sig.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), i8p)
        fnty = ir.FunctionType(ir.VoidType(), [i8p, I32, I32, I32])
        fn = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(builder.module, fnty, "llvm.prefetch.p0")
        builder.call(fn, [pointer, ir.Constant(I32, 0), ir.Constant(I32, 3), ir.Constant(I32, 1)])

    return types.void(array, types.intp), codegen


def _load_strided(n):
    """Lane i of component c is array[index + n*i + c]: 16 rows of an (N, n) array, transposed."""

    def codegen(context, builder, sig, args):
        base = _pointer(context, builder, sig.args[0], args[0], args[1])
        rows = [_load(builder, builder.gep(base, [ir.Constant(I32, r)])) for r in range(n)]
        out = []
        for c in range(n):
            flat = [n * lane + c for lane in range(LANES)]  # position among the n*16 floats
            value = rows[0]
            done = {lane: f for lane, f in enumerate(flat) if f < LANES}
            index = [done.get(lane, 0) for lane in range(LANES)]
            have = set(done)
            for r in range(1, n):
                # lanes already placed stay put (after the first shuffle), new ones come from row r
                new = {lane: f - r * LANES for lane, f in enumerate(flat) if f // LANES == r}
                step = [
                    LANES + new[lane] if lane in new else ((index[lane] if r == 1 else lane) if lane in have else 0)
                    for lane in range(LANES)
                ]
                value = shuffle(builder, value, rows[r], step)
                have |= set(new)
            out.append(value)
        return context.make_tuple(builder, sig.return_type, out)

    return codegen


@intrinsic
def load3(typingctx, array, index):
    """Components x, y, z of 16 consecutive rows of an (N, 3) array."""
    return types.UniTuple(f32x16, 3)(array, types.intp), _load_strided(3)  # type: ignore[attr-defined]


@intrinsic
def load4(typingctx, array, index):
    """The same for an (N, 4) array."""
    return types.UniTuple(f32x16, 4)(array, types.intp), _load_strided(4)  # type: ignore[attr-defined]


def _transpose(builder, rows):
    """16x16 transpose in four butterfly stages of two-input shuffles."""
    for bit in (8, 4, 2, 1):
        for i in range(LANES):
            if i & bit:
                continue
            a, b = rows[i], rows[i | bit]
            lo = [lane if not lane & bit else LANES + (lane ^ bit) for lane in range(LANES)]
            hi = [(lane | bit) if not lane & bit else LANES + lane for lane in range(LANES)]
            rows[i], rows[i | bit] = shuffle(builder, a, b, lo), shuffle(builder, a, b, hi)
    return rows


@intrinsic
def transpose16(typingctx, src, src_index, src_stride, dst, dst_index, dst_stride):
    """dst row i lane j = src row j lane i, for 16 rows of 16 floats on both sides."""

    def codegen(context, builder, sig, args):
        src, si, ss, dst, di, ds = args
        rows = []
        for _ in range(LANES):
            rows.append(_load(builder, _pointer(context, builder, sig.args[0], src, si)))
            si = builder.add(si, ss)
        for value in _transpose(builder, rows):
            _store(builder, value, _pointer(context, builder, sig.args[3], dst, di))
            di = builder.add(di, ds)

    i = types.intp
    return types.void(src, i, i, dst, i, i), codegen


@intrinsic
def gather_rows16(typingctx, src, rows, stride, column, dst, dst_index):
    """dst[dst_index + 16 * c + lane] = src[stride * rows[lane] + column + c]: chosen rows, transposed."""

    def codegen(context, builder, sig, args):
        src, rows, stride, column, dst, dst_index = args
        picked = []
        base = make_array(sig.args[1])(context, builder, rows).data
        for r in range(LANES):
            row = builder.load(builder.gep(base, [ir.Constant(I32, r)]))
            at = builder.add(builder.mul(row, stride), column)
            picked.append(_load(builder, _pointer(context, builder, sig.args[0], src, at)))
        for r, value in enumerate(_transpose(builder, picked)):
            at = builder.add(dst_index, ir.Constant(ir.IntType(64), 16 * r))
            _store(builder, value, _pointer(context, builder, sig.args[4], dst, at))

    return types.void(src, rows, types.intp, types.intp, dst, types.intp), codegen


@intrinsic
def gather(typingctx, src, rows, stride, column):
    """Lane i = src[stride * rows[i] + column] (sixteen scalar loads: faster than vgatherdps on Zen)."""

    def codegen(context, builder, sig, args):
        src, rows, stride, column = args
        base = make_array(sig.args[1])(context, builder, rows).data
        data = make_array(sig.args[0])(context, builder, src).data
        out = ir.Constant(VF, ir.Undefined)
        for r in range(LANES):
            row = builder.load(builder.gep(base, [ir.Constant(I32, r)]))
            at = builder.add(builder.mul(row, stride), column)
            out = builder.insert_element(out, builder.load(builder.gep(data, [at])), ir.Constant(I32, r))
        return out

    return f32x16(src, rows, types.intp, types.intp), codegen


@intrinsic
def store_int(typingctx, array, index, value):
    """array[index : index + 16] = truncated value (int32 array; |value| < 2**31)."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], VI)
        _store(builder, builder.fptosi(args[2], VI), pointer)

    return types.void(array, types.intp, f32x16), codegen
