/* Large groups go around the page cache: the disk takes the frames from where they stand in memory, while the stream goes on. Copying them into the
 * cache and writing them back from there costs several times what this does. The kernel finishes what it was given even when the process is killed,
 * and lets go of the log's lock only then; so a group is as good as written once it is under way, as one in the page cache is. What is read waits
 * for what is under way, and so does what is written through the cache: the two never meet in a page. A group that the disk refuses is still in
 * memory, and is written through the cache instead.
 *
 * This needs whole pages, in the file as in memory. A group begins with a page and fills its last one with zeros; a body is moved by the gap before it to
 * the same place in a page as it has in memory, so that its whole pages can be taken from there; all else is copied.
 *
 * Where the disk is slower than the stream the page cache can take a burst and this cannot: then it rests for some segments. */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define LARGE (64u * 1024)               /* a group that is worth the change to it */
#define LARGE_STILL (16u * 1024)         /* a group that is not worth the change back */
#define IN_PLACE (16u * 1024)            /* a body whose pages are taken from where they are */
#define SMALL_IN_A_ROW 8                 /* smaller groups that go this way too because something is under way; then that is waited for */
#define ENTRIES 64                       /* of a group at most */
#define KEPT (64u * 1024)                /* staged_room of one that is used again, at most */
#define FLIGHTS 64                       /* under way at a time, and their bytes */
#define FLYING (8u * 1024 * 1024)
#define STALL (20 * NS_PER_MS)           /* waited for the disk within a segment: it is too slow */
#define RESTS 64                         /* segments at most */

const uint8_t spool_zeros[SPOOL_PAGE];

typedef struct flight {
    struct flight *next;
    segment_t *segment;
    spool_mark_t before;               /* where the log ended: released_* are not set */
    uint64_t at, size;
    uint8_t *staged;                   /* all that is not taken from where it is */
    size_t staged_room;
    bool landed;
    int error;                         /* the disk refused it */
    unsigned frame_count, piece_count;
    frame_t *frames[ENTRIES];
    struct iovec pieces[2 * ENTRIES + 1];
} flight_t;

/* ---- what this machine offers ---- */

static bool offered(int fd) {
    struct statx status;
    return statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && status.stx_mask & STATX_DIOALIGN && status.stx_dio_offset_align &&
           status.stx_dio_offset_align <= SPOOL_PAGE && status.stx_dio_mem_align <= SPOOL_PAGE;
}

static bool begin(spool_t *spool, int fd) {
    flights_t *flights = &spool->flights;
    if (flights->context)
        return true;
    aio_context_t context = 0;
    flights->off = !offered(fd) || syscall(SYS_io_setup, FLIGHTS, &context) != 0;
    flights->context = context;
    flights->end = &flights->first;
    flights->rest_next = 1;
    return !flights->off;
}

/* Through the cache, or around it, from now on. False: it cannot be. */
static bool turn(segment_t *segment, bool direct) {
    if (segment->direct != direct && fcntl(segment->fd, F_SETFL, direct ? O_DIRECT : 0) != 0)
        return false;
    segment->direct = direct;
    return true;
}

/* ---- what is under way ---- */

static void flight_free(flight_t *flight) {
    mem_free(flight->staged);
    mem_free(flight);
}

/* Those that have landed are used again: memory in whole pages is dear. */
static void flight_end(flights_t *flights, flight_t *flight) {
    for (unsigned i = 0; i < flight->frame_count; i++)
        frame_unref(flight->frames[i]);
    segment_unref(flight->segment);
    if (flight->staged_room > KEPT || flights->kept_count == FLIGHTS / 8) {
        flight_free(flight);
        return;
    }
    flight->next = flights->kept;
    flights->kept = flight;
    flights->kept_count++;
}

/* One with so much room for what is staged. */
static flight_t *flight_begin(flights_t *flights, size_t staged) {
    flight_t *flight = flights->kept;
    if (flight) {
        flights->kept = flight->next;
        flights->kept_count--;
    } else {
        flight = mem_alloc(sizeof *flight);
        flight->staged = NULL;
        flight->staged_room = 0;
    }
    if (flight->staged_room < staged) {
        mem_free(flight->staged);
        flight->staged = mem_aligned(SPOOL_PAGE, flight->staged_room = staged);
    }
    flight->next = NULL;
    flight->size = 0;
    flight->landed = false;
    flight->error = 0;
    flight->frame_count = flight->piece_count = 0;
    return flight;
}

/* Whether there is anything to be fetched, without asking the kernel: the ring is the kernel's, its head is mapped here. */
static bool any_landed(const flights_t *flights) {
    const struct { unsigned id, count, head, tail, magic; } *ring = (const void *) flights->context;
    return ring->magic != 0xa10a10a1 || __atomic_load_n(&ring->head, __ATOMIC_RELAXED) != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
}

static void fetch(spool_t *spool, long least) {
    flights_t *flights = &spool->flights;
    struct io_event events[FLIGHTS];
    if (!least && !any_landed(flights))
        return;
    long count;
    do
        count = syscall(SYS_io_getevents, (aio_context_t) flights->context, least, FLIGHTS, events, NULL);
    while (count < 0 && errno == EINTR);
    for (long i = 0; i < count; i++) {
        flight_t *flight = (flight_t *) (uintptr_t) events[i].data;
        flight->landed = true;
        if (events[i].res != (int64_t) flight->size)
            flight->error = events[i].res < 0 ? (int) -events[i].res : EIO;
        flights->flying--;
    }
}

/* Through the cache after all. */
static bool mend(spool_t *spool, flight_t *flight) {
    struct iovec *pieces = mem_copy(flight->pieces, flight->piece_count * sizeof *pieces);
    spool->flights.off = true;
    log_debug("%s: a write around the page cache: %s", spool->directory, strerror(flight->error));
    bool done = turn(flight->segment, false) && spool_write_pieces(flight->segment->fd, pieces, (int) flight->piece_count, flight->at) == 0;
    flight->error = done ? 0 : errno;
    flight->segment->dirty = true;
    mem_free(pieces);
    return done;
}

static void complain(spool_t *spool, const flight_t *flight) {
    char *path = spool_segment_path(spool, flight->segment->head.first_index);
    spool_complain(spool, path, "write", flight->error);
    mem_free(path);
}

/* Lets go of those at the front that have landed. 0, or errno of one that cannot be written. */
static int let_go(spool_t *spool) {
    flights_t *flights = &spool->flights;
    while (flights->first && flights->first->landed) {
        flight_t *flight = flights->first;
        if (flight->error && (flights->flying || !mend(spool, flight))) {
            complain(spool, flight);
            return flight->error;
        }
        flights->first = flight->next;
        if (!flights->first)
            flights->end = &flights->first;
        flights->bytes -= flight->size;
        flight_end(flights, flight);
    }
    return 0;
}

int spool_indirect(spool_t *spool, segment_t *segment) {
    int error = spool_land(spool);
    return error || turn(segment, false) ? error : errno;
}

int spool_land(spool_t *spool) {
    flights_t *flights = &spool->flights;
    if (!flights->first)
        return 0;
    if (flights->flying)
        fetch(spool, flights->flying);
    return let_go(spool);
}

void spool_direct_end(spool_t *spool) {
    flights_t *flights = &spool->flights;
    spool_land(spool);
    for (flight_t *flight; (flight = flights->first);) {
        flights->first = flight->next;
        flight_end(flights, flight);
    }
    for (flight_t *flight; (flight = flights->kept);) {
        flights->kept = flight->next;
        flight_free(flight);
    }
    if (flights->context)
        syscall(SYS_io_destroy, (aio_context_t) flights->context);
}

bool spool_flying(const spool_t *spool, uint64_t index) {
    return spool->flights.first && index > spool->flights.first->before.index;
}

uint64_t spool_landed(spool_t *spool, spool_mark_t *mark) {
    flights_t *flights = &spool->flights;
    const segment_t *current = spool_current(spool);
    if (flights->first) {
        fetch(spool, 0);
        let_go(spool);
    }
    for (flight_t *flight = flights->first; flight; flight = flight->next)
        flight->segment->dirty = true;
    *mark = flights->first ? flights->first->before
                           : (spool_mark_t){.segment = current ? current->head.first_index : 0, .length = current ? current->size : 0,
                                            .index = spool->written_index, .number = spool->written_number};
    return flights->bytes;
}

/* ---- launching ---- */

void spool_direct_segment(spool_t *spool) {
    flights_t *flights = &spool->flights;
    if (flights->rest)
        flights->rest--;
    else if (!flights->stalled)
        flights->rest_next = 1;
    flights->stalled = 0;
}

bool spool_direct(spool_t *spool, const segment_t *segment, size_t count, uint64_t size) {
    flights_t *flights = &spool->flights;
    if (spool->setup.sync != SPOOL_INTERVAL || flights->off || count > ENTRIES)
        return false;
    bool large = size >= (segment->direct ? LARGE_STILL : LARGE);
    if (!large && (!flights->first || flights->small >= SMALL_IN_A_ROW))
        return false;
    if (flights->rest || segment->allocated == UINT64_MAX || !begin(spool, segment->fd))
        return false;
    flights->small = large ? 0 : flights->small + 1;
    return true;
}

/* The group as it is to stand on disk: pieces of `staged`, and pages of bodies between them. */
typedef struct layout {
    flight_t *flight;
    size_t used, piece;                /* of `staged`; where its part begins that is in no piece yet */
} layout_t;

static void stage(layout_t *layout, const void *bytes, size_t size) {
    memcpy(layout->flight->staged + layout->used, bytes, size);
    layout->used += size;
}

static void add_piece(flight_t *flight, const void *start, size_t size) {
    if (!size)
        return;
    flight->pieces[flight->piece_count++] = (struct iovec){(void *) start, size};
    flight->size += size;
}

static void end_piece(layout_t *layout) {
    add_piece(layout->flight, layout->flight->staged + layout->piece, layout->used - layout->piece);
    layout->piece = layout->used;
}

static void lay_body(layout_t *layout, const frame_t *frame) {
    const uint8_t *body = frame->body;
    size_t size = frame->body_size;
    if (size >= IN_PLACE) {
        size_t before = -(uintptr_t) body % SPOOL_PAGE, pages = (size - before) / SPOOL_PAGE * SPOOL_PAGE;
        stage(layout, body, before);
        end_piece(layout);
        add_piece(layout->flight, body + before, pages);
        body += before + pages;
        size -= before + pages;
    }
    stage(layout, body, size);
}

static void lay_out(spool_t *spool, layout_t *layout, entry_t *entry, uint32_t seed) {
    const frame_t *frame = entry->frame;
    if (frame && frame->body_size >= IN_PLACE) {
        entry->head.gap = (uint16_t) (((uintptr_t) frame->body - layout->used - entry->size) % SPOOL_PAGE);
        entry->head.size += entry->head.gap;
    }
    spool_seal(spool, entry, seed);
    stage(layout, spool->bytes_waiting.data + entry->start, entry->size);
    if (frame) {
        stage(layout, spool_zeros, entry->head.gap);
        lay_body(layout, frame);
        layout->flight->frames[layout->flight->frame_count++] = frame_ref(entry->frame);
    }
    stage(layout, spool_zeros, SPOOL_ALIGN(layout->used) - layout->used);
}

static size_t staged_most(const spool_t *spool, size_t count) {
    size_t most = SPOOL_PAGE;
    for (size_t i = 0; i < count; i++) {
        const entry_t *entry = &spool->entries[spool->entry_first + i];
        size_t body = entry->frame ? entry->frame->body_size : 0;
        most += entry->size + (body >= IN_PLACE ? 3 * SPOOL_PAGE : body) + 8;
    }
    return SPOOL_PAGE_ALIGN(most);
}

static flight_t *flight_new(spool_t *spool, segment_t *segment, size_t count) {
    flight_t *flight = flight_begin(&spool->flights, staged_most(spool, count));
    flight->segment = segment_ref(segment);
    flight->before = (spool_mark_t){.segment = segment->head.first_index, .length = segment->size, .index = spool->written_index,
                                    .number = spool->written_number};
    flight->at = SPOOL_PAGE_ALIGN(segment->size);
    layout_t layout = {flight, 0, 0};
    uint32_t seed = record_seed(segment->head.id, segment->head.first_index);
    for (size_t i = 0; i < count; i++)
        lay_out(spool, &layout, &spool->entries[spool->entry_first + i], seed);
    stage(&layout, spool_zeros, SPOOL_PAGE_ALIGN(layout.used) - layout.used);
    end_piece(&layout);
    return flight;
}

/* Sees to it that the file is as long as what is to be written into it, and that zeros lead from its end to the next page. Making it longer while
 * something is written behind its end would have to be waited for. */
static bool prepare(segment_t *segment, const flight_t *flight) {
    uint64_t end = flight->at + flight->size;
    if (segment->size % SPOOL_PAGE && (!turn(segment, false) || pwrite(segment->fd, spool_zeros, 8, (off_t) segment->size) != 8))
        return false;
    spool_reserve(segment, end - segment->size);
    if (segment->allocated == UINT64_MAX)
        return false;
    if (end > segment->file_size && ftruncate(segment->fd, (off_t) segment->allocated) != 0)
        return false;
    if (segment->file_size < segment->allocated)
        segment->file_size = segment->allocated;
    return turn(segment, true);
}

static bool submit(spool_t *spool, flight_t *flight) {
    struct iocb order = {.aio_data = (uintptr_t) flight, .aio_lio_opcode = IOCB_CMD_PWRITEV, .aio_fildes = (uint32_t) flight->segment->fd,
                         .aio_buf = (uintptr_t) flight->pieces, .aio_nbytes = flight->piece_count, .aio_offset = (int64_t) flight->at};
    struct iocb *orders = &order;
    for (;;) {
        if (syscall(SYS_io_submit, (aio_context_t) spool->flights.context, 1, &orders) == 1)
            return true;
        if (errno == EAGAIN && spool->flights.flying)
            fetch(spool, 1);
        else if (errno != EINTR)
            return false;
    }
}

static void wait_for_room(spool_t *spool) {
    flights_t *flights = &spool->flights;
    fetch(spool, 0);
    let_go(spool);
    if (flights->flying < FLIGHTS && flights->bytes < FLYING)
        return;
    int64_t clock = clock_monotonic();
    while (flights->flying && (flights->flying == FLIGHTS || flights->bytes >= FLYING)) {
        fetch(spool, 1);
        if (let_go(spool) != 0)
            break;
    }
    flights->stalled += clock_monotonic() - clock;
    if (flights->stalled > STALL && !flights->rest) {
        flights->rest = flights->rest_next + 1;        /* and the rest of this segment */
        flights->rest_next = flights->rest_next * 2 < RESTS ? flights->rest_next * 2 : RESTS;
    }
}

uint64_t spool_launch(spool_t *spool, segment_t *segment, size_t count) {
    flights_t *flights = &spool->flights;
    if (flights->first)
        wait_for_room(spool);
    flight_t *flight = flight_new(spool, segment, count);
    bool ready = !flights->off && prepare(segment, flight);
    if (!ready)
        segment->allocated = UINT64_MAX;               /* the next one may have room again */
    if (!ready || !submit(spool, flight)) {
        flights->off = flights->off || ready;
        flight_end(flights, flight);
        for (size_t i = 0; i < count; i++) {
            entry_t *entry = &spool->entries[spool->entry_first + i];
            entry->head.size -= entry->head.gap;
            entry->head.gap = 0;
        }
        return 0;
    }
    *flights->end = flight;
    flights->end = &flight->next;
    flights->flying++;
    flights->bytes += flight->size;
    return flight->at + flight->size;
}
