// The same render as src/gaussianvae/rasterize (mode classic, SH of degree 3), forward and backward, as plain scalar C++:
// what a compiler makes of the textbook algorithm on one thread. Only benchmarks/rasterizer.py uses it.
//
//   g++ -O3 -march=native -fno-math-errno baseline.cpp -o baseline
//   baseline IN OUT REPEATS      prints milliseconds a line: forward, forward + backward
//
// IN:  int32 n, width, height; float32 camera (23, as packed by frame.camera_vector), means, quats, scales, opacities,
//      sh (n, 16, 3), then gradients of red, green, blue, alpha, depth as planes.
// OUT: float32 the five planes; gradients of means, quats, scales, opacities, sh, means2d (x, y, |x|, |y|).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

using std::max;
using std::min;
using Floats = std::vector<float>;

constexpr int TILE = 16, K = 16;
constexpr float EPS = 0.3f, NEAR = 0.01f, FAR = 1e10f, ALPHA_MIN = 1.f / 255, ALPHA_MAX = 0.999f, T_MIN = 1e-4f;

struct Geometry {  // what projection computes on the way, needed again by its gradient
    float x, y, rz, xz, yz, qx, qy, tu[3], tv[3], q[4], inv_norm, R[9], pu[3], pv[3], u[3], v[3], a, b, c, det;
};
struct Splat {  // what a pixel needs
    float mx, my, A, B, C, opacity, depth, color[3];
    int x0, x1, y0, y1;  // tiles, empty when it isn't seen
};
struct Sums {  // gradients of a splat
    float mx, my, A, B, C, opacity, depth, color[3], abs_x, abs_y;
};

int n, width, height, tiles_x, tiles_y;
Floats cam, means, quats, scales, opacities, sh, v_image, image, v_means, v_quats, v_scales, v_opacities, v_sh, v_means2d;
std::vector<Splat> splats;
std::vector<Sums> sums;
std::vector<int> starts, lists, last;
Floats left_over;

bool geometry(int i, Geometry& g) {
    const float *p = &means[3 * i], *q = &quats[4 * i], *s = &scales[3 * i];
    g.x = cam[0] * p[0] + cam[1] * p[1] + cam[2] * p[2] + cam[9];
    g.y = cam[3] * p[0] + cam[4] * p[1] + cam[5] * p[2] + cam[10];
    const float z = cam[6] * p[0] + cam[7] * p[1] + cam[8] * p[2] + cam[11];
    if (!(z > NEAR && z < FAR)) return false;
    g.rz = 1 / z, g.xz = g.x * g.rz, g.yz = g.y * g.rz;
    g.qx = min(max(g.xz, cam[19]), cam[20]), g.qy = min(max(g.yz, cam[21]), cam[22]);
    const float j00 = cam[12] * g.rz, j11 = cam[13] * g.rz, j02 = -j00 * g.qx, j12 = -j11 * g.qy;
    for (int k = 0; k < 3; k++) g.tu[k] = j00 * cam[k] + j02 * cam[6 + k], g.tv[k] = j11 * cam[3 + k] + j12 * cam[6 + k];
    g.inv_norm = 1 / std::sqrt(max(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3], 1e-24f));
    for (int k = 0; k < 4; k++) g.q[k] = q[k] * g.inv_norm;
    const float w = g.q[0], a = g.q[1], b = g.q[2], c = g.q[3];
    const float R[9] = {1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b),
                        2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a),
                        2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)};
    std::copy(R, R + 9, g.R);
    g.a = g.c = EPS, g.b = 0;
    for (int k = 0; k < 3; k++) {
        g.pu[k] = g.tu[0] * R[k] + g.tu[1] * R[3 + k] + g.tu[2] * R[6 + k];
        g.pv[k] = g.tv[0] * R[k] + g.tv[1] * R[3 + k] + g.tv[2] * R[6 + k];
        g.u[k] = g.pu[k] * s[k], g.v[k] = g.pv[k] * s[k];
        g.a += g.u[k] * g.u[k], g.b += g.u[k] * g.v[k], g.c += g.v[k] * g.v[k];
    }
    g.det = g.a * g.c - g.b * g.b;
    return true;
}

void basis(float x, float y, float z, float* Y) {
    const float zz = z * z, fc = x * x - y * y, fs = 2 * x * y;
    const float b0 = -1.092548430592079f * z, c0 = -2.285228997322329f * zz + 0.4570457994644658f, c1 = 1.445305721320277f * z;
    Y[0] = 0.2820947917738781f, Y[1] = -0.48860251190292f * y, Y[2] = 0.48860251190292f * z, Y[3] = -0.48860251190292f * x;
    Y[4] = 0.5462742152960395f * fs, Y[5] = b0 * y, Y[6] = 0.9461746957575601f * zz - 0.3153915652525201f, Y[7] = b0 * x;
    Y[8] = 0.5462742152960395f * fc, Y[9] = -0.5900435899266435f * (x * fs + y * fc), Y[10] = c1 * fs, Y[11] = c0 * y;
    Y[12] = z * (1.865881662950577f * zz - 1.119528997770346f), Y[13] = c0 * x, Y[14] = c1 * fc;
    Y[15] = -0.5900435899266435f * (x * fc - y * fs);
}

void basis_gradient(float x, float y, float z, const float* v, float* d) {
    const float k1 = 0.48860251190292f, k4 = 0.5462742152960395f, k5 = -1.092548430592079f, k9 = -0.5900435899266435f;
    const float k10 = 1.445305721320277f, k12 = 1.865881662950577f, zz = z * z, xy = x * y, diff = x * x - y * y;
    const float c0 = -2.285228997322329f * zz + 0.4570457994644658f;
    d[0] = -k1 * v[3] + 2 * k4 * v[4] * y + k5 * v[7] * z + 2 * k4 * v[8] * x + 6 * k9 * v[9] * xy +
           2 * k10 * v[10] * y * z + v[13] * c0 + 2 * k10 * v[14] * x * z + 3 * k9 * v[15] * diff;
    d[1] = -k1 * v[1] + 2 * k4 * v[4] * x + k5 * v[5] * z - 2 * k4 * v[8] * y + 3 * k9 * v[9] * diff +
           2 * k10 * v[10] * x * z + v[11] * c0 - 2 * k10 * v[14] * y * z - 6 * k9 * v[15] * xy;
    d[2] = k1 * v[2] + k5 * v[5] * y + 2 * 0.9461746957575601f * v[6] * z + k5 * v[7] * x + 2 * k10 * v[10] * xy -
           4.570457994644658f * z * (v[11] * y + v[13] * x) + v[12] * (3 * k12 * zz - 1.119528997770346f) + k10 * v[14] * diff;
}

float direction(int i, float* d) {
    for (int k = 0; k < 3; k++) d[k] = means[3 * i + k] - cam[16 + k];
    const float inv = 1 / std::sqrt(max(d[0] * d[0] + d[1] * d[1] + d[2] * d[2], 1e-24f));
    for (int k = 0; k < 3; k++) d[k] *= inv;
    return inv;
}

void project() {
    for (int i = 0; i < n; i++) {
        Geometry g;
        Splat& s = splats[i];
        s.x0 = s.x1 = s.y0 = s.y1 = 0;
        if (!geometry(i, g) || opacities[i] <= ALPHA_MIN) continue;
        s.mx = cam[12] * g.xz + cam[14], s.my = cam[13] * g.yz + cam[15];
        s.A = g.c / g.det, s.B = -g.b / g.det, s.C = g.a / g.det;
        s.opacity = opacities[i], s.depth = 1 / g.rz;
        const float reach = 2 * std::log(opacities[i] / ALPHA_MIN), rx = std::sqrt(reach * g.a), ry = std::sqrt(reach * g.c);
        if (s.mx + rx <= 0.5f || s.mx - rx >= width - 0.5f || s.my + ry <= 0.5f || s.my - ry >= height - 0.5f) continue;
        s.x0 = int(max(s.mx - rx, 0.f)) / TILE, s.x1 = min(int(s.mx + rx) / TILE + 1, tiles_x);
        s.y0 = int(max(s.my - ry, 0.f)) / TILE, s.y1 = min(int(s.my + ry) / TILE + 1, tiles_y);
        float d[3], Y[K];
        direction(i, d);
        basis(d[0], d[1], d[2], Y);
        for (int c = 0; c < 3; c++) {
            float value = 0.5f;
            for (int k = 0; k < K; k++) value += Y[k] * sh[48 * i + 3 * k + c];
            s.color[c] = max(value, 0.f);
        }
    }
}

void bin() {
    std::vector<int> order;
    for (int i = 0; i < n; i++)
        if (splats[i].x1 > splats[i].x0 && splats[i].y1 > splats[i].y0) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [](int i, int j) { return splats[i].depth < splats[j].depth; });
    std::fill(starts.begin(), starts.end(), 0);
    for (int i : order)
        for (int y = splats[i].y0; y < splats[i].y1; y++)
            for (int x = splats[i].x0; x < splats[i].x1; x++) starts[y * tiles_x + x + 1]++;
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    lists.resize(starts.back());
    std::vector<int> at(starts.begin(), starts.end() - 1);
    for (int i : order)
        for (int y = splats[i].y0; y < splats[i].y1; y++)
            for (int x = splats[i].x0; x < splats[i].x1; x++) lists[at[y * tiles_x + x]++] = i;
}

void forward() {
    project();
    bin();
    const int pixels = width * height;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int tile = (y / TILE) * tiles_x + x / TILE, pixel = y * width + x;
            float T = 1, sum[4] = {0, 0, 0, 0};
            int end = starts[tile];
            for (int k = starts[tile]; k < starts[tile + 1]; k++) {
                const Splat& s = splats[lists[k]];
                const float dx = x + 0.5f - s.mx, dy = y + 0.5f - s.my;
                const float alpha = min(ALPHA_MAX, s.opacity * std::exp(-0.5f * (s.A * dx * dx + s.C * dy * dy) - s.B * dx * dy));
                if (alpha < ALPHA_MIN) continue;
                const float next = T * (1 - alpha);
                if (next < T_MIN) break;
                const float weight = alpha * T;
                for (int c = 0; c < 3; c++) sum[c] += weight * s.color[c];
                sum[3] += weight * s.depth;
                T = next, end = k + 1;
            }
            for (int c = 0; c < 3; c++) image[c * pixels + pixel] = sum[c];  // over black
            image[3 * pixels + pixel] = 1 - T;
            image[4 * pixels + pixel] = sum[3] / max(1 - T, 1e-10f);
            left_over[pixel] = T, last[pixel] = end;
        }
}

void pixel_gradients() {
    std::fill(sums.begin(), sums.end(), Sums{});
    const int pixels = width * height;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int tile = (y / TILE) * tiles_x + x / TILE, pixel = y * width + x;
            const float coverage = max(image[3 * pixels + pixel], 1e-10f);
            const float v[3] = {v_image[pixel], v_image[pixels + pixel], v_image[2 * pixels + pixel]};
            const float v_sum = v_image[4 * pixels + pixel] / coverage;
            const float v_alpha = v_image[3 * pixels + pixel] - v_sum * image[4 * pixels + pixel];
            float T = left_over[pixel], rest = -v_alpha * T;  // what lies behind, as the loss sees it
            for (int k = last[pixel] - 1; k >= starts[tile]; k--) {
                const Splat& s = splats[lists[k]];
                const float dx = x + 0.5f - s.mx, dy = y + 0.5f - s.my;
                const float raw = s.opacity * std::exp(-0.5f * (s.A * dx * dx + s.C * dy * dy) - s.B * dx * dy);
                const float alpha = min(ALPHA_MAX, raw);
                if (alpha < ALPHA_MIN) continue;
                T /= 1 - alpha;
                Sums& g = sums[lists[k]];
                float shade = v_sum * s.depth;
                for (int c = 0; c < 3; c++) shade += v[c] * s.color[c], g.color[c] += alpha * T * v[c];
                g.depth += alpha * T * v_sum;
                const float w = raw < ALPHA_MAX ? alpha * (T * shade - rest / (1 - alpha)) : 0;
                rest += alpha * T * shade;
                g.opacity += w / s.opacity;
                const float gx = w * (s.A * dx + s.B * dy), gy = w * (s.C * dy + s.B * dx);
                g.mx += gx, g.my += gy, g.abs_x += std::fabs(gx), g.abs_y += std::fabs(gy);
                g.A -= 0.5f * w * dx * dx, g.B -= w * dx * dy, g.C -= 0.5f * w * dy * dy;
            }
        }
}

void parameter_gradients() {
    for (int i = 0; i < n; i++) {
        const Splat& s = splats[i];
        const Sums& m = sums[i];
        float *vm = &v_means[3 * i], *vq = &v_quats[4 * i], *vs = &v_scales[3 * i], *vsh = &v_sh[48 * i], *v2 = &v_means2d[4 * i];
        std::fill(vm, vm + 3, 0.f), std::fill(vq, vq + 4, 0.f), std::fill(vs, vs + 3, 0.f);
        std::fill(vsh, vsh + 48, 0.f), std::fill(v2, v2 + 4, 0.f), v_opacities[i] = 0;
        Geometry g;
        if (s.x1 <= s.x0 || s.y1 <= s.y0 || !geometry(i, g)) continue;
        v2[0] = m.mx, v2[1] = m.my, v2[2] = m.abs_x, v2[3] = m.abs_y, v_opacities[i] = m.opacity;
        // through the inverse: dSigma = -Q dQ Q
        const float h = 0.5f * m.B, p0 = s.A * m.A + s.B * h, p1 = s.A * h + s.B * m.C, r0 = s.B * m.A + s.C * h, r1 = s.B * h + s.C * m.C;
        const float va = -(p0 * s.A + p1 * s.B), vb = -2 * (p0 * s.B + p1 * s.C), vc = -(r0 * s.B + r1 * s.C);
        float vpu[3], vpv[3], vtu[3] = {0, 0, 0}, vtv[3] = {0, 0, 0}, vR[9];
        for (int k = 0; k < 3; k++) {
            const float vu = 2 * va * g.u[k] + vb * g.v[k], vv = 2 * vc * g.v[k] + vb * g.u[k];
            vs[k] = vu * g.pu[k] + vv * g.pv[k];
            vpu[k] = vu * scales[3 * i + k], vpv[k] = vv * scales[3 * i + k];
        }
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 3; k++) {
                vtu[j] += vpu[k] * g.R[3 * j + k], vtv[j] += vpv[k] * g.R[3 * j + k];
                vR[3 * j + k] = g.tu[j] * vpu[k] + g.tv[j] * vpv[k];
            }
        const float w = g.q[0], a = g.q[1], b = g.q[2], c = g.q[3];
        const float t[4] = {
            2 * (a * (vR[7] - vR[5]) + b * (vR[2] - vR[6]) + c * (vR[3] - vR[1])),
            2 * (w * (vR[7] - vR[5]) + b * (vR[1] + vR[3]) + c * (vR[2] + vR[6])) - 4 * a * (vR[4] + vR[8]),
            2 * (w * (vR[2] - vR[6]) + a * (vR[1] + vR[3]) + c * (vR[5] + vR[7])) - 4 * b * (vR[0] + vR[8]),
            2 * (w * (vR[3] - vR[1]) + a * (vR[2] + vR[6]) + b * (vR[5] + vR[7])) - 4 * c * (vR[0] + vR[4])};
        const float along = w * t[0] + a * t[1] + b * t[2] + c * t[3];
        for (int k = 0; k < 4; k++) vq[k] = (t[k] - g.q[k] * along) * g.inv_norm;
        float j00 = 0, j02 = 0, j11 = 0, j12 = 0;
        for (int k = 0; k < 3; k++) {
            j00 += vtu[k] * cam[k], j02 += vtu[k] * cam[6 + k], j11 += vtv[k] * cam[3 + k], j12 += vtv[k] * cam[6 + k];
        }
        const bool free_x = g.xz >= cam[19] && g.xz <= cam[20], free_y = g.yz >= cam[21] && g.yz <= cam[22];
        const float v_xz = cam[12] * m.mx - (free_x ? cam[12] * g.rz * j02 : 0), v_yz = cam[13] * m.my - (free_y ? cam[13] * g.rz * j12 : 0);
        const float v_rz = cam[12] * (j00 - g.qx * j02) + cam[13] * (j11 - g.qy * j12) + g.x * v_xz + g.y * v_yz;
        const float vx = v_xz * g.rz, vy = v_yz * g.rz, vz = m.depth - v_rz * g.rz * g.rz;
        float d[3], Y[K], vY[K], vd[3];
        const float inv = direction(i, d);
        basis(d[0], d[1], d[2], Y);
        for (int k = 0; k < K; k++) {
            vY[k] = 0;
            for (int c3 = 0; c3 < 3; c3++) {
                const float vcolor = s.color[c3] > 0 ? m.color[c3] : 0;
                vsh[3 * k + c3] = Y[k] * vcolor, vY[k] += vcolor * sh[48 * i + 3 * k + c3];
            }
        }
        basis_gradient(d[0], d[1], d[2], vY, vd);
        const float radial = d[0] * vd[0] + d[1] * vd[1] + d[2] * vd[2];
        for (int k = 0; k < 3; k++) vm[k] = vx * cam[k] + vy * cam[3 + k] + vz * cam[6 + k] + (vd[k] - d[k] * radial) * inv;
    }
}

void backward() {
    pixel_gradients();
    parameter_gradients();
}

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    FILE* in = std::fopen(argv[1], "rb");
    int32_t head[3];
    if (!in || std::fread(head, 4, 3, in) != 3) return 2;
    n = head[0], width = head[1], height = head[2];
    tiles_x = (width + TILE - 1) / TILE, tiles_y = (height + TILE - 1) / TILE;
    const size_t pixels = size_t(width) * height;
    const std::pair<Floats*, size_t> inputs[] = {{&cam, 23},           {&means, size_t(3) * n}, {&quats, size_t(4) * n}, {&scales, size_t(3) * n},
                                                 {&opacities, size_t(n)}, {&sh, size_t(48) * n},   {&v_image, 5 * pixels}};
    for (auto& [array, size] : inputs) {
        array->resize(size);
        if (std::fread(array->data(), 4, size, in) != size) return 2;
    }
    std::fclose(in);
    splats.resize(n), sums.resize(n), starts.resize(tiles_x * tiles_y + 1), last.resize(pixels), left_over.resize(pixels), image.resize(5 * pixels);
    v_means.resize(3 * n), v_quats.resize(4 * n), v_scales.resize(3 * n), v_opacities.resize(n), v_sh.resize(size_t(48) * n), v_means2d.resize(4 * n);
    using Clock = std::chrono::steady_clock;
    const auto ms = [](Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double, std::milli>(b - a).count(); };
    for (int repeat = 0; repeat < std::atoi(argv[3]); repeat++) {
        const auto start = Clock::now();
        forward();
        const auto middle = Clock::now();
        backward();
        std::printf("%.4f %.4f\n", ms(start, middle), ms(start, Clock::now()));
    }
    FILE* out = std::fopen(argv[2], "wb");
    if (!out) return 2;
    for (const Floats* array : {&image, &v_means, &v_quats, &v_scales, &v_opacities, &v_sh, &v_means2d})
        if (std::fwrite(array->data(), 4, array->size(), out) != array->size()) return 2;
    return std::fclose(out);
}
