#ifndef NET_SPOOL_PRIVATE_H
#define NET_SPOOL_PRIVATE_H

#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "net/spool.h"
#include "net/syncer.h"

/* What the files of the spool share. streamctl(1), "THE DURABLE LOG", draws the format. */

#define SPOOL_ALIGN(n) (((n) + 7) & ~(uint64_t) 7)
#define SPOOL_PAGE 4096                /* what is written around the page cache begins and ends with a page of its own */
#define SPOOL_PAGE_ALIGN(n) (((n) + SPOOL_PAGE - 1) & ~(uint64_t) (SPOOL_PAGE - 1))

/* ---- the format (spool_segment.c) ---- */

#define SEGMENT_HEAD 96
#define RECORD_HEAD 40
#define BOOT_MAX 40
#define RECORD_CONTINUES 1u            /* the next record belongs to the same group */

typedef struct segment_head {
    uint64_t id;                       /* of the spool */
    uint64_t first_index;              /* of its first record: its name */
    uint64_t first_number;             /* of its first frame */
    uint64_t synced;                   /* index up to which all was synced when it was begun */
    char boot[BOOT_MAX];
} segment_head_t;

typedef struct record_head {
    uint32_t crc, size;                /* size: all of it but the padding behind it */
    uint64_t index, number;
    uint32_t note_size, header_size, events;
    uint8_t flags, topic_size;
    uint16_t gap;                      /* zeros before the body, which stands at the same place in a page as in memory */
} record_head_t;

void segment_put_head(uint8_t out[SEGMENT_HEAD], const segment_head_t *head);
int segment_get_head(segment_head_t *head, const uint8_t in[SEGMENT_HEAD], err_t *err);
void record_put_head(uint8_t out[RECORD_HEAD], const record_head_t *head);
/* False when the numbers in it cannot be, or it does not fit in `room` bytes. */
bool record_get_head(record_head_t *head, const uint8_t in[RECORD_HEAD], uint64_t room);
/* Where the record at `at` really begins: at the next page when there are zeros, 8 of which are at `bytes`. */
uint64_t record_place(uint64_t at, const uint8_t *bytes);
uint32_t record_seed(uint64_t id, uint64_t first_index);
void segment_name(char out[32], uint64_t first_index);
/* Copies what stands behind `from` to PATH.damaged: it is about to be cut off, and may be more than a torn tail. */
void segment_keep_aside(const char *path, uint64_t from);
bool segment_name_read(const char *name, uint64_t *first_index);
/* The whole record's frame: memory is borrowed, the frame stands in the caller's zeroed storage. */
int record_decode(frame_t *frame, const record_head_t *head, const uint8_t *record, err_t *err);
static inline text_t record_note(const record_head_t *head, const uint8_t *record) {
    return text_make((const char *) record + RECORD_HEAD, head->note_size);
}

/* Reads a segment's records one after the other with pread, in bounded memory: to open, to check, to copy. */
typedef struct scan {
    int fd;
    uint32_t seed;
    uint64_t at, end;                  /* next record; where to stop */
    uint64_t expected;                 /* index of the next record */
    buf_t buffer;
    uint64_t buffer_at;
} scan_t;
void scan_init(scan_t *scan, int fd, const segment_head_t *head, uint64_t end);
void scan_fini(scan_t *scan);
/* 1: a sound record of which only the head is looked at; 0: the end; -1: damaged (scan->at is where; *err says why). */
int scan_next(scan_t *scan, record_head_t *head, err_t *err);
/* The bytes of the record that scan_next has just given; NULL when it is larger than `limit`. Valid until the next call. */
const uint8_t *scan_record(scan_t *scan, const record_head_t *head, size_t limit);
/* After a damage: true when a sound record with a higher index stands behind it. */
bool scan_finds_more(scan_t *scan);

/* ---- meta (spool_meta.c) ---- */

typedef struct spool_meta {
    uint64_t id;
    char name[FRAME_ORIGIN_MAX + 1];
    spool_identity_t identity;
    char boot[BOOT_MAX];
    spool_sync_t sync;                 /* of the last run */
} spool_meta_t;

/* 1: read; 0: there is none; -1: unreadable. */
int meta_read(spool_meta_t *meta, const char *directory, err_t *err);
int meta_write(const spool_meta_t *meta, const char *directory, err_t *err);
void meta_boot(char out[BOOT_MAX]);                    /* this boot of the machine */
void meta_continue(spool_meta_t *meta, uint64_t number);           /* a new epoch that continues the present one up to `number` */
extern const char *const spool_sync_names[3];

/* `synced`: how far the disk has it, and what was released; a hint, written without sync. */
typedef struct spool_mark {
    uint64_t segment, length;          /* of the segment (its first index), 0: none */
    uint64_t index, number;            /* last record and frame that are synced */
    uint64_t released_index, released_number;
} spool_mark_t;
bool mark_read(spool_mark_t *mark, const char *directory);
void mark_put(char out[256], const spool_mark_t *mark);
#define MARK_SIZE 192

/* Names of segments in a directory, in order. Returns their first indices (mem_free), -1 with *err. */
ssize_t segments_list(uint64_t **first, const char *directory, err_t *err);

/* ---- the spool ---- */

#define SPARES_MAX 16                  /* as many as make up the limit, unless that is larger than 1 GiB */

/* A segment is shared with the mappings of its file that frames and cursors still hold; any thread may give one back. */
typedef struct segment {
    atomic_uint references;
    segment_head_t head;
    uint64_t last_index, last_number;  /* first - 1: nothing in it. Of those before the last: up to what the next begins with */
    uint64_t size;                     /* bytes that count */
    uint64_t allocated;                /* the last one: reserved on disk up to here; UINT64_MAX: it cannot be told */
    uint64_t file_size;                /* the last one: its file is at least as long */
    bool direct;                       /* its file is written around the page cache at present */
    int fd;                            /* the last one's, and those that are not synced; else -1 */
    bool dirty, syncing;               /* holds what no order to sync covers; is being synced */
    bool removed;                      /* cursors go elsewhere */
    bool damaged;                      /* its head cannot be read */
} segment_t;

segment_t *segment_ref(segment_t *segment);
void segment_unref(segment_t *segment);

/* A record on its way to the disk: its bytes but the body's stand in spool->bytes. */
typedef struct entry {
    record_head_t head;
    frame_t *frame;                    /* NULL: no frame, or its body was copied */
    size_t start, size;                /* in spool->bytes */
} entry_t;

/* What is written around the page cache and not known to be on disk (spool_direct.c). */
typedef struct flights {
    unsigned long context;             /* the kernel's; 0: none yet */
    bool off;                          /* it is not to be had here */
    struct flight *first, **end;       /* in order; some behind the first may have landed */
    unsigned flying;                   /* those that have not */
    struct flight *kept;               /* to be used again */
    unsigned kept_count;
    uint64_t bytes;                    /* of all */
    unsigned small;                    /* groups in a row that went with others */
    int64_t stalled;                   /* ns waited for the disk in this segment */
    unsigned rest, rest_next;          /* segments that go through the page cache: yet; the next time */
} flights_t;

struct spool {
    spool_setup_t setup;
    char *directory;
    int lock, directory_fd, mark_fd;
    spool_meta_t meta;
    uint64_t segment_size;
    segment_t **segments;              /* oldest first; the last one is written, unless it is damaged */
    size_t count, capacity;
    unsigned spares;                   /* files of removed segments that are kept to be overwritten */
    unsigned spares_least;             /* since the last look at them: so many were not needed */
    bool ended;                        /* no more of them are */
    uint64_t bytes;                    /* of all segments */
    /* the group that is open */
    bool in_group, dropping, group_has_frame;
    uint64_t group_index, group_number;       /* before it */
    size_t group_entries, group_bytes;
    /* what waits to be written: whole groups, and the open one behind them */
    entry_t *entries;
    size_t entry_first, entry_count, entry_capacity;
    buf_t bytes_waiting;
    uint64_t waiting_bodies;           /* bytes in bodies */
    uint64_t index, number;            /* last given out */
    uint64_t written_index, written_number;
    uint64_t synced_index, synced_number;
    uint64_t target_index, target_number;     /* of the order to sync under way */
    uint64_t synced_segment, synced_length, target_segment, target_length;
    flights_t flights;
    uint64_t unsynced;                 /* bytes that no order covers */
    bool syncing, directory_dirty, rewrite;   /* rewrite: a sync failed: what is not synced must be written anew */
    uint64_t released_index, released_number;
    bool full;                         /* over the limit, until below 3/4 */
    syncer_t *syncer;
    loop_watch_t *sync_timer, *retry_timer, *spare_timer;
    int64_t retry_delay;
    bool trouble;
    err_t reason;
    uint64_t damages;
    spool_cursor_t *last;              /* for spool_last */
    /* what the next round of the loop tells */
    bool tell_written, tell_synced, tell_room, tell_trouble;
    uint64_t told_written, told_synced;
    bool told_trouble;
    uint64_t dropped_events;
    const char *dropped_reason;
};

static inline segment_t *spool_current(const spool_t *spool) {
    return spool->count ? spool->segments[spool->count - 1] : NULL;
}

char *spool_path(const spool_t *spool, const char *name);          /* mem_free */
char *spool_spare_path(const spool_t *spool, unsigned i);          /* mem_free; from 0 */
char *spool_segment_path(const spool_t *spool, uint64_t first_index);
segment_t *spool_add_segment(spool_t *spool, const segment_head_t *head);
void spool_tell(spool_t *spool);                       /* see to it that the callbacks are called */
void spool_mark(spool_t *spool);                       /* writes `synced` */

/* spool_write.c */
void spool_seal(spool_t *spool, entry_t *entry, uint32_t seed);    /* puts its head and checksum where it waits */
void spool_reserve(segment_t *segment, uint64_t size);             /* blocks for so much more */
int spool_write_pieces(int fd, struct iovec *pieces, int count, uint64_t at);      /* uses the pieces up; -1 with errno */
void spool_complain(spool_t *spool, const char *path, const char *what, int error);
void spool_retry_soon(spool_t *spool);
/* spool_direct.c */
extern const uint8_t spool_zeros[SPOOL_PAGE];
bool spool_direct(spool_t *spool, const segment_t *segment, size_t count, uint64_t size);  /* whether the first group, of this size, is to go that way */
uint64_t spool_launch(spool_t *spool, segment_t *segment, size_t count);   /* where it ends in the file; 0: it is to be written through the cache */
void spool_direct_segment(spool_t *spool);             /* a new segment begins */
int spool_land(spool_t *spool);                        /* waits for all that is under way; errno when some of it cannot be written at present */
int spool_indirect(spool_t *spool, segment_t *segment);            /* likewise; from now on it is written through the page cache */
bool spool_flying(const spool_t *spool, uint64_t index);           /* this record may be under way */
/* Up to where all has landed (its released_* are 0), and the bytes of what has not; segments that hold some of these are made dirty. */
uint64_t spool_landed(spool_t *spool, spool_mark_t *mark);
void spool_direct_end(spool_t *spool);
/* spool_sync.c */
void spool_wrote(spool_t *spool, uint64_t bytes);      /* something to be synced by the policy */
int spool_rewrite(spool_t *spool);                     /* 0: the unsynced records stand in a new segment */
/* spool_room.c */
void spool_remove_released(spool_t *spool);
bool spool_drop_oldest(spool_t *spool);                /* false: there is none to drop */
void spool_update_room(spool_t *spool);
bool spool_drop_spare(spool_t *spool);                 /* false: there was none */
/* spool_open.c */
int spool_recover(spool_t *spool, bool fresh, err_t *err);

#endif
