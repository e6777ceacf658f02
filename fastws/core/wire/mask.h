/* XOR a payload with its masking key (RFC 6455 5.3), copying or in place.
 *
 * The key travels as the four wire bytes loaded in native order, so XORing a
 * loaded word needs no byte swap. A payload that arrives in pieces is unmasked
 * piece by piece: fastws_mask_rotate() moves the key on by the bytes done.
 *
 * fastws_mask() also returns the OR of all bytes that it wrote. Bit 7 of each
 * byte of that word is clear exactly when the result is ASCII, so a text frame
 * learns its encoding in the pass that it needs anyway.
 *
 * What does not fill a last word is not done byte by byte: the last word of the
 * payload is loaded before anything is written, because dst may be src, and
 * written at the end, over bytes that are what they shall be already.
 */
#ifndef FASTWS_MASK_H
#define FASTWS_MASK_H

#include "vector.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FASTWS_HIGH_BITS UINT64_C(0x8080808080808080)

/* From so many bytes on wider vectors pay for the call. */
#define FASTWS_MASK_LONG 64

static inline uint32_t fastws_mask_load(const uint8_t key[4])
{
    uint32_t word;
    memcpy(&word, key, 4);
    return word;
}

/* The key as it stands after `done` bytes of payload. */
static inline uint32_t fastws_mask_rotate(uint32_t key, size_t done)
{
    const unsigned bits = 8 * (done & 3);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return key << bits | key >> (-bits & 31);
#else
    return key >> bits | key << (-bits & 31);
#endif
}

/* Less than a word. */
static inline uint64_t fastws_mask_few(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    if (length >= 4) {
        uint32_t first, last;
        memcpy(&first, src, 4);
        memcpy(&last, src + length - 4, 4);
        first ^= key;
        last ^= fastws_mask_rotate(key, length);
        memcpy(dst, &first, 4);
        memcpy(dst + length - 4, &last, 4);
        return first | last;
    }
    uint8_t bytes[4], seen = 0;
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < length; i++)
        seen |= dst[i] = src[i] ^ bytes[i];
    return seen;
}

/* Compilers turn this into the vectors that every machine of the architecture has. */
static inline uint64_t fastws_mask_words(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    const uint64_t wide = (uint64_t)key << 32 | key;
    const uint32_t last_key = fastws_mask_rotate(key, length);
    uint64_t seen = 0, word, last;
    size_t i = 0;

    memcpy(&last, src + length - 8, 8);
    last ^= (uint64_t)last_key << 32 | last_key;
    if (length >= 32) {
        /* Words by name: an array of them goes through memory and stays out of vectors. */
        uint64_t seen0 = 0, seen1 = 0, seen2 = 0, seen3 = 0, word0, word1, word2, word3;
        for (; i + 32 <= length; i += 32) {
            memcpy(&word0, src + i, 8);
            memcpy(&word1, src + i + 8, 8);
            memcpy(&word2, src + i + 16, 8);
            memcpy(&word3, src + i + 24, 8);
            seen0 |= word0 ^= wide;
            seen1 |= word1 ^= wide;
            seen2 |= word2 ^= wide;
            seen3 |= word3 ^= wide;
            memcpy(dst + i, &word0, 8);
            memcpy(dst + i + 8, &word1, 8);
            memcpy(dst + i + 16, &word2, 8);
            memcpy(dst + i + 24, &word3, 8);
        }
        seen = seen0 | seen1 | seen2 | seen3;
    }
    for (; i + 8 < length; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= wide;
        seen |= word;
        memcpy(dst + i, &word, 8);
    }
    memcpy(dst + length - 8, &last, 8);
    return seen | last;
}

#ifdef FASTWS_AVX2
/* At least 32 bytes. In between the first and the last vector, which are written at the end, dst is aligned. */
FASTWS_VECTOR_TARGET static uint64_t fastws_mask_avx2(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    size_t i = -(uintptr_t)dst & 31;
    const __m256i first_wide = _mm256_set1_epi32((int)key);
    const __m256i wide = _mm256_set1_epi32((int)fastws_mask_rotate(key, i));
    const __m256i last_wide = _mm256_set1_epi32((int)fastws_mask_rotate(key, length));
    const __m256i first = _mm256_loadu_si256((const __m256i *)src) ^ first_wide;
    const __m256i last = _mm256_loadu_si256((const __m256i *)(src + length - 32)) ^ last_wide;
    __m256i seen0 = first, seen1 = last, word0, word1;
    uint64_t seen[4];

    for (; i + 64 <= length; i += 64) {
        word0 = _mm256_loadu_si256((const __m256i *)(src + i)) ^ wide;
        word1 = _mm256_loadu_si256((const __m256i *)(src + i + 32)) ^ wide;
        seen0 |= word0;
        seen1 |= word1;
        _mm256_store_si256((__m256i *)(dst + i), word0);
        _mm256_store_si256((__m256i *)(dst + i + 32), word1);
    }
    if (i + 32 < length) {
        word0 = _mm256_loadu_si256((const __m256i *)(src + i)) ^ wide;
        seen0 |= word0;
        _mm256_store_si256((__m256i *)(dst + i), word0);
    }
    _mm256_storeu_si256((__m256i *)dst, first);
    _mm256_storeu_si256((__m256i *)(dst + length - 32), last);
    _mm256_storeu_si256((__m256i *)seen, seen0 | seen1);
    return seen[0] | seen[1] | seen[2] | seen[3];
}
#endif

/* dst[i] = src[i] ^ key[i % 4]; dst may be src, and no other overlap is allowed. */
static inline uint64_t fastws_mask(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    if (length < 8)
        return fastws_mask_few(dst, src, length, key);
#ifdef FASTWS_AVX2
    if (length >= FASTWS_MASK_LONG && fastws_vectors)
        return fastws_mask_avx2(dst, src, length, key);
#endif
    return fastws_mask_words(dst, src, length, key);
}

/* Whether what fastws_mask() wrote is ASCII. */
static inline int fastws_is_ascii(uint64_t seen)
{
    return (seen & FASTWS_HIGH_BITS) == 0;
}

#endif
