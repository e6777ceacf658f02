/* Validate UTF-8 with vectors, many bytes at a time.
 *
 * After John Keiser and Daniel Lemire, "Validating UTF-8 In Less Than One
 * Instruction Per Byte" (2021). All that can be wrong shows in two neighbours,
 * but for one thing. Three table lookups, by both halves of the first neighbour
 * and the upper half of the second, each give a set of what may be wrong, as
 * bits; what is in all three sets is wrong:
 *
 *     bit              first     second        what
 *     UNFINISHED       C0..FF    00..7F C0..FF a character breaks off
 *     STRAY            00..7F    80..BF        a continuation of nothing
 *     LONG_2           C0 C1     80..BF        two bytes where one does
 *     LONG_3           E0        80..9F        three where two do
 *     SURROGATE        ED        A0..BF
 *     LONG_4_OR_BEYOND F0 F5..FF 80..8F        four where three do, or no lead
 *     BEYOND           F4..FF    90..BF        over U+10FFFF, or no lead
 *     CONTINUED        80..BF    80..BF        right in a third or fourth byte
 *
 * The one thing is how far a character goes: CONTINUED must be there exactly
 * where a lead of three bytes stands two bytes before or one of four stands three
 * before.
 *
 * A lead that ends the last vector has no second neighbour yet: whoever called
 * takes it once more, with what follows.
 */
#ifndef FASTWS_UTF8_VECTORS_H
#define FASTWS_UTF8_VECTORS_H

#include "vector.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef FASTWS_VECTOR_TARGET

#define FASTWS_UTF8_WRONG SIZE_MAX

enum {
    FASTWS_UNFINISHED = 0x01,
    FASTWS_STRAY = 0x02,
    FASTWS_LONG_2 = 0x04,
    FASTWS_LONG_3 = 0x08,
    FASTWS_SURROGATE = 0x10,
    FASTWS_LONG_4_OR_BEYOND = 0x20,
    FASTWS_BEYOND = 0x40,
    FASTWS_CONTINUED = 0x80,
    /* What the lower half of the first neighbour says nothing about */
    FASTWS_ANY_LOW = FASTWS_UNFINISHED | FASTWS_STRAY | FASTWS_CONTINUED,
    FASTWS_LOW_F5 = FASTWS_ANY_LOW | FASTWS_LONG_4_OR_BEYOND | FASTWS_BEYOND,
    FASTWS_SECOND_80 = FASTWS_STRAY | FASTWS_LONG_2 | FASTWS_CONTINUED
};

static const uint8_t fastws_utf8_first_high[16] = {
    FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY, FASTWS_STRAY,
    FASTWS_CONTINUED, FASTWS_CONTINUED, FASTWS_CONTINUED, FASTWS_CONTINUED,
    FASTWS_UNFINISHED | FASTWS_LONG_2,
    FASTWS_UNFINISHED,
    FASTWS_UNFINISHED | FASTWS_LONG_3 | FASTWS_SURROGATE,
    FASTWS_UNFINISHED | FASTWS_LONG_4_OR_BEYOND | FASTWS_BEYOND,
};
static const uint8_t fastws_utf8_first_low[16] = {
    FASTWS_ANY_LOW | FASTWS_LONG_2 | FASTWS_LONG_3 | FASTWS_LONG_4_OR_BEYOND,
    FASTWS_ANY_LOW | FASTWS_LONG_2,
    FASTWS_ANY_LOW, FASTWS_ANY_LOW,
    FASTWS_ANY_LOW | FASTWS_BEYOND,
    FASTWS_LOW_F5, FASTWS_LOW_F5, FASTWS_LOW_F5, FASTWS_LOW_F5, FASTWS_LOW_F5, FASTWS_LOW_F5, FASTWS_LOW_F5,
    FASTWS_LOW_F5,
    FASTWS_LOW_F5 | FASTWS_SURROGATE,
    FASTWS_LOW_F5, FASTWS_LOW_F5,
};
static const uint8_t fastws_utf8_second_high[16] = {
    FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED,
    FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED,
    FASTWS_SECOND_80 | FASTWS_LONG_3 | FASTWS_LONG_4_OR_BEYOND,
    FASTWS_SECOND_80 | FASTWS_LONG_3 | FASTWS_BEYOND,
    FASTWS_SECOND_80 | FASTWS_SURROGATE | FASTWS_BEYOND,
    FASTWS_SECOND_80 | FASTWS_SURROGATE | FASTWS_BEYOND,
    FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED, FASTWS_UNFINISHED,
};

/* What the kernel needs of vectors beside the operators of C. Subtracting stops at zero; `before` is what comes before `v`
 * in the text. */
#ifdef FASTWS_AVX2

#define FASTWS_VECTOR_LEN 32
typedef __m256i fastws_vector_t;

FASTWS_VECTOR_STEP __m256i fastws_v_load(const uint8_t *data)
{
    return _mm256_loadu_si256((const __m256i *)data);
}

FASTWS_VECTOR_STEP __m256i fastws_v_table(const uint8_t table[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
}

FASTWS_VECTOR_STEP __m256i fastws_v_all(uint8_t byte)
{
    return _mm256_set1_epi8((char)byte);
}

FASTWS_VECTOR_STEP __m256i fastws_v_minus(__m256i a, __m256i b)
{
    return _mm256_subs_epu8(a, b);
}

FASTWS_VECTOR_STEP __m256i fastws_v_low_half(__m256i v)
{
    return v & _mm256_set1_epi8(0x0F);
}

FASTWS_VECTOR_STEP __m256i fastws_v_high_half(__m256i v)
{
    return fastws_v_low_half(_mm256_srli_epi16(v, 4));
}

FASTWS_VECTOR_STEP __m256i fastws_v_look_up(__m256i table, __m256i half)
{
    return _mm256_shuffle_epi8(table, half);
}

/* Each byte's neighbour `n` bytes earlier in the text; n is a constant. */
#define FASTWS_V_EARLIER(v, before, n) _mm256_alignr_epi8(v, _mm256_permute2x128_si256(before, v, 0x21), 16 - (n))

FASTWS_VECTOR_STEP int fastws_v_is_ascii(__m256i v)
{
    return _mm256_movemask_epi8(v) == 0;
}

FASTWS_VECTOR_STEP int fastws_v_is_zero(__m256i v)
{
    return _mm256_testz_si256(v, v);
}

#else

#define FASTWS_VECTOR_LEN 16
typedef uint8x16_t fastws_vector_t;

FASTWS_VECTOR_STEP uint8x16_t fastws_v_load(const uint8_t *data)
{
    return vld1q_u8(data);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_table(const uint8_t table[16])
{
    return vld1q_u8(table);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_all(uint8_t byte)
{
    return vdupq_n_u8(byte);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_minus(uint8x16_t a, uint8x16_t b)
{
    return vqsubq_u8(a, b);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_low_half(uint8x16_t v)
{
    return v & vdupq_n_u8(0x0F);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_high_half(uint8x16_t v)
{
    return vshrq_n_u8(v, 4);
}

FASTWS_VECTOR_STEP uint8x16_t fastws_v_look_up(uint8x16_t table, uint8x16_t half)
{
    return vqtbl1q_u8(table, half);
}

/* Each byte's neighbour `n` bytes earlier in the text; n is a constant. */
#define FASTWS_V_EARLIER(v, before, n) vextq_u8(before, v, 16 - (n))

FASTWS_VECTOR_STEP int fastws_v_is_ascii(uint8x16_t v)
{
    return vmaxvq_u8(v) < 0x80;
}

FASTWS_VECTOR_STEP int fastws_v_is_zero(uint8x16_t v)
{
    return vmaxvq_u8(v) == 0;
}

#endif

/* Bytes of one step of the kernel, and from how many on it pays where not all are ASCII. */
#define FASTWS_UTF8_STEP (2 * FASTWS_VECTOR_LEN)
#define FASTWS_UTF8_LONG 32

/* Where the bytes of a vector are wrong, zero elsewhere. */
FASTWS_VECTOR_STEP fastws_vector_t fastws_utf8_wrong(fastws_vector_t v, fastws_vector_t before)
{
    const fastws_vector_t first_high = fastws_v_table(fastws_utf8_first_high);
    const fastws_vector_t first_low = fastws_v_table(fastws_utf8_first_low);
    const fastws_vector_t second_high = fastws_v_table(fastws_utf8_second_high);
    fastws_vector_t first = FASTWS_V_EARLIER(v, before, 1);
    fastws_vector_t pairs = fastws_v_look_up(first_high, fastws_v_high_half(first)) &
                            fastws_v_look_up(first_low, fastws_v_low_half(first)) &
                            fastws_v_look_up(second_high, fastws_v_high_half(v));
    /* Bit 7 stays where the byte is at least E0, or F0 */
    fastws_vector_t third = fastws_v_minus(FASTWS_V_EARLIER(v, before, 2), fastws_v_all(0xE0 - 0x80));
    fastws_vector_t fourth = fastws_v_minus(FASTWS_V_EARLIER(v, before, 3), fastws_v_all(0xF0 - 0x80));
    return pairs ^ ((third | fourth) & fastws_v_all(FASTWS_CONTINUED));
}

/* How many of the last bytes begin a character that goes on behind them. */
static inline size_t fastws_utf8_begun(const uint8_t *data, size_t length)
{
    static const uint8_t lowest_lead[] = {0, 0xC0, 0xE0, 0xF0};
    for (size_t back = 1; back <= 3 && back <= length; back++)
        if (data[length - back] >= lowest_lead[back])
            return back;
    return 0;
}

/* Whether any byte of one step is wrong; *before is what comes before it, and then its last vector. */
FASTWS_VECTOR_STEP fastws_vector_t fastws_utf8_step(const uint8_t *data, fastws_vector_t *before)
{
    const fastws_vector_t v = fastws_v_load(data), w = fastws_v_load(data + FASTWS_VECTOR_LEN), last = *before;
    *before = w;
    /* ASCII behind ASCII is right; behind others it may break a character off */
    if (fastws_v_is_ascii(v | w | last))
        return fastws_v_all(0);
    return fastws_utf8_wrong(v, last) | fastws_utf8_wrong(w, v);
}

/* How many bytes of data, which follows a whole character, are whole characters: all but the last few, or none of them
 * and FASTWS_UTF8_WRONG. */
FASTWS_VECTOR_TARGET static size_t fastws_utf8_whole(const uint8_t *data, size_t length)
{
    const size_t whole = length - fastws_utf8_begun(data, length);
    fastws_vector_t before = fastws_v_all(0), wrong = fastws_v_all(0);
    uint8_t tail[FASTWS_UTF8_STEP] = {0};
    size_t i = 0;

    for (; i + FASTWS_UTF8_STEP <= whole; i += FASTWS_UTF8_STEP)
        wrong |= fastws_utf8_step(data + i, &before);
    /* The NULs behind the rest, be it empty, tell whether its last character is whole */
    memcpy(tail, data + i, whole - i);
    wrong |= fastws_utf8_step(tail, &before);
    return fastws_v_is_zero(wrong) ? whole : FASTWS_UTF8_WRONG;
}

#endif
#endif
