// The endpoint behind the tunnels: does what each visitor's order says, as cheaply as the kernel lets it.
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define HEAD_BYTES 2048
#define EVENTS 256

enum state { STATE_HEAD, STATE_QUERY, STATE_UPLOAD, STATE_DOWNLOAD, STATE_ECHO, STATE_HOLD };

struct connection {
  int fd;
  enum state state;
  size_t head_length;
  uint64_t left;  // of a download
  uint8_t head[HEAD_BYTES];
};

static atomic_ullong received;
static atomic_ullong connections;
static int main_epoll, echo_epoll;
static uint8_t filler[CHUNK_BYTES];  // FILLER throughout

static void watch(int epoll, struct connection *connection, uint32_t events, int how) {
  struct epoll_event event = {.events = events, .data.ptr = connection};
  if (epoll_ctl(epoll, how, connection->fd, &event) < 0) fail("watch a connection");
}

static void drop(struct connection *connection) {
  if (connection->state != STATE_QUERY) atomic_fetch_sub(&connections, 1);
  close(connection->fd);
  free(connection);
}

static bool would_block(ssize_t got) { return got < 0 && (errno == EAGAIN || errno == EINTR); }

// Sends all of a small answer; its socket has room for it.
static bool answer(struct connection *connection, const void *bytes, size_t length) {
  return send(connection->fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool answer_query(struct connection *connection) {
  struct counters now = {.received = atomic_load(&received), .connections = atomic_load(&connections)};
  return answer(connection, &now, sizeof now);
}

// Follows the order behind the ClientHello. False when the connection is over.
static bool take_head(struct connection *connection) {
  uint8_t *head = connection->head;
  ssize_t got = recv(connection->fd, head + connection->head_length, HEAD_BYTES - connection->head_length, 0);
  if (would_block(got)) return true;
  if (got <= 0) return false;
  connection->head_length += (size_t)got;
  if (head[0] == QUERY_BYTE) {
    connection->state = STATE_QUERY;
    atomic_fetch_sub(&connections, 1);
    for (size_t i = 1; i < connection->head_length; i++) {
      if (!answer_query(connection)) return false;
    }
    return true;
  }
  if (connection->head_length < 5) return true;
  size_t hello = 5 + (size_t)(head[3] << 8 | head[4]);
  if (hello + ORDER_BYTES > HEAD_BYTES) return false;
  if (connection->head_length < hello + ORDER_BYTES) return true;
  size_t extra = connection->head_length - hello - ORDER_BYTES;
  switch (head[hello]) {
    case OP_UPLOAD:
      atomic_fetch_add(&received, extra);
      connection->state = STATE_UPLOAD;
      return true;
    case OP_DOWNLOAD: {
      connection->state = STATE_DOWNLOAD;
      struct order order;
      memcpy(&order, head + hello, sizeof order);
      connection->left = order.bytes == 0 ? UINT64_MAX : order.bytes;
      watch(main_epoll, connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
      return true;
    }
    case OP_ECHO:
      // Another thread's: a bulk transfer beside it must not delay it here.
      connection->state = STATE_ECHO;
      if (extra > 0 && !answer(connection, head + hello + ORDER_BYTES, extra)) return false;
      epoll_ctl(main_epoll, EPOLL_CTL_DEL, connection->fd, NULL);
      watch(echo_epoll, connection, EPOLLIN, EPOLL_CTL_ADD);
      return true;
    case OP_HELLO:
      connection->state = STATE_HOLD;
      return answer(connection, filler, 1);
    default:
      return false;
  }
}

static bool take_query(struct connection *connection) {
  uint8_t query;
  ssize_t got = recv(connection->fd, &query, 1, 0);
  if (would_block(got)) return true;
  return got > 0 && answer_query(connection);
}

static bool take_bytes(struct connection *connection) {
  static uint8_t scratch[CHUNK_BYTES];
  // MSG_TRUNC discards without copying.
  ssize_t got = recv(connection->fd, scratch, CHUNK_BYTES, connection->state == STATE_UPLOAD ? MSG_TRUNC : 0);
  if (would_block(got)) return true;
  if (got <= 0) return false;
  if (connection->state == STATE_UPLOAD) atomic_fetch_add(&received, (unsigned long long)got);
  return connection->state != STATE_HOLD;
}

static bool fill(struct connection *connection) {
  size_t length = connection->left < CHUNK_BYTES ? (size_t)connection->left : CHUNK_BYTES;
  ssize_t sent = send(connection->fd, filler, length, MSG_NOSIGNAL);
  if (sent < 0) return would_block(sent);
  connection->left -= (uint64_t)sent;
  if (connection->left > 0) return true;
  // Nothing more to do but to wait for the visitor's end.
  connection->state = STATE_UPLOAD;
  watch(main_epoll, connection, EPOLLIN, EPOLL_CTL_MOD);
  return true;
}

static bool handle(struct connection *connection, uint32_t events) {
  switch (connection->state) {
    case STATE_HEAD: return take_head(connection);
    case STATE_QUERY: return take_query(connection);
    default: break;
  }
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !take_bytes(connection)) return false;
  return !(events & EPOLLOUT) || fill(connection);
}

_Noreturn static void *echo_loop(void *unused) {
  (void)unused;
  static uint8_t scratch[64 * 1024];
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(echo_epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct connection *connection = events[i].data.ptr;
      ssize_t got = recv(connection->fd, scratch, sizeof scratch, 0);
      if (would_block(got)) continue;
      if (got <= 0 || !answer(connection, scratch, (size_t)got)) drop(connection);
    }
  }
}

static void accept_all(int listener) {
  for (;;) {
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
      fail("accept");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *connection = malloc(sizeof *connection);
    if (!connection) fail("allocate");
    connection->fd = fd;
    connection->state = STATE_HEAD;
    connection->head_length = 0;
    connection->left = 0;
    atomic_fetch_add(&connections, 1);
    watch(main_epoll, connection, EPOLLIN, EPOLL_CTL_ADD);
  }
}

// Usage: load endpoint HOST:PORT. Prints its port as {"event":"ready","port":N}; ends with stdin.
int run_endpoint(int argc, char **argv) {
  main_epoll = epoll_create1(EPOLL_CLOEXEC);
  echo_epoll = epoll_create1(EPOLL_CLOEXEC);
  int listener = open_listener(argc > 0 ? argv[0] : "127.0.0.1:0");
  // Neither has a connection: told by their addresses.
  struct connection accepting = {.fd = listener}, ending = {.fd = 0};
  watch(main_epoll, &accepting, EPOLLIN, EPOLL_CTL_ADD);
  watch(main_epoll, &ending, EPOLLIN, EPOLL_CTL_ADD);
  pthread_t echo;
  if (pthread_create(&echo, NULL, echo_loop, NULL) != 0) fail("start a thread");

  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(main_epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct connection *connection = events[i].data.ptr;
      if (connection == &accepting) accept_all(listener);
      else if (connection == &ending) {
        if (stdin_ended()) return 0;
      } else if (!handle(connection, events[i].events)) drop(connection);
    }
  }
}
