/* What the load generator measures with: clocks, the server's memory, latencies, and the time in which all of it counts.
 *
 * CPU time is the server's own clock (user and system, all threads), read when counting begins and ends.
 */
#ifndef METER_H
#define METER_H

#include <math.h>
#include <time.h>

#include "stream.h"

static int pid;         /* the server's */
static double seconds;  /* that count; a fifth of it comes before to warm up */

/* --- Clocks and memory */

static double read_clock(clockid_t id)
{
    struct timespec time;
    if (clock_gettime(id, &time) < 0)
        fail("clock_gettime");
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static double now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static double server_cpu(void)
{
    clockid_t id;
    if ((errno = clock_getcpuclockid(pid, &id)))
        fail("clock_getcpuclockid");
    return read_clock(id);
}

/* Resident bytes. */
static double server_memory(void)
{
    char path[64];
    double pages;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*s %lf", &pages) != 1)
        fail(path);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* --- Latencies: counted in steps of 2 % */

#define ANSWERS 3
#define STEP log(1.02)
#define STEPS 2048
static uint64_t histogram[STEPS], timed;

static void note_latency(double elapsed)
{
    int place = elapsed < 1e-7 ? 0 : (int)(log(elapsed / 1e-7) / STEP);
    histogram[place < STEPS ? place : STEPS - 1]++;
    timed++;
}

static double percentile(double share)
{
    uint64_t seen = 0;
    for (int i = 0; i < STEPS; i++)
        if ((seen += histogram[i]) > share * timed)
            return 1e-7 * exp((i + 0.5) * STEP);
    return 0;
}

/* --- Counting: from the end of the warm-up on */

static double begin, end, server_spent, load_spent;
static uint64_t counted;
static int warm;

static void set_times(void)
{
    begin = now() + seconds / 5;
    end = begin + seconds;
}

/* 0 when it is over. */
static int go_on(void)
{
    double time = now();
    if (!warm && time >= begin) {
        warm = 1;
        begin = time;
        end = begin + seconds;
        server_spent = server_cpu();
        load_spent = read_clock(CLOCK_PROCESS_CPUTIME_ID);
        counted = timed = 0;
        memset(histogram, 0, sizeof histogram);
    }
    return time < end;
}

/* Print all but the closing brace of a JSON object. There are no latencies where a sample was too short to see the longest:
 * `under_way` messages must each have been answered several times. */
static void report(const char *what, uint64_t under_way)
{
    double elapsed = now() - begin, spent = server_cpu() - server_spent;
    double load = read_clock(CLOCK_PROCESS_CPUTIME_ID) - load_spent;
    printf("{\"%s_per_second\": %.1f, \"cpu_share\": %.3f, \"load_share\": %.3f", what, counted / elapsed,
           spent / elapsed, load / elapsed);
    if (counted)
        printf(", \"cpu_us\": %.4f", spent / counted * 1e6);
    if (timed && timed >= ANSWERS * under_way)
        printf(", \"p50_ms\": %.4f, \"p99_ms\": %.4f", percentile(0.5) * 1e3, percentile(0.99) * 1e3);
}

/* The same for questions that make no sense when nothing came. */
static void report_some(const char *what, uint64_t under_way)
{
    if (!counted) {
        fprintf(stderr, "nothing came in %.1f s\n", now() - begin);
        exit(2);
    }
    report(what, under_way);
}

#endif
