/* What must not be shown: which names say so, and which values. Everything that shows settings or what others say asks here. */
#include "base/secret.h"

#include <ctype.h>
#include <strings.h>

bool secret_name(text_t name) {
    static const char *const words[] = {"pass", "pwd", "secret", "token", "auth", "key", "credential", "cookie",
                                        "sig",  "sas", "jwt",    "code",  "session"};
    char plain[128];
    size_t n = 0;
    for (size_t i = 0; i < name.size && n < sizeof plain - 1; i++)
        if (isalnum((unsigned char) name.data[i]))
            plain[n++] = (char) tolower((unsigned char) name.data[i]);
    plain[n] = 0;
    if (text_ends(plain, "file") || text_ends(plain, "name"))
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(plain, words[i]))
            return true;
    return false;
}

bool secret_header_shown(text_t name) {
    static const char *const harmless[] = {"Accept",        "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control",
                                           "Connection",    "Content-Encoding", "Content-Language", "Content-Type", "Expect",
                                           "Host",          "If-Match",       "If-Modified-Since", "If-None-Match", "Pragma",
                                           "Prefer",        "Range",          "User-Agent"};
    name = text_trim(name);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        if (name.size == strlen(harmless[i]) && strncasecmp(name.data, harmless[i], name.size) == 0)
            return true;
    return false;
}

void secrets_fini(secrets_t *secrets) {
    for (size_t i = 0; i < secrets->count; i++) {
        explicit_bzero((char *) secrets->items[i].data, secrets->items[i].size);
        mem_free((char *) secrets->items[i].data);
    }
    mem_free(secrets->items);
    *secrets = (secrets_t){0};
}

static void add_plain(secrets_t *secrets, text_t value) {
    if (value.size < SECRET_SHORTEST)
        return;
    for (size_t i = 0; i < secrets->count; i++)
        if (text_equal(secrets->items[i], value))
            return;
    secrets->items = mem_resize(secrets->items, (secrets->count + 1) * sizeof *secrets->items);
    secrets->items[secrets->count++] = text_make(mem_text_n(value.data, value.size), value.size);
}

/* A JSON string that quotes the value has these characters behind a backslash, the slash only where its writer likes that. */
static void add_escaped(secrets_t *secrets, text_t value, const char *escaped) {
    buf_t out = {0};
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] && strchr(escaped, value.data[i]))
            buf_put_byte(&out, '\\');
        buf_put_byte(&out, (uint8_t) value.data[i]);
    }
    add_plain(secrets, text_make((const char *) out.data, out.size));
    buf_fini(&out);
}

void secrets_add(secrets_t *secrets, text_t value) {
    value = text_trim(value);
    add_plain(secrets, value);
    add_escaped(secrets, value, "\"\\");
    add_escaped(secrets, value, "\"\\/");
}

void secrets_add_login(secrets_t *secrets, text_t user, text_t password) {
    if (!user.size && !password.size)
        return;
    buf_t login = {0}, coded = {0};
    buf_put(&login, user.data, user.size);
    buf_put_byte(&login, ':');
    buf_put(&login, password.data, password.size);
    text_t both = text_make((const char *) login.data, login.size);
    text_put_base64(&coded, both);
    secrets_add(secrets, password);
    secrets_add(secrets, both);
    secrets_add(secrets, text_make((const char *) coded.data, coded.size));
    explicit_bzero(login.data, login.capacity);
    explicit_bzero(coded.data, coded.capacity);
    buf_fini(&login);
    buf_fini(&coded);
}

/* The value as a whole, and what in it a server may name alone: behind a scheme ("Bearer x") or a name ("session=x; ..."). */
void secrets_add_header(secrets_t *secrets, const char *header) {
    text_t value = text_of(header), name;
    if (!text_split(&value, ':', &name) || !value.data || secret_header_shown(name))
        return;
    value = text_trim(value);
    secrets_add(secrets, value);
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] != ' ' && value.data[i] != '=')
            continue;
        text_t rest = text_make(value.data + i + 1, value.size - i - 1);
        size_t size = 0;
        while (size < rest.size && !strchr(" ;,", rest.data[size]))
            size++;
        secrets_add(secrets, text_make(rest.data, size));
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static text_t decoded(buf_t *space, text_t text) {
    buf_clear(space);
    for (size_t i = 0; i < text.size; i++) {
        bool coded = text.data[i] == '%' && i + 2 < text.size && hex_digit(text.data[i + 1]) >= 0 && hex_digit(text.data[i + 2]) >= 0;
        buf_put_byte(space, coded ? (uint8_t) (hex_digit(text.data[i + 1]) << 4 | hex_digit(text.data[i + 2])) : (uint8_t) text.data[i]);
        i += coded ? 2 : 0;
    }
    return text_make((const char *) space->data, space->size);
}

static void add_coded(secrets_t *secrets, text_t value) {
    buf_t space = {0};
    secrets_add(secrets, value);
    secrets_add(secrets, decoded(&space, value));
    buf_fini(&space);
}

void secrets_add_url(secrets_t *secrets, text_t url) {
    text_t query = url, pair, value, front = {0};
    text_split(&query, '#', &front);
    query = front;
    text_split(&query, '?', &front);
    const char *mark = front.size ? memmem(front.data, front.size, "//", 2) : NULL;
    if (mark) {
        text_t login = text_make(mark + 2, (size_t) (front.data + front.size - mark) - 2), user;
        const char *slash = memchr(login.data, '/', login.size);
        login.size = slash ? (size_t) (slash - login.data) : login.size;
        const char *at = login.size ? memrchr(login.data, '@', login.size) : NULL;
        text_t password = text_make(login.data, at ? (size_t) (at - login.data) : 0);
        if (text_split(&password, ':', &user)) {
            buf_t a = {0}, b = {0};
            add_coded(secrets, password.size ? password : user); /* a login without a password may be a token */
            secrets_add_login(secrets, user, password);
            secrets_add_login(secrets, decoded(&a, user), decoded(&b, password));
            buf_fini(&a);
            buf_fini(&b);
        }
    }
    while (text_split(&query, '&', &pair)) {
        value = pair;
        text_t name;
        if (text_split(&value, '=', &name) && value.data)
            add_coded(secrets, value);
    }
}

/* How many bytes of a value stand at the front, of the longest one. */
static size_t value_at(const secrets_t *secrets, const char *data, size_t size) {
    size_t longest = 0;
    for (size_t i = 0; i < secrets->count; i++) {
        const text_t *item = &secrets->items[i];
        if (item->size > longest && item->size <= size && *item->data == *data && memcmp(item->data, data, item->size) == 0)
            longest = item->size;
    }
    return longest;
}

/* Values may overlap: what any of them covers is masked. */
void secrets_put_masked(const secrets_t *secrets, buf_t *out, text_t text, size_t limit) {
    size_t hidden = 0, start = out->size;
    for (size_t i = 0; i < text.size && out->size - start < limit; i++) {
        size_t size = value_at(secrets, text.data + i, text.size - i);
        if (size && i >= hidden)
            buf_put_text(out, SECRET_MASK);
        if (i + size > hidden)
            hidden = i + size;
        if (i >= hidden)
            buf_put_byte(out, (uint8_t) text.data[i]);
    }
}
