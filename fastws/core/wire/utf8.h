/* Validate UTF-8 (RFC 3629 4) in pieces, failing at the first byte that can no
 * longer become valid.
 *
 * A validator is one small value: how many continuation bytes the current
 * character still needs and the range that the next one must lie in. Only the
 * second byte of a character has a range narrower than 80..BF; that is where
 * overlong forms, surrogates and everything over U+10FFFF fall out:
 *
 *     lead      second byte   further bytes
 *     00..7F    -             0
 *     C2..DF    80..BF        0
 *     E0        A0..BF        1     (less is overlong)
 *     ED        80..9F        1     (more is a surrogate)
 *     E1..EF    80..BF        1
 *     F0        90..BF        2     (less is overlong)
 *     F1..F3    80..BF        2
 *     F4        80..8F        2     (more is over U+10FFFF)
 *     others    invalid
 *
 * Between two characters a long piece goes through vectors (utf8_vectors.h);
 * before and behind that every byte is looked at.
 */
#ifndef FASTWS_UTF8_H
#define FASTWS_UTF8_H

#include "utf8_vectors.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t needed; /* continuation bytes to come; 0 between characters */
    uint8_t lowest; /* range of the next continuation byte */
    uint8_t highest;
} fastws_utf8_t;

/* Take the lead byte of a character; 0 when no character starts with it. */
static inline int fastws_utf8_lead(fastws_utf8_t *state, uint8_t byte)
{
    state->lowest = 0x80;
    state->highest = 0xBF;
    if (byte < 0xC2)
        return 0;
    if (byte < 0xE0) {
        state->needed = 1;
        return 1;
    }
    if (byte < 0xF0) {
        state->needed = 2;
        if (byte == 0xE0)
            state->lowest = 0xA0;
        else if (byte == 0xED)
            state->highest = 0x9F;
        return 1;
    }
    if (byte < 0xF5) {
        state->needed = 3;
        if (byte == 0xF0)
            state->lowest = 0x90;
        else if (byte == 0xF4)
            state->highest = 0x8F;
        return 1;
    }
    return 0;
}

/* Take `length` more bytes, one by one where they are not ASCII. */
static inline int fastws_utf8_feed_plain(fastws_utf8_t *state, const uint8_t *data, size_t length)
{
    size_t i = 0;
    while (i < length) {
        if (state->needed == 0) {
            uint64_t word;
            while (i + 8 <= length) {
                memcpy(&word, data + i, 8);
                if (word & UINT64_C(0x8080808080808080))
                    break;
                i += 8;
            }
            if (i == length)
                return 1;
            if (data[i] >= 0x80 && !fastws_utf8_lead(state, data[i]))
                return 0;
        } else {
            if (data[i] < state->lowest || data[i] > state->highest)
                return 0;
            state->needed--;
            state->lowest = 0x80;
            state->highest = 0xBF;
        }
        i++;
    }
    return 1;
}

/* Take `length` more bytes; 1 while all bytes so far are the start of valid
 * UTF-8, 0 for good once they are not. */
static inline int fastws_utf8_feed(fastws_utf8_t *state, const uint8_t *data, size_t length)
{
#ifdef FASTWS_VECTOR_TARGET
    if (length >= FASTWS_UTF8_LONG && fastws_vectors) {
        size_t first = state->needed, done;
        if (!fastws_utf8_feed_plain(state, data, first))
            return 0;
        done = fastws_utf8_whole(data + first, length - first);
        if (done == FASTWS_UTF8_WRONG)
            return 0;
        data += first + done;
        length -= first + done;
    }
#endif
    return fastws_utf8_feed_plain(state, data, length);
}

/* Whether the bytes so far end between two characters. */
static inline int fastws_utf8_complete(const fastws_utf8_t *state)
{
    return state->needed == 0;
}

#endif
