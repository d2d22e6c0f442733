/* Functions of places on Earth. Latitudes and longitudes are degrees (WGS 84), north and east. */
#include <math.h>

#include "data/lang/function_make.h"

#define EARTH_RADIUS 6371008.8    /* metres; the mean radius (IUGG) */
#define CORNERS_MAX 10000

static double radians(double degrees) {
    return degrees * (M_PI / 180);
}

/* Latitude and longitude at arguments[0] and [1]; false after an error. */
static bool read_place(const node_t *node, const row_t *row, const value_t *arguments, double *latitude, double *longitude) {
    *latitude = value_to_double(arguments[0]);
    *longitude = value_to_double(arguments[1]);
    if (fabs(*latitude) <= 90 && fabs(*longitude) <= 360)
        return true;
    evaluation_failed(node, row, "%s: there is no place at latitude %g, longitude %g", node->function->name, *latitude, *longitude);
    return false;
}

/* By the haversine formula: accurate for small distances too. */
FUNCTION(fn_geo_distance) {
    double a, b, c, d;
    if (!read_place(node, row, arguments, &a, &b) || !read_place(node, row, arguments + 2, &c, &d))
        return value_null();
    double north = sin(radians(c - a) / 2), east = sin(radians(d - b) / 2);
    double h = north * north + cos(radians(a)) * cos(radians(c)) * east * east;
    return value_double(2 * EARTH_RADIUS * asin(sqrt(h < 1 ? h : 1)));
}

FUNCTION(fn_geo_bearing) {
    double a, b, c, d;
    if (!read_place(node, row, arguments, &a, &b) || !read_place(node, row, arguments + 2, &c, &d))
        return value_null();
    double east = radians(d - b);
    double degrees = atan2(sin(east) * cos(radians(c)), cos(radians(a)) * sin(radians(c)) - sin(radians(a)) * cos(radians(c)) * cos(east)) * (180 / M_PI);
    return value_double(degrees < 0 ? degrees + 360 : degrees);
}

/* Bits of longitude and latitude in turn, five to a letter (G. Niemeyer's geohash). */
FUNCTION(fn_geohash) {
    static const char letters[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    double latitude, longitude;
    int64_t precision = count > 2 ? arguments[2].integer : 12;
    if (!read_place(node, row, arguments, &latitude, &longitude))
        return value_null();
    if (precision < 1 || precision > 12)
        return evaluation_failed(node, row, "geohash: 1 to 12 letters, not %lld", (long long) precision);
    double low[2] = {-180, -90}, high[2] = {180, 90}, at[2] = {remainder(longitude, 360), latitude};
    char out[12];
    for (unsigned bit = 0, letter = 0; bit < 5 * (unsigned) precision; bit++) {
        unsigned axis = bit % 2;
        double middle = (low[axis] + high[axis]) / 2;
        bool upper = at[axis] >= middle;
        *(upper ? &low[axis] : &high[axis]) = middle;
        letter = letter << 1 | upper;
        if (bit % 5 == 4) {
            out[bit / 5] = letters[letter & 31];
            letter = 0;
        }
    }
    return function_text(row, out, (size_t) precision);
}

typedef struct polygon {
    uint32_t count;
    double corners[][2];
} polygon_t;

/* An array of [latitude, longitude]. NULL: it is none. */
static polygon_t *read_polygon(arena_t *arena, value_t array) {
    items_t items = items_of(array);
    if (items.count < 3 || items.count > CORNERS_MAX)
        return NULL;
    polygon_t *polygon = arena_alloc(arena, sizeof *polygon + items.count * sizeof *polygon->corners);
    polygon->count = items.count;
    for (uint32_t i = 0; i < items.count; i++) {
        value_t corner;
        if (!pack_read_value(&items.cursor, &corner))
            return NULL;
        value_t latitude = record_item(corner, 0), longitude = record_item(corner, 1);
        if (!value_is_number(latitude) || !value_is_number(longitude))
            return NULL;
        polygon->corners[i][0] = value_to_double(latitude);
        polygon->corners[i][1] = value_to_double(longitude);
    }
    return polygon;
}

static int prepare_polygon(parser_t *parser, node_t *node) {
    const node_t *argument = node->arguments[2];
    if (argument->kind != NODE_CONSTANT || argument->constant.type == VALUE_NULL)
        return 0;
    node->data = read_polygon(&parser->unit->arena, argument->constant);
    if (node->data)
        return 0;
    return parser_error_at(parser, argument, "three corners or more: [[latitude, longitude], ...]", "geo_within takes a polygon here");
}

/* Counts the sides that a line to the east crosses. */
FUNCTION(fn_geo_within) {
    double latitude, longitude;
    if (!read_place(node, row, arguments, &latitude, &longitude))
        return value_null();
    const polygon_t *polygon = node->data ? node->data : read_polygon(&row->context->arena, arguments[2]);
    if (!polygon)
        return evaluation_failed(node, row, "geo_within: the third argument is no polygon");
    bool inside = false;
    for (uint32_t i = 0, before = polygon->count - 1; i < polygon->count; before = i++) {
        const double *a = polygon->corners[i], *b = polygon->corners[before];
        if ((a[0] > latitude) != (b[0] > latitude) && longitude < (b[1] - a[1]) * (latitude - a[0]) / (b[0] - a[0]) + a[1])
            inside = !inside;
    }
    return value_bool(inside);
}

const function_t functions_places[] = {
    /* name, group, signature, help, example, least, most, takes, gives, takes null, call, prepare, impure, pattern */
    {"geo_bearing", "Places", "geo_bearing(latitude1, longitude1, latitude2, longitude2)", "The direction in which the way from the first place to the second begins, in degrees from north over east.", "round(geo_bearing(52.5, 13.4, 48.1, 11.6), 1) = 195.3", 4, 4, ALL(NUMBER), DOUBLE, false, fn_geo_bearing},
    {"geo_distance", "Places", "geo_distance(latitude1, longitude1, latitude2, longitude2)", "The metres between two places on a sphere with the mean radius 6371008.8 m; up to 0.6 % off, for the Earth is none.", "round(geo_distance(52.5, 13.4, 48.1, 11.6)) = 505644", 4, 4, ALL(NUMBER), DOUBLE, false, fn_geo_distance},
    {"geo_within", "Places", "geo_within(latitude, longitude, polygon)", "Whether the place is within the polygon, an array of 3 to 10000 corners [latitude, longitude]; straight lines between them in degrees, and not over the date line. On the edge itself it is either.", "geo_within(1, 1, [[0, 0], [0, 3], [3, 0]]) = true", 3, 3, {NUMBER, NUMBER, ARRAY}, BOOL, false, fn_geo_within, prepare_polygon},
    {"geohash", "Places", "geohash(latitude, longitude, letters?)", "The geohash of the place, with 1 to 12 letters (12): places with the same beginning are near each other.", "geohash(57.64911, 10.40744, 8) = \"u4pruydq\"", 2, 3, {NUMBER, NUMBER, INT}, TEXT, false, fn_geohash},
    {NULL},
};
