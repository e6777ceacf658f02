/* Which vectors the kernels of mask.h and utf8.h may use.
 *
 * No flag of the compiler names an instruction set, because one build runs on every machine of its architecture. What
 * every such machine has (SSE2 on x86-64, NEON on aarch64) compilers use by themselves; what only some have stands in
 * functions that are compiled for it one by one, and is chosen at run time:
 *
 *     x86-64      AVX2, where this machine has it
 *     aarch64     NEON, always
 *     others      none: the plain loops
 *
 * The choice is made once, when the module is loaded: no thread can come before that.
 */
#ifndef FASTWS_VECTOR_H
#define FASTWS_VECTOR_H

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define FASTWS_AVX2 1
#define FASTWS_VECTOR_TARGET __attribute__((target("avx2")))
#elif defined(__aarch64__) && defined(__ARM_NEON) && defined(__GNUC__)
#include <arm_neon.h>
#define FASTWS_NEON 1
#define FASTWS_VECTOR_TARGET
#endif

#ifdef FASTWS_VECTOR_TARGET
/* A step of a kernel: part of it in every build, also where nothing is optimised. */
#define FASTWS_VECTOR_STEP FASTWS_VECTOR_TARGET __attribute__((always_inline)) static inline
#endif

static int fastws_vectors;

static inline int fastws_have_vectors(void)
{
#if defined(FASTWS_AVX2)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
#elif defined(FASTWS_NEON)
    return 1;
#else
    return 0;
#endif
}

/* Use vectors where this machine has them, or the plain loops; says what was used until now. For tests. */
static inline int fastws_use_vectors(int wanted)
{
    int used = fastws_vectors;
    fastws_vectors = wanted && fastws_have_vectors();
    return used;
}

__attribute__((constructor)) static void fastws_choose_vectors(void)
{
    fastws_use_vectors(1);
}

#endif
