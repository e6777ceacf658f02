/* fastws_utf8_feed() fails at the very byte with which no UTF-8 can begin as the bytes so far do, and only there: whole
 * and in pieces that the input chooses, with vectors and without.
 *
 * What it is compared with works on code points: the bits that are known of a character say which it may still become.
 *
 * Input: 4 bytes of lengths of pieces, then the text.
 */
#include "wire/utf8.h"

#include <stdlib.h>

#define HEAD 4

/* Whether any character begins with these bytes; `*complete` says that they are one. */
static int begins_character(const uint8_t *text, size_t length, int *complete)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned need = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
    if (need == 0)
        return 0;
    uint32_t from = need == 1 ? text[0] : text[0] & (0x7F >> need), to;
    for (unsigned i = 1; i < length; i++) {
        if (text[i] >> 6 != 2)
            return 0;
        from = from << 6 | (text[i] & 63);
    }
    *complete = length == need;
    to = from;
    for (size_t i = length; i < need; i++) {
        from <<= 6;
        to = to << 6 | 63;
    }
    if (from < lowest[need])
        from = lowest[need];
    if (to > 0x10FFFF)
        to = 0x10FFFF;
    return from <= to && !(from >= 0xD800 && to <= 0xDFFF);
}

/* How many bytes come before the first wrong one; `*complete` says whether they end between two characters. */
static size_t right_bytes(const uint8_t *text, size_t length, int *complete)
{
    size_t start = 0, end = 0;
    *complete = 1;
    while (end < length) {
        if (!begins_character(text + start, end + 1 - start, complete))
            return end;
        end++;
        if (*complete)
            start = end;
    }
    return end;
}

static void check(const uint8_t *text, size_t length, const uint8_t *pieces, size_t right, int complete)
{
    size_t done = 0;
    int valid = 1;
    fastws_utf8_t state;
    memset(&state, 0, sizeof(state));
    for (unsigned i = 0; valid && done < length; i++) {
        size_t piece = pieces[i & 3];
        if (piece == 0 || piece > length - done)
            piece = length - done;
        uint8_t *copy = malloc(piece); /* so that the sanitizer sees one byte too many */
        memcpy(copy, text + done, piece);
        valid = fastws_utf8_feed(&state, copy, piece);
        free(copy);
        done += piece;
        if (valid != (done <= right))
            abort();
    }
    if (valid && !fastws_utf8_complete(&state) != !complete)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    size_t length = size - HEAD;
    int complete;
    size_t right = right_bytes(data + HEAD, length, &complete);
    for (int vectors = 0; vectors < 2; vectors++) {
        fastws_use_vectors(vectors);
        check(data + HEAD, length, data, right, complete);
    }
    return 0;
}
