/* The C library's string functions on short strings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
    static char text[1 << 16], copy[1 << 16];
    static const char *const words[] = {"lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit"};
    long rounds = argc > 1 ? atol(argv[1]) : 1, sum = 0;
    size_t at = 0;
    for (unsigned i = 0; at < sizeof text - 32; i++) at += sprintf(text + at, "%s%u ", words[i * 7 % 8], i % 97);
    while (rounds--) {
        strcpy(copy, text);
        for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
            sum += strlen(word) + (strstr(word, "or1") != NULL) + (strchr(word, '9') != NULL);
            sum += strcmp(word, "ipsum42") == 0;
        }
    }
    printf("%ld\n", sum);
}
