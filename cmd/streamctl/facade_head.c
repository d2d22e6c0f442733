/* The beginning of a request, before libwebsockets reads it (facade_next.c). For a method that it does not know, a path that is malformed and a head that is too large
 * the library has answers of its own, in HTML or none; here they get ours. */
#include "facade_head.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "rest.h"

typedef struct fault {
    const char *status, *code;       /* "400 Bad Request" */
    const char *message;
    char allow[64];                  /* the methods that there are, with 405; else "" */
} fault_t;

static bool is_known(text_t method) {
    static const char *const known[] = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (method.size == strlen(known[i]) && strncasecmp(method.data, known[i], method.size) == 0)
            return true;
    }
    return false;
}

static bool is_encoded_well(text_t target) {
    for (size_t i = 0; i < target.size; i++) {
        bool digits = target.size - i > 2 && isxdigit((unsigned char) target.data[i + 1]) && isxdigit((unsigned char) target.data[i + 2]);
        if (target.data[i] == '%' && !digits)
            return false;
    }
    return true;
}

/* As for a method that is known and does not fit. */
static void refuse_method(text_t target, fault_t *fault) {
    char path[512], parameter[129];
    const char *end = memchr(target.data, '?', target.size);
    snprintf(path, sizeof path, "%.*s", (int) (end ? end - target.data : (ptrdiff_t) target.size), target.data);
    rest_find("", path, parameter, fault->allow, sizeof fault->allow);
    if (asset_find(path))
        snprintf(fault->allow, sizeof fault->allow, "GET, HEAD");
    if (*fault->allow) {
        fault->status = "405 Method Not Allowed";
        fault->code = "method_not_allowed";
        fault->message = "this method is not possible here";
    } else {
        fault->status = "404 Not Found";
        fault->code = "not_found";
        fault->message = "there is nothing here; GET /api lists what there is";
    }
}

static bool check_line(text_t line, fault_t *fault) {
    text_t method, target;
    bool three = text_split(&line, ' ', &method) && text_split(&line, ' ', &target) && line.size >= 5 && memcmp(line.data, "HTTP/", 5) == 0;
    fault->status = "400 Bad Request";
    fault->code = three ? "bad_path" : "bad_request";
    if (!three)
        fault->message = "this is no HTTP request: METHOD /path HTTP/1.1 is expected";
    else if (!target.size || *target.data != '/')
        fault->message = "a path begins with / (this is no proxy)";
    else if (!is_encoded_well(target))
        fault->message = "in a path and a query % is followed by two hexadecimal digits; the sign itself is %25";
    else if (!is_known(method))
        refuse_method(target, fault);
    return fault->message;
}

static bool find_fault(text_t head, fault_t *fault) {
    const char *line_end = memchr(head.data, '\n', head.size);
    bool too_large = head.size > HEAD_LIMIT && !memmem(head.data, head.size, "\r\n\r\n", 4);
    if (line_end && check_line(text_trim(text_make(head.data, (size_t) (line_end - head.data))), fault))
        return true;
    if (too_large && line_end)
        *fault = (fault_t){"431 Request Header Fields Too Large", "head_too_large", "a request's first line and headers may have at most 16 KiB", ""};
    else if (too_large)
        *fault = (fault_t){"414 URI Too Long", "path_too_long", "a request's first line and headers may have at most 16 KiB", ""};
    return too_large;
}

bool head_refused(text_t head, buf_t *answer) {
    fault_t fault = {0};
    buf_t body = {0};
    if (!find_fault(head, &fault))
        return false;
    buf_format(&body, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\",\"detail\":", fault.code, fault.message);
    if (*fault.allow)
        buf_format(&body, "\"%s\"}}\n", fault.allow);
    else
        buf_put_text(&body, "null}}\n");
    buf_format(answer, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %zu\r\n", fault.status, body.size);
    if (*fault.allow)
        buf_format(answer, "Allow: %s\r\n", fault.allow);
    buf_put_text(answer, "\r\n");
    if (head.size < 5 || memcmp(head.data, "HEAD ", 5) != 0)
        buf_put(answer, body.data, body.size);
    buf_fini(&body);
    return true;
}
