/* Crops of RGB images, magnified to `size` x `size` and mirrored where asked: torch's uint8 resampling without what
   surrounds it. Bilinear with weights of 14 bits, across first, rounded to a byte after each direction.

   resample.py compiles and calls it, and says what the arguments are; torch is its slow twin, bit for bit. */

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define BITS 14
#define HALF (1 << (BITS - 1))
#define AT_ONCE 4 /* pixels that lie within 16 bytes of the source, as crops are only magnified */
#define LARGEST 4096

typedef struct {
    int start;         /* bytes from the crop's left edge */
    __m128i take[2];   /* which of 16 bytes are wanted, as 16-bit numbers: 8 values, and the other 4 */
    __m128i next[2];   /* their right neighbours */
    __m128i weight[2]; /* of these, doubled */
} Group;

int supported(void) { return __builtin_cpu_supports("avx2"); }

AVX2 static void plan(Group *groups, int size, int width, int room, int mirrored, const int32_t *starts,
                      const int16_t *weights) {
    for (int group = 0; group < size / AT_ONCE; group++) {
        uint8_t take[2][16], beside[2][16];
        int16_t weight[2][8] = {{0}};
        memset(take, 0x80, sizeof take); /* zero */
        memset(beside, 0x80, sizeof beside);
        int place[AT_ONCE], first = width;
        for (int pixel = 0; pixel < AT_ONCE; pixel++) {
            int across = group * AT_ONCE + pixel;
            place[pixel] = mirrored ? size - 1 - across : across;
            if (starts[place[pixel]] < first) first = starts[place[pixel]];
        }
        int start = first * 3 < room - 16 ? first * 3 : room - 16; /* read no further than the image's row */
        for (int value = 0; value < AT_ONCE * 3; value++) {
            int at = starts[place[value / 3]], next = at + 1 < width ? at + 1 : at;
            take[value / 8][value % 8 * 2] = at * 3 + value % 3 - start;
            beside[value / 8][value % 8 * 2] = next * 3 + value % 3 - start;
            weight[value / 8][value % 8] = 2 * weights[place[value / 3]];
        }
        groups[group].start = start;
        for (int part = 0; part < 2; part++) {
            groups[group].take[part] = _mm_loadu_si128((const __m128i *)take[part]);
            groups[group].next[part] = _mm_loadu_si128((const __m128i *)beside[part]);
            groups[group].weight[part] = _mm_loadu_si128((const __m128i *)weight[part]);
        }
    }
}

/* (first * (2^14 - w) + second * w + 2^13) >> 14, of bytes in 16-bit numbers and 2 w: what mulhrs does to a difference. */
AVX2 static inline __m256i mixed(__m256i first, __m256i second, __m256i twice) {
    return _mm256_add_epi16(first, _mm256_mulhrs_epi16(_mm256_sub_epi16(second, first), twice));
}

/* Two rows at a time, one in each half of a register. */
AVX2 static void across(const uint8_t *one, const uint8_t *two, const Group *groups, int size, uint8_t *left,
                        uint8_t *right) {
    for (int group = 0; group < size / AT_ONCE; group++) {
        const Group *each = groups + group;
        __m256i bytes = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(one + each->start))),
            _mm_loadu_si128((const __m128i *)(two + each->start)), 1);
        __m256i halves[2];
        for (int part = 0; part < 2; part++)
            halves[part] = mixed(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(each->take[part])),
                                 _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(each->next[part])),
                                 _mm256_broadcastsi128_si256(each->weight[part]));
        __m256i found = _mm256_packus_epi16(halves[0], halves[1]);
        _mm_storeu_si128((__m128i *)(left + group * AT_ONCE * 3), _mm256_castsi256_si128(found)); /* 12 bytes count */
        _mm_storeu_si128((__m128i *)(right + group * AT_ONCE * 3), _mm256_extracti128_si256(found, 1));
    }
}

AVX2 static void down(const uint8_t *upper, const uint8_t *lower, int second, int bytes, uint8_t *out) {
    if (second == 0) {
        memcpy(out, upper, bytes);
        return;
    }
    __m256i twice = _mm256_set1_epi16(2 * second), zero = _mm256_setzero_si256();
    int place = 0;
    for (; place + 32 <= bytes; place += 32) {
        __m256i one = _mm256_loadu_si256((const __m256i *)(upper + place));
        __m256i two = _mm256_loadu_si256((const __m256i *)(lower + place));
        __m256i low = mixed(_mm256_unpacklo_epi8(one, zero), _mm256_unpacklo_epi8(two, zero), twice);
        __m256i high = mixed(_mm256_unpackhi_epi8(one, zero), _mm256_unpackhi_epi8(two, zero), twice);
        _mm256_storeu_si256((__m256i *)(out + place), _mm256_packus_epi16(low, high));
    }
    for (; place < bytes; place++)
        out[place] = (upper[place] * ((1 << BITS) - second) + lower[place] * second + HALF) >> BITS;
}

AVX2 void crops(const uint8_t *images, int64_t count, int64_t rows, int64_t columns, const int32_t *boxes,
                const uint8_t *mirrored, int size, const int32_t *starts, const int16_t *weights, uint8_t *scratch,
                uint8_t *out) {
    static __thread Group groups[LARGEST / AT_ONCE];
    int64_t line = size * 3 + 16; /* of scratch: the last store of a row reaches over its end */
    for (int64_t image = 0; image < count; image++) {
        const int32_t *box = boxes + image * 4;
        int top = box[0], left = box[1], height = box[2], width = box[3];
        const uint8_t *corner = images + ((image * rows + top) * columns + left) * 3;
        plan(groups, size, width, (columns - left) * 3, mirrored[image], starts + (int64_t)width * size,
             weights + (int64_t)width * size);
        for (int row = 0; row < height; row += 2) {
            int other = row + 1 < height ? row + 1 : row;
            across(corner + row * columns * 3, corner + other * columns * 3, groups, size, scratch + row * line,
                   scratch + (row + 1) * line);
        }
        const int32_t *begins = starts + (int64_t)height * size;
        const int16_t *seconds = weights + (int64_t)height * size;
        for (int row = 0; row < size; row++) {
            int upper = begins[row], lower = upper + 1 < height ? upper + 1 : upper;
            down(scratch + upper * line, scratch + lower * line, seconds[row], size * 3,
                 out + (image * size + row) * size * 3);
        }
    }
}
#else
int supported(void) { return 0; }
void crops(void) {}
#endif
