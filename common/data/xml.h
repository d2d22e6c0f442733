#ifndef DATA_XML_H
#define DATA_XML_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/err.h"
#include "base/text.h"

/* XML 1.0 → packed msgpack, by expat. An element becomes
 *   its text, when that is all it has: as an unquoted CSV field is read (csv_infer), nothing being null;
 *   a map of its attributes and children by their names otherwise, with its text, if it has some, as "text". What has the same name becomes an
 *   array, in the order of the document.
 * White space around a text is left out. Names keep their prefixes ("dc:creator"); the attributes that declare prefixes are left out. An element has
 * XML_DEPTH levels at most and a document 2^20 elements and attributes; entities other than XML's own five are refused, declared or not, and nothing
 * is ever loaded from elsewhere. */
#define XML_DEPTH 30

typedef struct xml xml_t;
xml_t *xml_new(bool strings);                         /* strings: texts stay texts */
void xml_free(xml_t *xml);                            /* NULL is legal */

/* Appends a map with the document's one element by its name; or, with `inner`, that element's own map, if it is one. encoding: NULL, when the
 * document itself says it (UTF-8 and UTF-16, ISO-8859-1 and US-ASCII can be read). On failure nothing is appended, and the error names line and column. */
int xml_read(xml_t *xml, text_t document, const char *encoding, bool inner, buf_t *out, err_t *err);

#endif
