/* Source "system:": this machine. With each reading one event of kind "system" with the totals, and one for each core, disk, network
 * interface and file system. Fields have different names in different kinds, so that a chart of one field shows one thing. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/pack.h"
#include "proc.h"
#include "source.h"

#define MOUNTS_LIMIT (1024 * 1024)
#define MOUNTS_MAX 64

typedef enum kind { KIND_SYSTEM, KIND_CORE, KIND_DISK, KIND_INTERFACE, KIND_FILESYSTEM, KINDS } kind_t;
static const char *const kind_names[KINDS] = {"system", "core", "disk", "interface", "filesystem"};

typedef struct system_settings {
    int64_t interval, count;
    option_list_t kinds, mounts;
    char *proc, *sys;
} system_settings_t;

#define AT(field) offsetof(system_settings_t, field)
static const option_t options[] = {
    {"interval", OPTION_DURATION, AT(interval), "1s", "DURATION", "time from one reading to the next", 10 * NS_PER_MS, 86400 * NS_PER_S},
    {"count", OPTION_INT, AT(count), "0", "N", "end after so many readings; 0: never", 0, INT64_MAX},
    {"kinds", OPTION_LIST, AT(kinds), NULL, "KIND[,KIND]...", "only these of system, core, disk, interface, filesystem; default: all"},
    {"mounts", OPTION_LIST, AT(mounts), NULL, "PATH[,PATH]...", "file systems to watch; default: all local ones on a device", .needs = "@filesystem:filesystem among the --kinds"},
    {"proc", OPTION_TEXT, AT(proc), "/proc", "DIR", "where proc is mounted"},
    {"sys", OPTION_TEXT, AT(sys), "/sys", "DIR", "where sysfs is mounted"},
    {0},
};

typedef struct system_source {
    source_t source;
    source_setup_t setup;
    const system_settings_t *settings;
    loop_watch_t *timer;
    proc_sample_t *now, *before;       /* two readings: rates need both */
    buf_t scratch;
    char host[256];
    bool kinds[KINDS], paused;
    char *mounts[MOUNTS_MAX];
    unsigned mount_count;
    uint64_t readings;
    buf_t *out;                        /* of the record being written */
    size_t map_at;
    unsigned fields;
} system_source_t;

/* Records of any number of fields. */

static void put_name(system_source_t *self, const char *name) {
    pack_text(self->out, name);
    self->fields++;
}

static void put_text(system_source_t *self, const char *name, const char *text) {
    put_name(self, name);
    pack_text(self->out, text);
}

static void put_count(system_source_t *self, const char *name, uint64_t number) {
    put_name(self, name);
    pack_uint(self->out, number);
}

static void put_number(system_source_t *self, const char *name, double number) {
    put_name(self, name);
    pack_double(self->out, isfinite(number) ? round(number * 100) / 100 : 0);
}

static void put_percent(system_source_t *self, const char *name, double part, double whole) {
    double percent = whole > 0 ? part * 100 / whole : 0;
    put_number(self, name, percent < 0 ? 0 : percent > 100 ? 100 : percent);
}

/* Growth of a counter per second; a counter that went back began anew. */
static void put_rate(system_source_t *self, const char *name, uint64_t now, uint64_t before) {
    double seconds = (double) (self->now->time - self->before->time) / 1e9;
    put_number(self, name, seconds > 0 && now >= before ? (double) (now - before) / seconds : 0);
}

static void begin_record(system_source_t *self, kind_t kind) {
    self->out = &source_begin(self->setup.host)->body;
    self->map_at = self->out->size;
    self->fields = 0;
    buf_put(self->out, "\xDE\0\0", 3); /* a map16, counted at the end */
    put_text(self, "kind", kind_names[kind]);
    put_text(self, "host", self->host);
}

static void end_record(system_source_t *self) {
    self->out->data[self->map_at + 1] = (uint8_t) (self->fields >> 8);
    self->out->data[self->map_at + 2] = (uint8_t) self->fields;
    source_commit(self->setup.host);
}

static double busy(const proc_cpu_t *cpu) {
    return (double) (cpu->user + cpu->nice + cpu->system + cpu->irq + cpu->softirq + cpu->steal);
}

static double all(const proc_cpu_t *cpu) {
    return busy(cpu) + (double) (cpu->idle + cpu->wait);
}

static void put_cpu(system_source_t *self) {
    const proc_cpu_t *now = &self->now->total, *before = &self->before->total;
    double whole = all(now) - all(before);
    put_percent(self, "cpu_percent", busy(now) - busy(before), whole);
    put_percent(self, "cpu_user_percent", (double) (now->user + now->nice) - (double) (before->user + before->nice), whole);
    put_percent(self, "cpu_system_percent",
                (double) (now->system + now->irq + now->softirq) - (double) (before->system + before->irq + before->softirq), whole);
    put_percent(self, "cpu_wait_percent", (double) now->wait - (double) before->wait, whole);
    put_percent(self, "cpu_steal_percent", (double) now->steal - (double) before->steal, whole);
    put_count(self, "cores", self->now->core_count);
    put_number(self, "load_1m", self->now->load[0]);
    put_number(self, "load_5m", self->now->load[1]);
    put_number(self, "load_15m", self->now->load[2]);
    put_count(self, "processes_running", self->now->running);
    put_count(self, "processes_blocked", self->now->blocked);
    put_rate(self, "forks_per_s", self->now->forks, self->before->forks);
    put_rate(self, "context_switches_per_s", self->now->context_switches, self->before->context_switches);
}

static void put_memory(system_source_t *self) {
    const proc_memory_t *memory = &self->now->memory;
    uint64_t used = memory->total > memory->available ? memory->total - memory->available : 0;
    uint64_t swap = memory->swap_total > memory->swap_free ? memory->swap_total - memory->swap_free : 0;
    put_percent(self, "memory_percent", (double) used, (double) memory->total);
    put_count(self, "memory_used_bytes", used);
    put_count(self, "memory_available_bytes", memory->available);
    put_count(self, "memory_cached_bytes", memory->cached + memory->buffers);
    put_count(self, "memory_total_bytes", memory->total);
    put_percent(self, "swap_percent", (double) swap, (double) memory->swap_total);
    put_count(self, "swap_used_bytes", swap);
    put_count(self, "swap_total_bytes", memory->swap_total);
}

static const proc_disk_t *disk_before(const system_source_t *self, const char *name) {
    for (unsigned i = 0; i < self->before->disk_count; i++) {
        if (strcmp(self->before->disks[i].name, name) == 0)
            return &self->before->disks[i];
    }
    return NULL;
}

static const proc_interface_t *interface_before(const system_source_t *self, const char *name) {
    for (unsigned i = 0; i < self->before->interface_count; i++) {
        if (strcmp(self->before->interfaces[i].name, name) == 0)
            return &self->before->interfaces[i];
    }
    return NULL;
}

static void put_disk_totals(system_source_t *self) {
    uint64_t now[2] = {0}, before[2] = {0};
    for (unsigned i = 0; i < self->now->disk_count; i++) {
        const proc_disk_t *disk = &self->now->disks[i], *old = disk_before(self, disk->name);
        if (!disk->whole || !old)
            continue;
        now[0] += disk->read_bytes;
        now[1] += disk->written_bytes;
        before[0] += old->read_bytes;
        before[1] += old->written_bytes;
    }
    put_rate(self, "disk_read_bytes_per_s", now[0], before[0]);
    put_rate(self, "disk_write_bytes_per_s", now[1], before[1]);
}

static void put_network_totals(system_source_t *self) {
    uint64_t now[2] = {0}, before[2] = {0};
    for (unsigned i = 0; i < self->now->interface_count; i++) {
        const proc_interface_t *interface = &self->now->interfaces[i], *old = interface_before(self, interface->name);
        if (strcmp(interface->name, "lo") == 0 || !old)
            continue;
        now[0] += interface->received_bytes;
        now[1] += interface->sent_bytes;
        before[0] += old->received_bytes;
        before[1] += old->sent_bytes;
    }
    put_rate(self, "network_receive_bytes_per_s", now[0], before[0]);
    put_rate(self, "network_send_bytes_per_s", now[1], before[1]);
}

static void put_space(system_source_t *self, const char *prefix, const struct statvfs *space) {
    char name[64];
    uint64_t unit = space->f_frsize, used = (space->f_blocks - space->f_bfree) * unit, usable = used + space->f_bavail * unit;
    snprintf(name, sizeof name, "%s_percent", prefix);
    put_percent(self, name, (double) used, (double) usable);
    snprintf(name, sizeof name, "%s_used_bytes", prefix);
    put_count(self, name, used);
    snprintf(name, sizeof name, "%s_available_bytes", prefix);
    put_count(self, name, space->f_bavail * unit);
    snprintf(name, sizeof name, "%s_total_bytes", prefix);
    put_count(self, name, space->f_blocks * unit);
}

static void emit_system(system_source_t *self) {
    struct statvfs space;
    begin_record(self, KIND_SYSTEM);
    put_cpu(self);
    put_memory(self);
    put_disk_totals(self);
    if (statvfs("/", &space) == 0 && space.f_blocks)
        put_space(self, "disk", &space);
    put_network_totals(self);
    put_number(self, "uptime_s", self->now->uptime);
    end_record(self);
}

static void emit_cores(system_source_t *self) {
    for (unsigned i = 0; i < self->now->core_count && i < self->before->core_count; i++) {
        const proc_cpu_t *now = &self->now->cores[i], *before = &self->before->cores[i];
        begin_record(self, KIND_CORE);
        put_count(self, "core", i);
        put_percent(self, "core_percent", busy(now) - busy(before), all(now) - all(before));
        end_record(self);
    }
}

static void emit_disks(system_source_t *self) {
    for (unsigned i = 0; i < self->now->disk_count; i++) {
        const proc_disk_t *disk = &self->now->disks[i], *old = disk_before(self, disk->name);
        if (!old)
            continue;
        begin_record(self, KIND_DISK);
        put_text(self, "device", disk->name);
        put_rate(self, "device_read_bytes_per_s", disk->read_bytes, old->read_bytes);
        put_rate(self, "device_write_bytes_per_s", disk->written_bytes, old->written_bytes);
        put_rate(self, "device_reads_per_s", disk->reads, old->reads);
        put_rate(self, "device_writes_per_s", disk->writes, old->writes);
        put_percent(self, "device_busy_percent", (double) (disk->busy_ms - old->busy_ms) * 1e6,
                    (double) (self->now->time - self->before->time));
        end_record(self);
    }
}

static void emit_interfaces(system_source_t *self) {
    for (unsigned i = 0; i < self->now->interface_count; i++) {
        const proc_interface_t *now = &self->now->interfaces[i], *old = interface_before(self, now->name);
        if (!old || (!now->received_packets && !now->sent_packets)) /* never used */
            continue;
        begin_record(self, KIND_INTERFACE);
        put_text(self, "interface", now->name);
        put_rate(self, "interface_receive_bytes_per_s", now->received_bytes, old->received_bytes);
        put_rate(self, "interface_send_bytes_per_s", now->sent_bytes, old->sent_bytes);
        put_rate(self, "interface_receive_packets_per_s", now->received_packets, old->received_packets);
        put_rate(self, "interface_send_packets_per_s", now->sent_packets, old->sent_packets);
        put_count(self, "interface_errors", now->received_errors + now->sent_errors);
        put_count(self, "interface_dropped", now->received_dropped + now->sent_dropped);
        end_record(self);
    }
}

static void emit_filesystems(system_source_t *self) {
    for (unsigned i = 0; i < self->mount_count; i++) {
        struct statvfs space;
        if (statvfs(self->mounts[i], &space) || !space.f_blocks)
            continue;
        begin_record(self, KIND_FILESYSTEM);
        put_text(self, "mount", self->mounts[i]);
        put_space(self, "filesystem", &space);
        end_record(self);
    }
}

static void on_tick(void *argument) {
    static void (*const emit[KINDS])(system_source_t *) = {emit_system, emit_cores, emit_disks, emit_interfaces, emit_filesystems};
    system_source_t *self = argument;
    source_host_t *host = self->setup.host;
    proc_sample_t *oldest = self->before;
    self->before = self->now;
    self->now = oldest;
    err_t err;
    if (proc_read(self->now, self->settings->proc, self->settings->sys, &self->scratch, &err)) {
        source_unhealthy(host, "%s", err.text);
        *self->now = *self->before;
        return;
    }
    source_healthy(host);
    for (int kind = 0; kind < KINDS && !self->paused; kind++) {
        if (self->kinds[kind])
            emit[kind](self);
    }
    if (self->settings->count && ++self->readings >= (uint64_t) self->settings->count)
        source_ended(host);
}

static void begin_schedule(system_source_t *self) {
    if (!self->timer)
        self->timer = loop_timer(self->setup.loop, self->settings->interval, self->settings->interval, on_tick, self);
}

static int system_start(source_t *source, err_t *err) {
    system_source_t *self = (system_source_t *) source;
    if (proc_read(self->now, self->settings->proc, self->settings->sys, &self->scratch, err))
        return -1;
    begin_schedule(self);
    return 0;
}

/* While nobody takes them there are no readings; the rates after that are means over the pause. */
static void system_pause(source_t *source) {
    system_source_t *self = (system_source_t *) source;
    self->paused = true;
    loop_remove(self->timer);
    self->timer = NULL;
}

static void system_resume(source_t *source) {
    system_source_t *self = (system_source_t *) source;
    self->paused = false;
    begin_schedule(self);
}

static void system_free(source_t *source) {
    system_source_t *self = (system_source_t *) source;
    loop_remove(self->timer);
    for (unsigned i = 0; i < self->mount_count; i++)
        mem_free(self->mounts[i]);
    mem_free(self->now);
    mem_free(self->before);
    buf_fini(&self->scratch);
    mem_free(self);
}

static const source_class_t class = {.start = system_start, .pause = system_pause, .resume = system_resume, .free = system_free};

static void add_mount(system_source_t *self, text_t path) {
    if (self->mount_count < MOUNTS_MAX && path.size)
        self->mounts[self->mount_count++] = mem_text_n(path.data, path.size);
}

/* Local file systems on a device, each device once (a bind mount shows another one's space again). Network file systems are
 * left out: asking one whose server is away blocks. */
static void find_mounts(system_source_t *self) {
    char path[512];
    snprintf(path, sizeof path, "%s/mounts", self->settings->proc);
    buf_clear(&self->scratch);
    if (file_read(path, MOUNTS_LIMIT, &self->scratch, NULL))
        return;
    text_t rest = text_make((const char *) self->scratch.data, self->scratch.size), line;
    text_t devices[MOUNTS_MAX];
    while (text_split(&rest, '\n', &line) && self->mount_count < MOUNTS_MAX) {
        text_t device, mount;
        if (!text_split(&line, ' ', &device) || !text_split(&line, ' ', &mount))
            continue;
        bool root = text_is(mount, "/"), known = false;
        if (!root && (!device.size || device.data[0] != '/'))
            continue;
        for (unsigned i = 0; i < self->mount_count; i++)
            known |= text_equal(devices[i], device);
        if (known)
            continue;
        devices[self->mount_count] = device;
        add_mount(self, mount);
    }
}

static bool kind_of(text_t word, kind_t *kind) {
    for (int k = 0; k < KINDS; k++) {
        if (text_is(word, kind_names[k])) {
            *kind = (kind_t) k;
            return true;
        }
    }
    return false;
}

static int system_check(const source_setup_t *setup, err_t *err) {
    const system_settings_t *settings = setup->settings;
    kind_t kind;
    if (*setup->rest)
        return err_set(err, "%s: nothing goes between system: and its options", setup->url);
    for (size_t i = 0; i < settings->kinds.count; i++) {
        text_t rest = text_of(settings->kinds.items[i]), word;
        while (text_split(&rest, ',', &word)) {
            if (!kind_of(text_trim(word), &kind))
                return err_set(err, "--kinds %s: the kinds are system, core, disk, interface and filesystem", settings->kinds.items[i]);
        }
    }
    return 0;
}

static int system_open(source_t **source, const source_setup_t *setup, err_t *err) {
    system_source_t *self = mem_zero(sizeof *self);
    const system_settings_t *settings = setup->settings;
    kind_t kind;
    text_t rest, word;
    self->source.class = &class;
    self->setup = *setup;
    self->settings = settings;
    self->now = mem_zero(sizeof *self->now);
    self->before = mem_zero(sizeof *self->before);
    if (gethostname(self->host, sizeof self->host - 1) || !*self->host)
        snprintf(self->host, sizeof self->host, "localhost");
    for (int k = 0; k < KINDS; k++)
        self->kinds[k] = settings->kinds.count == 0;
    for (size_t i = 0; i < settings->kinds.count; i++) {
        for (rest = text_of(settings->kinds.items[i]); text_split(&rest, ',', &word);) {
            if (kind_of(text_trim(word), &kind))
                self->kinds[kind] = true;
        }
    }
    for (size_t i = 0; i < settings->mounts.count; i++) {
        for (rest = text_of(settings->mounts.items[i]); text_split(&rest, ',', &word);)
            add_mount(self, text_trim(word));
    }
    if (!settings->mounts.count)
        find_mounts(self);
    *source = &self->source;
    return 0;
}

static const char *system_stream(const source_setup_t *setup, buf_t *space) {
    return "system";
}

static int system_holds(const source_setup_t *setup, text_t name, text_t value) {
    const system_settings_t *settings = setup->settings;
    if (!text_is(name, "filesystem"))
        return -1;
    bool wanted = !settings->kinds.count;
    for (size_t i = 0; i < settings->kinds.count; i++)
        wanted |= strstr(settings->kinds.items[i], "filesystem") != NULL;
    return wanted;
}

const source_driver_t source_system = {
    .name = "system",
    .schemes = {"system"},
    .types = {{"system", "system:"}},
    .usage = "system:",
    .help = "this machine's processor, memory, disks, network and file systems",
    .options = options,
    .settings_size = sizeof(system_settings_t),
    .query = true,
    .formats = "",
    .holds = system_holds,
    .stream = system_stream,
    .check = system_check,
    .open = system_open,
};
