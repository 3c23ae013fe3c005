/*
 * Reading the options that name model endpoints. Pure.
 */
#include "brain_svc/brain_route.h"

static bool
is_url(ag_str_t url)
{
    return ag_str_starts(url, AG_STR("http://"))
           || ag_str_starts(url, AG_STR("https://"));
}

/* "WIRE,MODEL[,URL]". */
static int
parse_item(ag_str_t item, struct brain_route *route)
{
    ag_str_t wire, model, url = item;

    (void)ag_str_cut(&url, ',', &wire);
    if (!ag_str_cut(&url, ',', &model) || model.n == 0)
        return -1;
    route->wire = brain_wire_find(wire);
    route->model = model;
    if (url.n > 0)
        route->base_url = url;
    return route->wire == NULL || !is_url(route->base_url) ? -1 : 0;
}

static bool
next_item(ag_str_t *list, ag_str_t *item)
{
    while (ag_str_cut(list, ' ', item))
        if (item->n > 0)
            return true;
    return false;
}

bool
brain_route_get(const struct brain_conf *conf, ag_str_t model, ag_str_t wire,
                size_t index, struct brain_route *route)
{
    ag_str_t list = ag_str(conf->model_fallbacks), item;

    route->base_url = ag_str(conf->model_base_url);
    route->model = model;
    route->wire = brain_wire_find(wire.n > 0 ? wire : ag_str(conf->model_wire));
    if (index == 0)
        return route->wire != NULL;
    while (next_item(&list, &item))
        if (--index == 0)
            return parse_item(item, route) == 0;
    return false;
}

int
brain_route_check(const struct brain_conf *conf, struct ag_err *err)
{
    ag_str_t list = ag_str(conf->model_fallbacks), item;
    struct brain_route route;

    if (conf->model_base_url[0] != '\0'
        && !is_url(ag_str(conf->model_base_url)))
        return ag_err_set(err, AG_ERR_INVALID,
                          "model_base_url: must begin with http:// or "
                          "https://");
    if (brain_wire_find(ag_str(conf->model_wire)) == NULL)
        return ag_err_set(err, AG_ERR_INVALID,
                          "model_wire: \"%.32s\" is none of chat, responses, "
                          "messages",
                          conf->model_wire);
    while (next_item(&list, &item)) {
        route.base_url = ag_str(conf->model_base_url);
        if (parse_item(item, &route) < 0)
            return ag_err_set(err, AG_ERR_INVALID,
                              "model_fallbacks: \"%.*s\" is not "
                              "WIRE,MODEL[,URL] with a wire of chat, "
                              "responses, messages",
                              AG_FMT(item));
    }
    return 0;
}
