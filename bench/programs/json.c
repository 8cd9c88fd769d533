/* Parsing JSON: characters, branches, recursion, small allocations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
struct value { char kind; long number; const char *text; int length; struct value *first, *next; };
static struct value pool[1 << 16];
static int used;
static const char *at;
static void blank(void) { while (*at == ' ' || *at == '\n') at++; }
static struct value *parse(void)
{
    struct value *v = &pool[used++], **last = &v->first;
    v->first = v->next = NULL;
    blank();
    v->kind = *at;
    if (*at == '{' || *at == '[') {
        char end = *at++ == '{' ? '}' : ']';
        for (blank(); *at != end; blank()) {
            *last = parse();
            last = &(*last)->next;
            blank();
            if (*at == ':' || *at == ',') at++;
        }
        at++;
    } else if (*at == '"') {
        v->text = ++at;
        while (*at != '"') at += 1 + (*at == '\\');
        v->length = at++ - v->text;
    } else if (*at == 't' || *at == 'f' || *at == 'n') {
        v->number = *at == 't';
        while (*at >= 'a' && *at <= 'z') at++;
    } else {
        int minus = *at == '-';
        at += minus;
        for (v->number = 0; *at >= '0' && *at <= '9'; at++) v->number = v->number * 10 + *at - '0';
        if (*at == '.')
            for (at++; *at >= '0' && *at <= '9'; at++) v->number = v->number * 10 + *at - '0';
        if (minus) v->number = -v->number;
    }
    return v;
}
static unsigned long walk(const struct value *v, unsigned long h)
{
    for (; v; v = v->next) {
        h = h * 31 + v->kind + v->number;
        for (int i = 0; v->kind == '"' && i < v->length; i++) h = (h ^ v->text[i]) * 16777619u;
        if (v->first) h = walk(v->first, h);
    }
    return h;
}
int main(int argc, char **argv)
{
    static char text[1 << 17];
    long rounds = argc > 1 ? atol(argv[1]) : 1;
    unsigned long h = 0;
    char *out = text;
    out += sprintf(out, "[\n");
    for (int i = 0; i < 700; i++)
        out += sprintf(out, "%s {\"id\": %d, \"name\": \"user \\\"%d\\\"\", \"score\": -%d.%d, \"tags\": [\"a%d\", \"bc\", true, null], \"in\": {\"x\": %d}}\n",
                       i ? "," : "", i * 7919, i, i % 13, i * 31 % 1000, i % 7, i * i);
    sprintf(out, "]");
    while (rounds--) {
        at = text, used = 0;
        h = walk(parse(), h);
    }
    printf("%lx %d\n", h, used);
}
