/* Writes the benchmarks' input: generate COUNT, NDJSON lines of about 150 bytes on standard output. 1,000 devices at 3 sites, 10
 * events a millisecond of event time; 16 % are above 30 degrees. The same for every run: a fixed seed. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 0x9E3779B97F4A7C15;

static uint64_t next_random(void) {        /* xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled") */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static double uniform(void) {
    return ((double) (next_random() >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {               /* Box and Muller */
    return sqrt(-2 * log(uniform())) * cos(2 * M_PI * uniform());
}

int main(int argc, char **argv) {
    static const char *const sites[] = {"warehouse_a", "warehouse_b", "office"};
    static char buffer[1 << 20];
    long count = argc > 1 ? atol(argv[1]) : 0;
    if (count <= 0) {
        fprintf(stderr, "usage: generate COUNT\n");
        return 64;
    }
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (long i = 0; i < count; i++) {
        unsigned device = (unsigned) (next_random() >> 32) % 1000;
        printf("{\"ts\":%lld,\"device\":\"sensor_%04u\",\"site\":\"%s\",\"temperature\":%.4f,\"humidity\":%.2f,\"pressure\":%.1f,"
               "\"status\":\"ok\",\"seq\":%ld}\n",
               1732300000000LL + i / 10, device, sites[device % 3], 25 + 5 * normal(), 30 + 30 * uniform(), 990 + 40 * uniform(), i);
    }
    return fflush(stdout) || ferror(stdout);
}
