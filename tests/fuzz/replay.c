/* A C target without libFuzzer: each input comes as 4 bytes of length (little-endian) and so many bytes, from stdin. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(void)
{
    uint8_t head[4];
    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t size = head[0] | head[1] << 8 | head[2] << 16 | (size_t)head[3] << 24;
        uint8_t *data = malloc(size ? size : 1);
        if (data == NULL || fread(data, 1, size, stdin) != size)
            return 2;
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
