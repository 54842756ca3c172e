// What the endpoint and the visitors share. Linux only: epoll, /proc, MSG_TRUNC.
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// After its ClientHello a visitor sends one order of this size: the operation and its argument.
#define ORDER_BYTES 16
// A TLS client says close_notify before its FIN, and the endpoint closes then; an alert in a TLS 1.2 record has this size.
#define GOODBYE_BYTES 31
#define CHUNK_BYTES (256 * 1024)

// All that the endpoint sends; an edge's TLS alert begins with another.
#define FILLER 0

enum operation {
  OP_UPLOAD = 'U',    // the endpoint discards what comes
  OP_DOWNLOAD = 'D',  // the endpoint sends the order's bytes, or until the visitor leaves
  OP_ECHO = 'E',      // the endpoint sends back what comes
  OP_HELLO = 'H',     // the endpoint sends one byte, waits for the goodbye and closes
};

// Instead of a ClientHello this byte opens a connection that asks for counters: each further one is answered by struct counters.
#define QUERY_BYTE 'Q'
struct counters {
  uint64_t received;     // bytes of all uploads
  uint64_t connections;  // open now, queries not counted
};

struct order {
  char operation;
  char unused[7];
  uint64_t bytes;  // of a download; 0 without end
};

// Ends the process with a message.
_Noreturn void fail(const char *what);
// Monotonic nanoseconds.
uint64_t now_ns(void);
// Parses HOST:PORT, an IPv4 address in numbers.
struct sockaddr_in parse_address(const char *text);
// Opens a TCP socket without delay; `index` chooses its source address among 127.1.0.0/16, so that ports don't run out and
// limits by source see many visitors. Non-blocking when asked for.
int open_socket(unsigned index, bool nonblocking);
// Connects, and waits for it.
int dial(const struct sockaddr_in *to, unsigned index);
// Writes a TLS 1.3 ClientHello for `name` in one record; answers its length. `out` holds 600 bytes.
size_t client_hello(const char *name, uint8_t *out);
// Processor seconds of a process so far, over all its threads.
double cpu_seconds(int pid);
// True once stdin has ended.
bool stdin_ended(void);

// Listens, and prints the port as {"event":"ready","port":N}.
int open_listener(const char *address);

int run_endpoint(int argc, char **argv);
int run_http(int argc, char **argv);
int run_relay(int argc, char **argv);
