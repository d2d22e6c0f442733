/* The format of a segment: its head, a record's head, and a reader that goes through a file in bounded memory and believes nothing that its
 * checksum does not confirm. A record's checksum is seeded with the spool's number and the segment's first index, so that what a file held
 * before it was used again never looks like a record. All numbers are little-endian. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/memory.h"
#include "net/spool_private.h"

#define SCAN_BUFFER (256 * 1024)
#define FORMAT_VERSION 2                 /* 1: without gaps and filled pages */

static const char magic[8] = "rtspool\n";

static void put_u32(uint8_t *out, uint32_t number) {
    number = htole32(number);
    memcpy(out, &number, sizeof number);
}

static void put_u64(uint8_t *out, uint64_t number) {
    number = htole64(number);
    memcpy(out, &number, sizeof number);
}

static uint32_t get_u32(const uint8_t *in) {
    uint32_t number;
    memcpy(&number, in, sizeof number);
    return le32toh(number);
}

static uint64_t get_u64(const uint8_t *in) {
    uint64_t number;
    memcpy(&number, in, sizeof number);
    return le64toh(number);
}

void segment_put_head(uint8_t out[SEGMENT_HEAD], const segment_head_t *head) {
    memset(out, 0, SEGMENT_HEAD);
    memcpy(out, magic, sizeof magic);
    put_u32(out + 12, FORMAT_VERSION);
    put_u64(out + 16, head->id);
    put_u64(out + 24, head->first_index);
    put_u64(out + 32, head->first_number);
    put_u64(out + 40, head->synced);
    memcpy(out + 48, head->boot, BOOT_MAX);
    put_u32(out + 8, crc32c(0, out + 12, SEGMENT_HEAD - 12));
}

int segment_get_head(segment_head_t *head, const uint8_t in[SEGMENT_HEAD], err_t *err) {
    if (memcmp(in, magic, sizeof magic) != 0)
        return err_set(err, "it does not begin as a segment does");
    if (get_u32(in + 8) != crc32c(0, in + 12, SEGMENT_HEAD - 12))
        return err_set(err, "the checksum of its head is wrong");
    if (!get_u32(in + 12) || get_u32(in + 12) > FORMAT_VERSION)
        return err_set(err, "it has format %u, up to %d is known", get_u32(in + 12), FORMAT_VERSION);
    head->id = get_u64(in + 16);
    head->first_index = get_u64(in + 24);
    head->first_number = get_u64(in + 32);
    head->synced = get_u64(in + 40);
    memcpy(head->boot, in + 48, BOOT_MAX);
    head->boot[BOOT_MAX - 1] = 0;
    return head->first_index && head->first_number ? 0 : err_set(err, "its head holds numbers that cannot be");
}

void record_put_head(uint8_t out[RECORD_HEAD], const record_head_t *head) {
    put_u32(out, head->crc);
    put_u32(out + 4, head->size);
    put_u64(out + 8, head->index);
    put_u64(out + 16, head->number);
    put_u32(out + 24, head->note_size);
    put_u32(out + 28, head->header_size);
    put_u32(out + 32, head->events);
    out[36] = head->flags;
    out[37] = head->topic_size;
    out[38] = (uint8_t) head->gap;
    out[39] = (uint8_t) (head->gap >> 8);
}

bool record_get_head(record_head_t *head, const uint8_t in[RECORD_HEAD], uint64_t room) {
    head->crc = get_u32(in);
    head->size = get_u32(in + 4);
    head->index = get_u64(in + 8);
    head->number = get_u64(in + 16);
    head->note_size = get_u32(in + 24);
    head->header_size = get_u32(in + 28);
    head->events = get_u32(in + 32);
    head->flags = in[36];
    head->topic_size = in[37];
    head->gap = (uint16_t) (in[38] | in[39] << 8);
    uint64_t parts = RECORD_HEAD + (uint64_t) head->note_size + head->topic_size + head->header_size + head->gap;
    return head->size <= room && parts <= head->size && head->note_size <= SPOOL_NOTE_MAX;
}

uint64_t record_place(uint64_t at, const uint8_t *bytes) {
    return at % SPOOL_PAGE && !get_u64(bytes) ? SPOOL_PAGE_ALIGN(at) : at;
}

uint32_t record_seed(uint64_t id, uint64_t first_index) {
    uint8_t bytes[16];
    put_u64(bytes, id);
    put_u64(bytes + 8, first_index);
    return crc32c(0, bytes, sizeof bytes);
}

void segment_name(char out[32], uint64_t first_index) {
    snprintf(out, 32, "%016llx.seg", (unsigned long long) first_index);
}

bool segment_name_read(const char *name, uint64_t *first_index) {
    if (strlen(name) != 20 || strcmp(name + 16, ".seg") != 0 || strspn(name, "0123456789abcdef") < 16)
        return false;
    *first_index = 0;
    for (int i = 0; i < 16; i++)
        *first_index = *first_index << 4 | (uint64_t) (name[i] <= '9' ? name[i] - '0' : name[i] - 'a' + 10);
    return *first_index > 0;
}

void segment_keep_aside(const char *path, uint64_t from) {
    char *aside = mem_format("%s.damaged", path);
    int in = open(path, O_RDONLY | O_CLOEXEC), out = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    off_t at = (off_t) from;
    if (in >= 0 && out >= 0)
        while (copy_file_range(in, &at, out, NULL, 64 * 1024 * 1024, 0) > 0)
            ;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    mem_free(aside);
}

int record_decode(frame_t *frame, const record_head_t *head, const uint8_t *record, err_t *err) {
    const uint8_t *topic = record + RECORD_HEAD + head->note_size, *header = topic + head->topic_size, *body = header + head->header_size + head->gap;
    size_t body_size = head->size - (size_t) (body - record);
    atomic_init(&frame->references, 1);
    if (frame_decode(frame, topic, head->topic_size, header, head->header_size, body, body_size, body_size, err) != 0)
        return -1;
    frame->origin[0] = 0;
    frame->epoch = frame->lowest = 0;
    frame->sequence = head->number;
    return 0;
}

/* ---- scanning ---- */

void scan_init(scan_t *scan, int fd, const segment_head_t *head, uint64_t end) {
    *scan = (scan_t){.fd = fd, .seed = record_seed(head->id, head->first_index), .at = SEGMENT_HEAD, .end = end, .expected = head->first_index};
}

void scan_fini(scan_t *scan) {
    buf_fini(&scan->buffer);
}

/* So many bytes of the file, or NULL with errno (0: the file ends before). Valid until the next call. */
static const uint8_t *scan_bytes(scan_t *scan, uint64_t at, size_t size) {
    if (at >= scan->buffer_at && at + size <= scan->buffer_at + scan->buffer.size)
        return scan->buffer.data + (at - scan->buffer_at);
    size_t wanted = size > SCAN_BUFFER ? size : SCAN_BUFFER;
    if (wanted > scan->end - at)
        wanted = scan->end - at;
    buf_clear(&scan->buffer);
    scan->buffer_at = at;
    buf_reserve(&scan->buffer, wanted);
    errno = 0;
    while (scan->buffer.size < wanted) {
        ssize_t n = pread(scan->fd, scan->buffer.data + scan->buffer.size, wanted - scan->buffer.size, (off_t) (at + scan->buffer.size));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        scan->buffer.size += (size_t) n;
    }
    return scan->buffer.size >= size ? scan->buffer.data : NULL;
}

/* A record may be larger than memory should hold: its checksum is made in pieces. */
static bool checksum_right(scan_t *scan, const record_head_t *head, uint64_t start) {
    uint32_t crc = scan->seed;
    for (uint64_t at = start + 4, end = start + head->size; at < end;) {
        uint64_t left = end - at;
        size_t size = left < SCAN_BUFFER ? (size_t) left : SCAN_BUFFER;
        if (at == start + 4 && head->size <= SCAN_BUFFER) {    /* have all of it in the buffer: scan_record may be called next */
            const uint8_t *record = scan_bytes(scan, start, head->size);
            return record && crc32c(crc, record + 4, head->size - 4) == head->crc;
        }
        const uint8_t *bytes = scan_bytes(scan, at, size);
        if (!bytes)
            return false;
        crc = crc32c(crc, bytes, size);
        at += size;
    }
    return crc == head->crc;
}

static uint64_t place_of(scan_t *scan, uint64_t at) {
    const uint8_t *bytes = at < scan->end && scan->end - at >= 8 ? scan_bytes(scan, at, 8) : NULL;
    return bytes ? record_place(at, bytes) : at;
}

int scan_next(scan_t *scan, record_head_t *head, err_t *err) {
    if (scan->at >= scan->end)
        return 0;
    uint64_t place = place_of(scan, scan->at);
    if (place >= scan->end)
        return 0;
    scan->at = place;
    uint64_t room = scan->end - scan->at;
    const uint8_t *bytes = room < RECORD_HEAD ? NULL : scan_bytes(scan, scan->at, RECORD_HEAD);
    if (!bytes)
        return room < RECORD_HEAD || !errno ? err_set(err, "the file ends inside a record") : err_errno(err, "read");
    if (!record_get_head(head, bytes, room))
        return err_set(err, "there is no record");
    if (head->index != scan->expected)
        return err_set(err, "the record has index %llu instead of %llu", (unsigned long long) head->index, (unsigned long long) scan->expected);
    errno = 0;
    if (!checksum_right(scan, head, scan->at))
        return errno ? err_errno(err, "read") : err_set(err, "the checksum is wrong");
    scan->at += SPOOL_ALIGN(head->size);
    scan->expected++;
    return 1;
}

const uint8_t *scan_record(scan_t *scan, const record_head_t *head, size_t limit) {
    return head->size > limit ? NULL : scan_bytes(scan, scan->at - SPOOL_ALIGN(head->size), head->size);
}

/* By the damaged record's own size, if its head is believable; else by trying every place where a record can begin, in the next MiB. */
bool scan_finds_more(scan_t *scan) {
    record_head_t head;
    uint64_t limit = scan->end - scan->at > 1024 * 1024 ? scan->at + 1024 * 1024 : scan->end;
    const uint8_t *bytes = scan->end - scan->at >= RECORD_HEAD ? scan_bytes(scan, scan->at, RECORD_HEAD) : NULL;
    if (bytes && record_get_head(&head, bytes, scan->end - scan->at) && head.size >= RECORD_HEAD) {
        uint64_t next = place_of(scan, scan->at + SPOOL_ALIGN(head.size));
        if (next + RECORD_HEAD <= scan->end && (bytes = scan_bytes(scan, next, RECORD_HEAD)) &&
            record_get_head(&head, bytes, scan->end - next) && head.index > scan->expected && checksum_right(scan, &head, next))
            return true;
    }
    for (uint64_t at = scan->at + 8; at + RECORD_HEAD <= limit; at += 8) {
        bytes = scan_bytes(scan, at, RECORD_HEAD);
        if (!bytes)
            return false;
        if (record_get_head(&head, bytes, scan->end - at) && head.size >= RECORD_HEAD && head.index > scan->expected &&
            head.index - scan->expected < 1 + (at - scan->at) / RECORD_HEAD && checksum_right(scan, &head, at))
            return true;
    }
    return false;
}
