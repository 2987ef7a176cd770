/* This Source Code Form is subject to the terms of the Mozilla Public
   License, v. 2.0. If a copy of the MPL was not distributed with this file,
   You can obtain one at https://mozilla.org/MPL/2.0/. */
#include "endpoint.h"

#include <peach/status.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char default_port[] = "5001", default_host[] = "127.0.0.1";

static int wrong(char *error, size_t size, const char *endpoint, const char *why)
{
    snprintf(error, size,
             "endpoint '%s': %s (an endpoint is tcp://HOST:PORT; HOST:PORT, HOST or PORT are short "
             "for it)",
             endpoint, why);
    return PEACH_E_ARGUMENT;
}

static bool is_number(const char *text) { return *text && text[strspn(text, "0123456789")] == 0; }

/* What stands before the port, and the port; NULL where there is none. */
static const char *find_port(const char *address)
{
    const char *bracket = strrchr(address, ']');
    const char *colon = strrchr(bracket ? bracket : address, ':');
    return colon ? colon + 1 : NULL;
}

/* Writes a short form in full. False when it does not fit, or is another thing. */
static bool complete(char text[ENDPOINT_BYTES])
{
    char full[2 * ENDPOINT_BYTES];
    if (strstr(text, "://")) return true;
    if (strchr(text, '/')) return false;
    if (is_number(text))
        snprintf(full, sizeof full, "tcp://%s:%s", default_host, text);
    else
        snprintf(full, sizeof full, "tcp://%s%s%s", text, find_port(text) ? "" : ":",
                 find_port(text) ? "" : default_port);
    if (strlen(full) >= ENDPOINT_BYTES) return false;
    strcpy(text, full);
    return true;
}

/* localhost is the default host, also where no file of hosts says so (RFC 6761). */
static void name_localhost(char text[ENDPOINT_BYTES])
{
    static const char name[] = "tcp://localhost:";
    _Static_assert(sizeof name == sizeof "tcp://:" - 1 + sizeof default_host, "as long");
    if (strncmp(text, name, sizeof name - 1) == 0)
        memcpy(text + sizeof "tcp://" - 1, default_host, sizeof default_host - 1);
}

/* A name, an address of IPv4, or one of IPv6 in brackets, with a zone perhaps. */
static bool is_host(const char *text, size_t size)
{
    char host[ENDPOINT_BYTES];
    struct in6_addr v6;
    bool bracket = *text == '[';
    if (bracket && text[size - 1] != ']') return false;
    snprintf(host, sizeof host, "%.*s", (int)size - 2 * bracket, text + bracket);
    for (const char *c = host; *c; c++)
        if (isspace((unsigned char)*c) || strchr("/;[]", *c)) return false;
    if (!bracket) return true;
    host[strcspn(host, "%")] = 0;
    return inet_pton(AF_INET6, host, &v6) == 1;
}

static int check(char text[ENDPOINT_BYTES], char *error, size_t size)
{
    if (!complete(text)) return wrong(error, size, text, "it is not tcp://");
    name_localhost(text);
    if (strncmp(text, "ipc://", 6) == 0 && text[6]) return 0;
    if (strncmp(text, "tcp://", 6) != 0) return wrong(error, size, text, "it is not tcp://");
    const char *host = text + 6, *port = find_port(host);
    if (!port || port == host + 1) return wrong(error, size, text, "host or port is missing");
    if (*host != '[' && memchr(host, ':', (size_t)(port - 1 - host)))
        return wrong(error, size, text, "an address of IPv6 stands in brackets: [::1]:5001");
    if (!is_host(host, (size_t)(port - 1 - host)))
        return wrong(error, size, text, "this is no host");
    if (strcmp(port, "*") == 0) return 0;
    char *end;
    long number = strtol(port, &end, 10);
    if (!is_number(port) || *end || number < 1 || number > 65535)
        return wrong(error, size, text, "the port is not a number from 1 to 65535");
    return 0;
}

int endpoints_parse(endpoints_t *self, const char *list, char *error, size_t error_size)
{
    self->count = 0;
    while (*list) {
        size_t length = strcspn(list, ",");
        if (length >= ENDPOINT_BYTES || self->count == ENDPOINT_MAX)
            return wrong(error, error_size, "...", "the list is too long");
        char *text = self->text[self->count++];
        memcpy(text, list, length);
        text[length] = 0;
        int rc = check(text, error, error_size);
        if (rc) return rc;
        list += length + (list[length] == ',');
    }
    return self->count ? 0 : wrong(error, error_size, list, "it is empty");
}

/* The host of a tcp endpoint, without brackets; "" for others. */
static void host_of(const char *endpoint, char host[ENDPOINT_BYTES])
{
    *host = 0;
    if (strncmp(endpoint, "tcp://", 6) != 0) return;
    bool bracket = endpoint[6] == '[';
    snprintf(host, ENDPOINT_BYTES, "%s", endpoint + 6 + bracket);
    char *end = bracket ? strchr(host, ']') : strrchr(host, ':');
    if (end) *end = 0;
}

bool endpoint_is_ipv6(const char *endpoint) { return strncmp(endpoint, "tcp://[", 7) == 0; }

bool endpoint_host_name(const char *endpoint, char host[ENDPOINT_BYTES])
{
    struct in_addr v4;
    struct in6_addr v6;
    host_of(endpoint, host);
    return *host && strcmp(host, "*") != 0 && inet_pton(AF_INET, host, &v4) != 1 &&
           inet_pton(AF_INET6, host, &v6) != 1;
}

bool endpoint_is_loopback(const char *endpoint)
{
    char host[ENDPOINT_BYTES];
    struct in_addr v4;
    if (strncmp(endpoint, "ipc://", 6) == 0) return true;
    host_of(endpoint, host);
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

int endpoints_check_exposure(const endpoints_t *self, bool insecure, char *error, size_t error_size)
{
    const char *word = getenv("PEACH_INSECURE");
    insecure |= word && strcmp(word, "1") == 0;
    for (size_t i = 0; i < self->count && !insecure; i++) {
        if (endpoint_is_loopback(self->text[i])) continue;
        snprintf(
            error, error_size,
            "'%s' is not a loopback address, and whoever reaches a fleet can run code on it: "
            "use 127.0.0.1, or say --insecure (PEACH_INSECURE=1, insecure=True) if the network "
            "between the hosts is yours alone",
            self->text[i]);
        return PEACH_E_REFUSED;
    }
    return 0;
}

/* ---- binding ---- */

int endpoint_for_bind(char endpoint[ENDPOINT_BYTES], char *error, size_t error_size)
{
    char host[ENDPOINT_BYTES], address[INET6_ADDRSTRLEN], full[ENDPOINT_BYTES + 64];
    if (!endpoint_host_name(endpoint, host) || if_nametoindex(host) != 0) return 0;
    struct addrinfo *found, hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc) return wrong(error, error_size, endpoint, gai_strerror(rc));
    const struct addrinfo *chosen = found;
    while (chosen->ai_family != AF_INET && chosen->ai_next) chosen = chosen->ai_next;
    if (chosen->ai_family != AF_INET) chosen = found;
    rc = getnameinfo(chosen->ai_addr, chosen->ai_addrlen, address, sizeof address, NULL, 0,
                     NI_NUMERICHOST);
    bool v6 = chosen->ai_family == AF_INET6;
    freeaddrinfo(found);
    if (rc) return wrong(error, error_size, endpoint, gai_strerror(rc));
    snprintf(full, sizeof full, "tcp://%s%s%s:%s", v6 ? "[" : "", address, v6 ? "]" : "",
             find_port(endpoint + 6));
    if (strlen(full) >= ENDPOINT_BYTES) return wrong(error, error_size, endpoint, "it is too long");
    strcpy(endpoint, full);
    return 0;
}
