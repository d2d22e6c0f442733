/* Functions of IP addresses. An IPv4 address within IPv6 (::ffff:192.0.2.1) counts as the IPv4 address. */
#include <arpa/inet.h>

#include "data/lang/function_make.h"

typedef struct address {
    uint8_t bytes[16];        /* the first 4 of IPv4 */
    uint8_t bits;             /* 32 or 128; 0: none */
} address_t;

typedef struct network {
    address_t address;
    unsigned prefix;
} network_t;

static address_t read_address(text_t text) {
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    address_t address = {0};
    char copy[INET6_ADDRSTRLEN + 1];
    if (!text.size || text.size >= sizeof copy || memchr(text.data, 0, text.size))
        return address;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    if (inet_pton(AF_INET, copy, address.bytes) == 1) {
        address.bits = 32;
    } else if (inet_pton(AF_INET6, copy, address.bytes) == 1) {
        address.bits = memcmp(address.bytes, mapped, sizeof mapped) == 0 ? 32 : 128;
        if (address.bits == 32)
            memmove(address.bytes, address.bytes + 12, 4);
    }
    return address;
}

static value_t address_text(const row_t *row, const address_t *address) {
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(address->bits == 32 ? AF_INET : AF_INET6, address->bytes, text, sizeof text);
    return function_text(row, text, strlen(text));
}

static bool read_network(value_t text, network_t *network) {
    const char *slash = text.type == VALUE_STRING ? memchr(text.text, '/', text.size) : NULL;
    if (!slash)
        return false;
    size_t size = (size_t) (slash - text.text);
    uint64_t prefix;
    network->address = read_address(text_make(text.text, size));
    if (!network->address.bits || text_to_uint(text_make(slash + 1, text.size - size - 1), &prefix, NULL) < 0)
        return false;
    /* A prefix of a mapped address is counted in the 128 bits in which it is written. */
    bool mapped = network->address.bits == 32 && memchr(text.text, ':', size);
    if (mapped && prefix < 96)
        return false;
    prefix -= mapped ? 96 : 0;
    network->prefix = (unsigned) prefix;
    return prefix <= network->address.bits;
}

static bool within(const address_t *address, const network_t *network) {
    unsigned whole = network->prefix / 8, rest = network->prefix % 8;
    if (address->bits != network->address.bits || memcmp(address->bytes, network->address.bytes, whole) != 0)
        return false;
    return !rest || !((address->bytes[whole] ^ network->address.bytes[whole]) >> (8 - rest));
}

/* The address of an argument; bits 0 after an error. */
static address_t address_of(const node_t *node, const row_t *row, value_t text) {
    address_t address = read_address(text_make(text.text, text.size));
    if (!address.bits)
        evaluation_failed(node, row, "%s: \"%.*s\" is no IP address", node->function->name, SHOWN(text));
    return address;
}

static value_t is_address(value_t x, unsigned bits) {
    address_t address = x.type == VALUE_STRING ? read_address(text_make(x.text, x.size)) : (address_t){0};
    /* In text form, a mapped address is IPv6. */
    unsigned written = address.bits && memchr(x.text, ':', x.size) ? 128 : address.bits;
    return value_bool(bits ? written == bits : written > 0);
}

FUNCTION(fn_is_ip) {
    return is_address(arguments[0], 0);
}

FUNCTION(fn_is_ipv4) {
    return is_address(arguments[0], 32);
}

FUNCTION(fn_is_ipv6) {
    return is_address(arguments[0], 128);
}

/* Networks that are written in the program, read once. */
typedef struct networks {
    unsigned count;
    network_t list[];
} networks_t;

static int bad_network(parser_t *parser, const node_t *node, value_t text) {
    if (text.type != VALUE_STRING)
        return parser_error_at(parser, node, "networks are texts: \"10.0.0.0/8\"", "ip_in_cidr takes networks as texts, not %s", value_type_names[text.type]);
    return parser_error_at(parser, node, "networks are written \"10.0.0.0/8\" or \"2001:db8::/32\"", "\"%.*s\" is no network", SHOWN(text));
}

static int prepare_networks(parser_t *parser, node_t *node) {
    const node_t *argument = node->arguments[1];
    value_t constant = argument->constant, text;
    if (argument->kind != NODE_CONSTANT || constant.type == VALUE_NULL)
        return 0;
    bool array = constant.type == VALUE_ARRAY;
    items_t items = array ? items_of(constant) : (items_t){.count = 1};
    networks_t *networks = arena_alloc(&parser->unit->arena, sizeof *networks + items.count * sizeof *networks->list);
    networks->count = 0;
    for (uint32_t i = 0; i < items.count; i++) {
        text = constant;
        if (array && !pack_read_value(&items.cursor, &text))
            break;
        if (!read_network(text, &networks->list[networks->count++]))
            return bad_network(parser, argument, text);
    }
    node->data = networks;
    return 0;
}

FUNCTION(fn_ip_in_cidr) {
    const networks_t *networks = node->data;
    address_t address = address_of(node, row, arguments[0]);
    if (!address.bits)
        return value_null();
    for (unsigned i = 0; networks && i < networks->count; i++)
        if (within(&address, &networks->list[i]))
            return value_bool(true);
    if (networks)
        return value_bool(false);
    bool array = arguments[1].type == VALUE_ARRAY, found = false;
    items_t items = array ? items_of(arguments[1]) : (items_t){.count = 1};
    for (uint32_t i = 0; i < items.count && !found; i++) {
        value_t text = arguments[1];
        network_t network;
        if (array && !pack_read_value(&items.cursor, &text))
            break;
        if (text.type != VALUE_STRING)
            return evaluation_failed(node, row, "ip_in_cidr: a network is a text, not %s", value_type_names[text.type]);
        if (!read_network(text, &network))
            return evaluation_failed(node, row, "ip_in_cidr: \"%.*s\" is no network", SHOWN(text));
        found = within(&address, &network);
    }
    return value_bool(found);
}

FUNCTION(fn_ip_subnet) {
    address_t address = address_of(node, row, arguments[0]);
    int64_t prefix = arguments[1].integer;
    if (!address.bits)
        return value_null();
    if (prefix < 0 || prefix > address.bits)
        return evaluation_failed(node, row, "ip_subnet: a prefix of 0 to %u bits, not %lld", address.bits, (long long) prefix);
    for (unsigned i = 0; i < address.bits / 8u; i++) {
        int64_t kept = prefix - 8 * i;
        address.bytes[i] &= (uint8_t) (kept >= 8 ? 0xFF : kept <= 0 ? 0 : 0xFF << (8 - kept));
    }
    return address_text(row, &address);
}

FUNCTION(fn_ip_to_int) {
    address_t address = address_of(node, row, arguments[0]);
    if (!address.bits)
        return value_null();
    if (address.bits != 32)
        return evaluation_failed(node, row, "ip_to_int: an IPv6 address has 128 bits");
    const uint8_t *bytes = address.bytes;
    return value_int((int64_t) bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]);
}

FUNCTION(fn_int_to_ip) {
    int64_t number = arguments[0].integer;
    if (number < 0 || number > UINT32_MAX)
        return evaluation_failed(node, row, "int_to_ip: 0 to 4294967295, not %lld", (long long) number);
    address_t address = {.bits = 32, .bytes = {(uint8_t) (number >> 24), (uint8_t) (number >> 16), (uint8_t) (number >> 8), (uint8_t) number}};
    return address_text(row, &address);
}

/* RFC 1918, RFC 4193, loopback, link-local. */
FUNCTION(fn_is_private_ip) {
    static const network_t private[] = {
        {{{10}, 32}, 8},       {{{172, 16}, 32}, 12},       {{{192, 168}, 32}, 16}, {{{127}, 32}, 8},
        {{{169, 254}, 32}, 16}, {{{0xFC}, 128}, 7}, {{{0xFE, 0x80}, 128}, 10}, {{{[15] = 1}, 128}, 128},
    };
    address_t address = address_of(node, row, arguments[0]);
    if (!address.bits)
        return value_null();
    for (size_t i = 0; i < sizeof private / sizeof *private; i++)
        if (within(&address, &private[i]))
            return value_bool(true);
    return value_bool(false);
}

const function_t functions_network[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"int_to_ip", "Network", "int_to_ip(n)", "The IPv4 address of a number.", "int_to_ip(3221225985) = \"192.0.2.1\"", 1, 1, ALL(INT), TEXT, false, fn_int_to_ip},
    {"ip_in_cidr", "Network", "ip_in_cidr(ip, network)", "Whether the address is in the network, or in one of an array of networks. An IPv4 address that is written as IPv6 (::ffff:10.1.2.3) counts as IPv4.", "ip_in_cidr(\"10.1.2.3\", [\"10.0.0.0/8\", \"fd00::/8\"]) = true", 2, 2, {TEXT, TEXT | ARRAY, ANY}, BOOL, false, fn_ip_in_cidr, prepare_networks},
    {"ip_subnet", "Network", "ip_subnet(ip, bits)", "The address with all but its first bits set to 0.", "ip_subnet(\"192.0.2.77\", 24) = \"192.0.2.0\"", 2, 2, {TEXT, INT, ANY}, TEXT, false, fn_ip_subnet},
    {"ip_to_int", "Network", "ip_to_int(ip)", "The number of an IPv4 address.", "ip_to_int(\"192.0.2.1\") = 3221225985", 1, 1, ALL(TEXT), INT, false, fn_ip_to_int},
    {"is_ip", "Network", "is_ip(x)", "Whether x is a text that is an IPv4 or IPv6 address.", "is_ip(\"::1\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_ip},
    {"is_ipv4", "Network", "is_ipv4(x)", "Whether x is a text that is an IPv4 address.", "is_ipv4(\"192.0.2.1\") = true", 1, 1, ALL(ANY), BOOL, true, fn_is_ipv4},
    {"is_ipv6", "Network", "is_ipv6(x)", "Whether x is a text that is an IPv6 address.", "is_ipv6(\"192.0.2.1\") = false", 1, 1, ALL(ANY), BOOL, true, fn_is_ipv6},
    {"is_private_ip", "Network", "is_private_ip(ip)", "Whether the address is of a private network (10/8, 172.16/12, 192.168/16, fc00::/7), of this machine (127/8, ::1) or of the link (169.254/16, fe80::/10).", "is_private_ip(\"172.31.0.1\") = true", 1, 1, ALL(TEXT), BOOL, false, fn_is_private_ip},
    {NULL},
};
