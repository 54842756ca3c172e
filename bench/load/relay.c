// A long way between edge and agent: connections to it go on to another address, and every byte waits on its way.
#include "common.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define PIECE_BYTES (64 * 1024)
// What is on its way in one direction at most: 1.6 GB/s at 10 ms.
#define WAY_BYTES (16 * 1024 * 1024)

struct piece {
  struct piece *next;
  uint64_t due_ns;
  size_t length, sent;
  uint8_t bytes[];
};

// One direction of a connection.
struct way {
  int from, to;
  struct piece *first, *last;
  size_t length;
  bool from_ended, to_ended;
  struct way *back, *next;
};

static struct way *ways;
static int relay_epoll;

static void watch_way(struct way *way) {
  // Level-triggered reading alone: what is to be sent is looked at every millisecond.
  bool wanted = !way->from_ended && way->length < WAY_BYTES;
  struct epoll_event event = {.events = wanted ? EPOLLIN : 0, .data.ptr = way};
  epoll_ctl(relay_epoll, EPOLL_CTL_MOD, way->from, &event);
}

static void add_way(struct way *way, int from, int to, struct way *back) {
  *way = (struct way){.from = from, .to = to, .back = back, .next = ways};
  ways = way;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = way};
  epoll_ctl(relay_epoll, EPOLL_CTL_ADD, from, &event);
}

static void take_in(struct way *way, uint64_t delay_ns) {
  struct piece *piece = malloc(sizeof *piece + PIECE_BYTES);
  if (!piece) fail("allocate");
  ssize_t got = recv(way->from, piece->bytes, PIECE_BYTES, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
    free(piece);
    return;
  }
  // The end travels as a piece without bytes.
  piece = realloc(piece, sizeof *piece + (got > 0 ? (size_t)got : 1));
  piece->next = NULL;
  piece->due_ns = now_ns() + delay_ns;
  piece->length = got > 0 ? (size_t)got : 0;
  piece->sent = 0;
  if (got <= 0) way->from_ended = true;
  if (way->last) way->last->next = piece;
  else way->first = piece;
  way->last = piece;
  way->length += piece->length;
  watch_way(way);
}

static void send_due(struct way *way, uint64_t now) {
  bool was_full = way->length >= WAY_BYTES;
  while (way->first && way->first->due_ns <= now) {
    struct piece *piece = way->first;
    if (piece->length == 0) {
      shutdown(way->to, SHUT_WR);
      way->to_ended = true;
    } else if (!way->to_ended) {
      ssize_t sent = send(way->to, piece->bytes + piece->sent, piece->length - piece->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (sent < 0) way->to_ended = true;
      else if ((piece->sent += (size_t)sent) < piece->length) break;
    }
    way->length -= piece->length;
    way->first = piece->next;
    if (!way->first) way->last = NULL;
    free(piece);
  }
  if (was_full && way->length < WAY_BYTES) watch_way(way);
}

static void drop_ended(void) {
  for (struct way **at = &ways; *at;) {
    struct way *way = *at;
    if (!(way->to_ended && way->back == NULL)) {
      // The second of the two to end takes both sockets along.
      if (way->to_ended && way->back->to_ended && way->back->back) {
        close(way->from);
        close(way->to);
        way->back->back = NULL;
        way->back = NULL;
        continue;
      }
      at = &way->next;
      continue;
    }
    *at = way->next;
    free(way);
  }
}

// Usage: load relay HOST:PORT TO_HOST:PORT DELAY_MS, each way. Prints its port as {"event":"ready","port":N}; ends with stdin.
int run_relay(int argc, char **argv) {
  errno = EINVAL;
  if (argc < 3) fail("run: relay HOST:PORT TO_HOST:PORT DELAY_MS");
  int listener = open_listener(argv[0]);
  struct sockaddr_in to = parse_address(argv[1]);
  uint64_t delay_ns = (uint64_t)(atof(argv[2]) * 1e6);
  relay_epoll = epoll_create1(EPOLL_CLOEXEC);
  struct way accepting, ending;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &accepting};
  epoll_ctl(relay_epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &ending;
  epoll_ctl(relay_epoll, EPOLL_CTL_ADD, 0, &event);
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(relay_epoll, events, EVENTS, ways ? 1 : 100);
    for (int i = 0; i < count; i++) {
      struct way *way = events[i].data.ptr;
      if (way == &ending) {
        if (stdin_ended()) return 0;
      } else if (way == &accepting) {
        int one = 1, near = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (near < 0) continue;
        int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (far < 0 || connect(far, (const struct sockaddr *)&to, sizeof to) < 0) {
          if (far >= 0) close(far);
          close(near);
          continue;
        }
        setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct way *there = malloc(sizeof *there), *here = malloc(sizeof *here);
        if (!there || !here) fail("allocate");
        add_way(there, near, far, here);
        add_way(here, far, near, there);
      } else {
        take_in(way, delay_ns);
      }
    }
    uint64_t now = now_ns();
    for (struct way *way = ways; way; way = way->next) send_due(way, now);
    drop_ended();
  }
}
