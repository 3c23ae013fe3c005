/* Host names and authorities, as requests and handshakes bring them. */
#include "ngx_agent_module/ngx_agent_name.h"

#define LABEL_MAX  63


bool
ngx_agent_name_is_canonical(ag_str_t name)
{
    size_t  label = 0;

    if (name.n == 0 || name.n > NGX_AGENT_NAME_MAX) {
        return false;
    }

    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (c == '.') {
            if (label == 0 || name.p[i - 1] == '-') {
                return false;
            }

            label = 0;
            continue;
        }

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
              || (c == '-' && label > 0))
            || ++label > LABEL_MAX)
        {
            return false;
        }
    }

    return label > 0 && name.p[name.n - 1] != '-';
}


bool
ngx_agent_authority_read(ag_str_t in, char host[NGX_AGENT_NAME_MAX + 1],
                         unsigned *port)
{
    char       lower[NGX_AGENT_NAME_MAX + 1];
    int64_t    n = 0;
    bool       has_port = ag_str_chr(in, ':') >= 0;
    ag_str_t   name;

    if (!ag_str_cut(&in, ':', &name) || name.n > NGX_AGENT_NAME_MAX) {
        return false;
    }

    /* One spelling for each number: no sign, no zero in front. */

    if (has_port
        && (in.n == 0 || in.n > 5 || in.p[0] < '1' || in.p[0] > '9'
            || ag_str_i64(in, &n) < 0 || n > 65535))
    {
        return false;
    }

    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        lower[i] = c >= 'A' && c <= 'Z' ? (char) (c + 32) : c;
    }

    lower[name.n] = '\0';

    if (!ngx_agent_name_is_canonical(ag_str_n(lower, name.n))) {
        return false;
    }

    memcpy(host, lower, name.n + 1);
    *port = (unsigned) n;

    return true;
}
