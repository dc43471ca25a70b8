// BatchNorm with ReLU and the 2x2 max-pool that may follow, forward and backward of training in two passes each; that
// max-pool alone; and the max-pool of BlurPool, a dense one with a strided blur behind it.
//
// Images are (N, H, W, C), their channels side by side. Arithmetic is in float. Sums are taken image by image and added
// up in double in the order of the images, so that results do not depend on the number of threads. Vectors are
// explicit, as compilers leave rows of 8 or 12 channels to scalar code: the channels' coefficients are repeated until
// they fill whole vectors, and an image is read as one long row.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr long LANES = 16, COLUMNS = 4, WIDE = LANES * COLUMNS;  // four sums at a time hide the latency of adding
constexpr int NOWHERE = 4;
template <class E> using Vector __attribute__((vector_size(LANES * sizeof(E)))) = E;
using Floats = Vector<float>;
using Numbers = std::vector<float>;

struct BFloat16 { uint16_t bits; };

struct Batch {
    long images, height, width, channels, threads;
    long image() const { return height * width * channels; }
    long pooled() const { return height / 2 * (width / 2) * channels; }
    long period() const {  // of coefficients
        long wide = std::lcm(channels, WIDE);
        return 4 * wide <= image() ? wide : std::lcm(channels, LANES);
    }
    double rows() const { return double(images) * height * width; }
};

template <class V> V read(const void *from) { V v; memcpy(&v, from, sizeof v); return v; }
template <class V> void write(void *to, V v) { memcpy(to, &v, sizeof v); }

// V is Floats or float: a vector of elements, or one.
template <class V> V load(const float *x) { return read<V>(x); }
template <class V> V load(const BFloat16 *x) {
    if constexpr (std::is_same_v<V, Floats>) {
        return (V)(__builtin_convertvector(read<Vector<uint16_t>>(x), Vector<uint32_t>) << 16);
    } else {
        uint32_t word = uint32_t(x->bits) << 16;
        return read<V>(&word);
    }
}

template <class V> void store(float *to, V x) { write(to, x); }
inline void store(BFloat16 *to, Floats x) {  // to the nearest, of two as near to the even one
#ifdef __AVX512BF16__
    write(to, _mm512_cvtneps_pbh((__m512)x));
#else
    auto word = (Vector<uint32_t>)x, bits = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    write(to, __builtin_convertvector(x == x ? bits : bits * 0 + 0x7fc0, Vector<uint16_t>));
#endif
}
inline void store(BFloat16 *to, float x) {
    BFloat16 all[LANES];
    store(all, Floats{} + x);
    *to = all[0];
}

Numbers spread(const float *channels, const Batch &batch) {
    Numbers out(batch.period());
    for (auto at = out.begin(); at != out.end(); at += batch.channels) std::copy_n(channels, batch.channels, at);
    return out;
}

// Calls body(i, j, V{}) for every element i of an image, a vector at a time; j is the place of its coefficients.
template <class Body> void each(const Batch &batch, Body body) {
    for (long from = 0; from < batch.image(); from += batch.period()) {
        long j = 0, width = std::min(batch.period(), batch.image() - from);
        for (; j + LANES <= width; j += LANES) body(from + j, j, Floats{});
        for (; j < width; j++) body(from + j, j, 0.0f);
    }
}

// totals (2, C): the sums over an image of what add(i, j, a, b) adds to a and b, by channel.
template <class Add> void sum(const Batch &batch, Numbers &a, Numbers &b, float *totals, Add add) {
    long n = batch.image(), period = batch.period(), whole = n / period * period, C = batch.channels, i = whole;
    auto down = [&](long j, auto columns) {
        Floats first[columns] = {}, second[columns] = {};
        for (long from = j; from < whole; from += period)
            for (long k = 0, at = 0; k < columns; k++, at += LANES) add(from + at, j + at, first[k], second[k]);
        memcpy(&a[j], first, sizeof first);
        memcpy(&b[j], second, sizeof second);
    };
    long j = 0;
    for (; j + WIDE <= period; j += WIDE) down(j, std::integral_constant<long, COLUMNS>{});
    for (; j < period; j += LANES) down(j, std::integral_constant<long, 1>{});
    for (; i + LANES <= n; i += LANES) {
        Floats first = load<Floats>(&a[i - whole]), second = load<Floats>(&b[i - whole]);
        add(i, i - whole, first, second);
        store(&a[i - whole], first);
        store(&b[i - whole], second);
    }
    for (; i < n; i++) add(i, i - whole, a[i - whole], b[i - whole]);
    std::fill_n(totals, 2 * C, 0.0f);
    for (long j = 0; j < period; j += C)
        for (long c = 0; c < C; c++) totals[c] += a[j + c], totals[C + c] += b[j + c];
}

// Mean and variance (C) of a batch: an image's in two passes, all images' by Chan et al. 1979.
template <class T> void statistics(const T *x, const Batch &batch, float *mean, float *variance) {
    long C = batch.channels, area = batch.height * batch.width;
    Numbers totals(batch.images * 2 * C);
    #pragma omp parallel num_threads(batch.threads)
    {
        Numbers a(batch.period()), b(a), found(2 * C);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            const T *image = x + n * batch.image();
            float *sums = &totals[n * 2 * C];
            sum(batch, a, b, sums, [&](long i, long, auto &first, auto &) {
                first += load<std::decay_t<decltype(first)>>(image + i);
            });
            for (long c = 0; c < C; c++) found[c] = sums[c] / area;
            Numbers means = spread(found.data(), batch);
            sum(batch, a, b, found.data(), [&](long i, long j, auto &first, auto &) {
                using V = std::decay_t<decltype(first)>;
                V apart = load<V>(image + i) - load<V>(&means[j]);
                first += apart * apart;
            });
            std::copy_n(found.data(), C, sums + C);
        }
    }
    std::vector<double> centre(C), squares(C);
    for (long n = 0; n < batch.images; n++)
        for (long c = 0; c < C; c++) centre[c] += totals[n * 2 * C + c] / batch.rows();
    for (long n = 0; n < batch.images; n++)
        for (long c = 0; c < C; c++) {
            double apart = totals[n * 2 * C + c] / area - centre[c];
            squares[c] += totals[n * 2 * C + C + c] + apart * apart * area;
        }
    for (long c = 0; c < C; c++) {
        mean[c] = centre[c];
        variance[c] = squares[c] / batch.rows();
    }
}

// The largest of four in `largest` and its place among them, the first of equals; a NaN is larger than all before it.
template <class T> Vector<int32_t> argmax(const T *first, std::array<const T *, 3> others, float *largest) {
    Floats most = load<Floats>(first);
    Vector<int32_t> which{};
    for (int k = 0; k < 3; k++) {
        Floats other = load<Floats>(others[k]);
        auto larger = (other > most) | (other != other);
        which = larger ? which * 0 + (k + 1) : which;
        most = larger ? other : most;
    }
    store(largest, most);
    return which;
}

// What a thread needs for the pooling of one image; reading and writing whole vectors may run over its end.
template <class T> struct Window {
    std::vector<T> full, best;
    std::vector<uint8_t> place;  // of the largest of four, the first of equals
    Window(const Batch &batch, bool pools)
        : full(pools * (batch.image() + LANES)), best(pools * (batch.pooled() + LANES)), place(best.size()) {}

    void pool(const Batch &batch, bool relu) {  // full -> best, place; with ReLU, 0 has no place
        long C = batch.channels, row = batch.width * C, out = 0;
        for (long h = 0; h < batch.height / 2; h++)
            for (long w = 0; w < batch.width / 2; w++, out += C)
                for (long c = 0; c < C; c += LANES) {
                    const T *corner = &full[2 * h * row + 2 * w * C + c];
                    float all[LANES];
                    auto which = argmax(corner, {corner + C, corner + row, corner + row + C}, all);
                    auto largest = load<Floats>(all);
                    if (relu) which = largest == 0 ? which * 0 + NOWHERE : which;
                    store(&best[out + c], largest);
                    write(&place[out + c], __builtin_convertvector(which, Vector<uint8_t>));
                }
    }

    void unpool(const Batch &batch) {  // best, place -> full: the gradient of `pool`
        using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t>;
        using V = Vector<Bits>;
        long C = batch.channels, out = 0;
        for (long h = 0; h < batch.height; h++)
            for (long w = 0; w < batch.width; w++, out += C) {
                bool inside = h / 2 < batch.height / 2 && w / 2 < batch.width / 2;  // the last of an odd number is not
                long from = (h / 2 * (batch.width / 2) + w / 2) * C, here = h % 2 * 2 + w % 2;
                for (long c = 0; c < C; c += LANES) {
                    V value{};
                    if (inside) {
                        auto which = __builtin_convertvector(read<Vector<uint8_t>>(&place[from + c]), V);
                        value = which == Bits(here) ? read<V>(&best[from + c]) : value;
                    }
                    write(&full[out + c], value);
                }
            }
    }

    void take(const Batch &batch, const T *pooled, const uint8_t *places, long n) {
        std::copy_n(pooled + n * batch.pooled(), batch.pooled(), best.data());
        std::copy_n(places + n * batch.pooled(), batch.pooled(), place.data());
    }

    void give(const Batch &batch, T *pooled, uint8_t *places, long n) const {
        std::copy_n(best.data(), batch.pooled(), pooled + n * batch.pooled());
        std::copy_n(place.data(), batch.pooled(), places + n * batch.pooled());
    }
};

// What maps x onto the normalised values: x * scale + shift.
struct Map {
    Numbers scale, shift;
    Map(const float *weight, const float *bias, const float *kept, long C) : scale(C), shift(C) {
        for (long c = 0; c < C; c++) {
            scale[c] = weight[c] * kept[C + c];
            shift[c] = bias[c] - kept[c] * scale[c];
        }
    }
};

// y and kept (2, C), the mean and the inverse standard deviation; `place` is null where nothing is pooled.
template <class T>
void forward(const T *x, T *y, uint8_t *place, const float *weight, const float *bias, float *running_mean,
             float *running_variance, float *kept, const Batch &batch, float momentum, float epsilon) {
    long C = batch.channels;
    Numbers variance(C);
    statistics(x, batch, kept, variance.data());
    for (long c = 0; c < C; c++) {
        kept[C + c] = 1 / std::sqrt(double(variance[c]) + epsilon);
        float unbiased = variance[c] * (batch.rows() / (batch.rows() - 1));
        running_mean[c] = momentum * kept[c] + (1 - momentum) * running_mean[c];
        running_variance[c] = momentum * unbiased + (1 - momentum) * running_variance[c];
    }
    Map map(weight, bias, kept, C);
    Numbers scale = spread(map.scale.data(), batch), shift = spread(map.shift.data(), batch);
    #pragma omp parallel num_threads(batch.threads)
    {
        Window<T> window(batch, place);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            const T *from = x + n * batch.image();
            T *to = place ? window.full.data() : y + n * batch.image();
            each(batch, [&](long i, long j, auto v) {
                v = load<decltype(v)>(from + i) * load<decltype(v)>(&scale[j]) + load<decltype(v)>(&shift[j]);
                store(to + i, v <= 0 ? decltype(v){} : v);
            });
            if (!place) continue;
            window.pool(batch, true);
            window.give(batch, y, place, n);
        }
    }
}

// The gradient of the normalised values before ReLU and pooling, of one image.
template <class T> struct Passed {
    const T *x, *gradient;
    bool pooled;  // there the largest of four is above 0, or its place is none
    const Numbers &scale, &shift;
    template <class V> V at(long i, long j) const {
        V given = load<V>(gradient + i);
        if (pooled) return given;
        V made = load<V>(x + i) * load<V>(&scale[j]) + load<V>(&shift[j]);
        return made <= 0 ? V{} : given;
    }
};

// Calls body(n, passed) for each image, on all threads.
template <class T, class Body>
void images(const T *x, const T *gradient, const uint8_t *place, const Map &map, const Batch &batch, Body body) {
    Numbers scale = spread(map.scale.data(), batch), shift = spread(map.shift.data(), batch);
    #pragma omp parallel num_threads(batch.threads)
    {
        Window<T> window(batch, place);
        Numbers a(batch.period()), b(a);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            const T *given = gradient + n * batch.image();
            if (place) {
                window.take(batch, gradient, place, n);
                window.unpool(batch);
                given = window.full.data();
            }
            body(n, Passed<T>{x + n * batch.image(), given, place != nullptr, scale, shift}, a, b);
        }
    }
}

// out, the gradient of x, and gradients (2, C), those of weight and bias.
template <class T>
void backward(const T *x, const T *gradient, const uint8_t *place, T *out, const float *weight, const float *bias,
              const float *kept, float *gradients, const Batch &batch) {
    long C = batch.channels;
    Map map(weight, bias, kept, C);
    Numbers totals(batch.images * 2 * C), slope(C), shift(C), means = spread(kept, batch);
    images(x, gradient, place, map, batch, [&](long n, const Passed<T> &passed, Numbers &a, Numbers &b) {
        sum(batch, a, b, &totals[n * 2 * C], [&](long i, long j, auto &first, auto &second) {
            using V = std::decay_t<decltype(first)>;
            V value = passed.template at<V>(i, j);
            first += value;
            second += value * (load<V>(passed.x + i) - load<V>(&means[j]));
        });
    });
    std::vector<double> total(2 * C);
    for (long n = 0; n < batch.images; n++)
        for (long c = 0; c < 2 * C; c++) total[c] += totals[n * 2 * C + c];
    for (long c = 0; c < C; c++) {
        double inverse = kept[C + c];
        gradients[c] = total[C + c] * inverse;
        gradients[C + c] = total[c];
        slope[c] = -map.scale[c] * inverse * inverse * total[C + c] / batch.rows();
        shift[c] = -map.scale[c] * total[c] / batch.rows() - slope[c] * kept[c];
    }
    Numbers scales = spread(map.scale.data(), batch), slopes = spread(slope.data(), batch);
    Numbers shifts = spread(shift.data(), batch);
    images(x, gradient, place, map, batch, [&](long n, const Passed<T> &passed, Numbers &, Numbers &) {
        each(batch, [&](long i, long j, auto v) {
            using V = decltype(v);
            v = load<V>(passed.x + i) * load<V>(&slopes[j]) + load<V>(&shifts[j]);
            store(out + n * batch.image() + i, passed.template at<V>(i, j) * load<V>(&scales[j]) + v);
        });
    });
}

// x -> y, place; and, backward, gradient and place -> out.
template <class T> void pool(const T *x, T *y, uint8_t *place, const Batch &batch) {
    #pragma omp parallel num_threads(batch.threads)
    {
        Window<T> window(batch, true);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            std::copy_n(x + n * batch.image(), batch.image(), window.full.data());
            window.pool(batch, false);
            window.give(batch, y, place, n);
        }
    }
}

template <class T> void unpool(const T *gradient, const uint8_t *place, T *out, const Batch &batch) {
    #pragma omp parallel num_threads(batch.threads)
    {
        Window<T> window(batch, true);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            window.take(batch, gradient, place, n);
            window.unpool(batch);
            std::copy_n(window.full.data(), batch.image(), out + n * batch.image());
        }
    }
}

// Which dense rows (or columns) each row that is left takes, and with which weight: 1, 2 and 1 of 4 around every second
// one, mirrored at the edges.
struct Tap { long from; float weight; };
using Taps = std::vector<std::vector<Tap>>;
Taps taken(long size) {
    Taps all(size / 2);
    for (long i = 0; i < size / 2; i++)
        for (long a = -1; a <= 1; a++) {
            long from = std::abs(2 * i + a);
            all[i].push_back({from < size - 1 ? from : 2 * (size - 2) - from, a ? 0.25f : 0.5f});
        }
    return all;
}
Taps given(long size) {  // the other way round, for gradients
    Taps forward = taken(size), all(size - 1);
    for (long i = 0; i < size / 2; i++)
        for (Tap tap : forward[i]) all[tap.from].push_back({i, tap.weight});
    return all;
}

// to (n), the sum of rows of `from` that lie `stride` apart; reads and writes whole vectors.
void weighted(const std::vector<Tap> &taps, const float *from, long stride, float *to, long n) {
    for (long k = 0; k < n; k += LANES) {
        Floats sum{};
        for (Tap tap : taps) sum += load<Floats>(from + tap.from * stride + k) * tap.weight;
        store(to + k, sum);
    }
}

// x -> y (N, H / 2, W / 2, C) and the place (N, H - 1, W - 1, C) of each dense window's largest of four.
template <class T> void blur(const T *x, float *y, uint8_t *place, const Batch &batch) {
    long C = batch.channels, row = batch.width * C, dense = row - C, left = batch.width / 2 * C;
    Taps down = taken(batch.height), along = taken(batch.width);
    #pragma omp parallel num_threads(batch.threads)
    {
        std::vector<T> image(batch.image() + LANES);
        Numbers largest(dense + LANES), rows((batch.height - 1) * left + LANES), out(left + LANES);
        std::vector<uint8_t> places((batch.height - 1) * dense + LANES);
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            std::copy_n(x + n * batch.image(), batch.image(), image.data());
            for (long h = 0; h < batch.height - 1; h++) {
                for (long k = 0; k < dense; k += LANES) {
                    const T *corner = &image[h * row + k];
                    write(&places[h * dense + k], __builtin_convertvector(
                        argmax(corner, {corner + C, corner + row, corner + row + C}, &largest[k]), Vector<uint8_t>));
                }
                for (long w = 0; w < batch.width / 2; w++)
                    weighted(along[w], largest.data(), C, &rows[h * left + w * C], C);
            }
            std::copy_n(places.data(), (batch.height - 1) * dense, place + n * (batch.height - 1) * dense);
            for (long h = 0; h < batch.height / 2; h++) {
                weighted(down[h], rows.data(), left, out.data(), left);
                std::copy_n(out.data(), left, y + n * batch.pooled() + h * left);
            }
        }
    }
}

// The gradient of `blur`: of y, and place -> out, of x.
template <class T> void unblur(const float *gradient, const uint8_t *place, T *out, const Batch &batch) {
    long C = batch.channels, row = batch.width * C, dense = row - C, left = batch.width / 2 * C;
    Taps up = given(batch.height), along = given(batch.width);
    #pragma omp parallel num_threads(batch.threads)
    {
        Numbers image(batch.pooled() + LANES), blurred(left + LANES);
        std::vector<T> made(batch.image() + LANES);
        // gradients and places of the dense row above and below, with a column at either side that gets nothing
        Numbers above(row + C + LANES), below(above);
        std::vector<uint8_t> places_above(above.size()), places_below(above.size());
        #pragma omp for schedule(static)
        for (long n = 0; n < batch.images; n++) {
            std::copy_n(gradient + n * batch.pooled(), batch.pooled(), image.data());
            std::fill(below.begin(), below.end(), 0.0f);
            for (long h = 0; h < batch.height; h++) {
                std::swap(above, below);
                std::swap(places_above, places_below);
                std::fill(below.begin(), below.end(), 0.0f);
                if (h < batch.height - 1) {
                    weighted(up[h], image.data(), left, blurred.data(), left);
                    for (long w = 0; w < batch.width - 1; w++)
                        weighted(along[w], blurred.data(), C, &below[C + w * C], C);
                    std::fill(below.begin() + row, below.end(), 0.0f);
                    std::copy_n(place + (n * (batch.height - 1) + h) * dense, dense, &places_below[C]);
                }
                for (long k = 0; k < row; k += LANES) {
                    Floats sum{};
                    auto add = [&](const Numbers &from, const std::vector<uint8_t> &places, long at, int here) {
                        auto which = __builtin_convertvector(read<Vector<uint8_t>>(&places[at]), Vector<int32_t>);
                        sum += which == here ? load<Floats>(&from[at]) : Floats{};
                    };
                    add(below, places_below, k + C, 0);  // the window that begins here, the one to its left, those above
                    add(below, places_below, k, 1);
                    add(above, places_above, k + C, 2);
                    add(above, places_above, k, 3);
                    store(&made[h * row + k], sum);
                }
            }
            std::copy_n(made.data(), batch.image(), out + n * batch.image());
        }
    }
}

}  // namespace

#define FOR(T, name)                                                                                                 \
    extern "C" void forward_##name(const T *x, T *y, uint8_t *place, const float *weight, const float *bias,         \
                                   float *running_mean, float *running_variance, float *kept, const Batch *batch,    \
                                   float momentum, float epsilon) {                                                  \
        forward(x, y, place, weight, bias, running_mean, running_variance, kept, *batch, momentum, epsilon);         \
    }                                                                                                                \
    extern "C" void backward_##name(const T *x, const T *grad, const uint8_t *place, T *out, const float *weight,    \
                                    const float *bias, const float *kept, float *gradients, const Batch *batch) {    \
        backward(x, grad, place, out, weight, bias, kept, gradients, *batch);                                        \
    }                                                                                                                \
    extern "C" void pool_##name(const T *x, T *y, uint8_t *place, const Batch *batch) { pool(x, y, place, *batch); } \
    extern "C" void unpool_##name(const T *grad, const uint8_t *place, T *out, const Batch *batch) {                 \
        unpool(grad, place, out, *batch);                                                                            \
    }                                                                                                                \
    extern "C" void blur_##name(const T *x, float *y, uint8_t *place, const Batch *batch) {                          \
        blur(x, y, place, *batch);                                                                                   \
    }                                                                                                                \
    extern "C" void unblur_##name(const float *grad, const uint8_t *place, T *out, const Batch *batch) {             \
        unblur(grad, place, out, *batch);                                                                            \
    }
FOR(float, float32)
FOR(BFloat16, bfloat16)
