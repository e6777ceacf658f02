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
 * The loops are written over eight byte words with memcpy loads: a compiler
 * turns them into vectors for whatever machine it builds for.
 */
#ifndef FASTWS_MASK_H
#define FASTWS_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FASTWS_HIGH_BITS UINT64_C(0x8080808080808080)

static inline uint32_t fastws_mask_load(const uint8_t key[4])
{
    uint32_t word;
    memcpy(&word, key, 4);
    return word;
}

/* The key as it stands after `done` bytes of payload. */
static inline uint32_t fastws_mask_rotate(uint32_t key, size_t done)
{
    uint8_t in[4], out[4];
    memcpy(in, &key, 4);
    for (unsigned i = 0; i < 4; i++)
        out[i] = in[(i + done) & 3];
    memcpy(&key, out, 4);
    return key;
}

/* dst[i] = src[i] ^ key[i % 4]; dst may be src, and no other overlap is allowed. */
static inline uint64_t fastws_mask(uint8_t *dst, const uint8_t *src, size_t length, uint32_t key)
{
    const uint64_t wide = (uint64_t)key << 32 | key;
    uint64_t seen = 0, word;
    size_t i = 0;

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
    for (; i + 8 <= length; i += 8) {
        memcpy(&word, src + i, 8);
        word ^= wide;
        seen |= word;
        memcpy(dst + i, &word, 8);
    }
    if (i < length) {
        word = 0;
        memcpy(&word, src + i, length - i);
        word ^= wide;
        memcpy(dst + i, &word, length - i);
        /* Bytes past the end hold the bare key: they must not count. */
        uint8_t tail[8];
        memcpy(tail, &word, 8);
        for (size_t k = 0; k < length - i; k++)
            seen |= tail[k];
    }
    return seen;
}

/* Whether what fastws_mask() wrote is ASCII. */
static inline int fastws_is_ascii(uint64_t seen)
{
    return (seen & FASTWS_HIGH_BITS) == 0;
}

#endif
