/* What a tool says of itself, as option tables again: config.json is checked against the very declarations that the tool will
 * read its settings with, and no list of drivers is kept anywhere else. */
#include "run/config.h"

#include <string.h>

#include "run/config_private.h"

static const char *const type_names[] = {"text", "secret", "bool", "int", "number", "duration", "size", "choice", "list", NULL};

static int read_option(option_t *option, const json_t *description, err_t *err) {
    const char *name = json_string_value(json_object_get(description, "name"));
    const char *type = json_string_value(json_object_get(description, "type"));
    int index = 0;
    while (type && type_names[index] && strcmp(type_names[index], type) != 0)
        index++;
    if (!name || !type || !type_names[index])
        return err_set(err, "an option without a name or of unknown type");
    option->name = mem_text(name);
    option->type = (option_type_t) index;
    const char *value = json_string_value(json_object_get(description, "value"));
    option->value = mem_text(value ? value : "");
    option->minimum = json_integer_value(json_object_get(description, "minimum"));
    option->maximum = json_integer_value(json_object_get(description, "maximum"));
    return 0;
}

static int read_options(option_t **table, const json_t *list, err_t *err) {
    *table = mem_zero((json_array_size(list) + 1) * sizeof **table);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_option(&(*table)[i], json_array_get(list, i), err))
            return -1;
    return 0;
}

static void add_word(config_driver_t *driver, const json_t *word) {
    const char *text = json_is_object(word) ? json_string_value(json_object_get(word, "word")) : json_string_value(word);
    if (!text)
        return;
    driver->words = mem_resize(driver->words, (driver->word_count + 1) * sizeof *driver->words);
    driver->words[driver->word_count++] = mem_text(text);
}

static int read_driver(config_driver_t *driver, const json_t *description, err_t *err) {
    const json_t *name = json_object_get(description, "name");
    if (!json_is_string(name))
        return err_set(err, "a driver without a name");
    driver->name = mem_text(json_string_value(name));
    add_word(driver, name);
    static const char *const lists[] = {"types", "schemes"};
    for (size_t l = 0; l < 2; l++) {
        const json_t *words = json_object_get(description, lists[l]);
        for (size_t i = 0; i < json_array_size(words); i++)
            add_word(driver, json_array_get(words, i));
        driver->scheme_count = json_array_size(words);
    }
    return read_options(&driver->options, json_object_get(description, "options"), err);
}

int config_tool_new(config_tool_t **tool, const json_t *description, err_t *err) {
    config_tool_t *new = mem_zero(sizeof *new);
    const json_t *drivers = json_object_get(description, "drivers");
    new->drivers = mem_zero((json_array_size(drivers) + 1) * sizeof *new->drivers);
    int result = read_options(&new->options, json_object_get(description, "options"), err);
    for (size_t i = 0; result == 0 && i < json_array_size(drivers); i++) {
        new->driver_count++;
        result = read_driver(&new->drivers[i], json_array_get(drivers, i), err);
    }
    if (result == 0 && !new->driver_count)
        result = err_set(err, "no drivers in the description");
    if (result)
        config_tool_free(new);
    else
        *tool = new;
    return result;
}

static void options_free(option_t *table) {
    for (option_t *option = table; option && option->name; option++) {
        mem_free((char *) option->name);
        mem_free((char *) option->value);
    }
    mem_free(table);
}

void config_tool_free(config_tool_t *tool) {
    if (!tool)
        return;
    for (size_t i = 0; i < tool->driver_count; i++) {
        config_driver_t *driver = &tool->drivers[i];
        for (size_t w = 0; w < driver->word_count; w++)
            mem_free(driver->words[w]);
        mem_free(driver->words);
        mem_free(driver->name);
        options_free(driver->options);
    }
    mem_free(tool->drivers);
    options_free(tool->options);
    mem_free(tool);
}

const config_driver_t *config_driver_find(const config_tool_t *tool, const char *word) {
    for (size_t i = 0; i < tool->driver_count; i++)
        for (size_t w = 0; w < tool->drivers[i].word_count; w++)
            if (strcmp(tool->drivers[i].words[w], word) == 0)
                return &tool->drivers[i];
    return NULL;
}
