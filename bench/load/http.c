// An HTTP/1.1 endpoint for the tunnels that end TLS: answers every request with the same few bytes, GET /large with
// LARGE_BYTES.
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
#define REQUEST_BYTES 8192
#define LARGE_BYTES 1048576
#define PIECE_BYTES 65536

static const char answer[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nhello, world\n";

static const char large_path[] = "GET /large ";
static const char large_head[] = "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n";
static const char piece[PIECE_BYTES];

struct client {
  int fd;
  // What is left of a large answer.
  size_t owed;
  size_t length;
  char request[REQUEST_BYTES];
};

static bool send_whole(int fd, const char *bytes, size_t length) {
  return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

// Sends what is left of a large answer, as far as the socket takes it. False when the connection is over.
static bool pump(int epoll, struct client *client) {
  while (client->owed > 0) {
    size_t length = client->owed < PIECE_BYTES ? client->owed : PIECE_BYTES;
    ssize_t sent = send(client->fd, piece, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    if (sent < 0) break;
    client->owed -= (size_t)sent;
  }
  struct epoll_event event = {.events = client->owed > 0 ? EPOLLOUT : EPOLLIN, .data.ptr = client};
  epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
  return true;
}

// Answers each whole request; requests have no body here. False when the connection is over.
static bool serve(int epoll, struct client *client) {
  if (client->owed > 0) return pump(epoll, client);
  ssize_t got = recv(client->fd, client->request + client->length, REQUEST_BYTES - client->length, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;
  client->length += (size_t)got;
  for (;;) {
    char *end = memmem(client->request, client->length, "\r\n\r\n", 4);
    if (end == NULL) return client->length < REQUEST_BYTES;
    bool large = memcmp(client->request, large_path, sizeof large_path - 1) == 0;
    if (!send_whole(client->fd, large ? large_head : answer, large ? sizeof large_head - 1 : sizeof answer - 1)) {
      return false;
    }
    size_t used = (size_t)(end - client->request) + 4;
    client->length -= used;
    memmove(client->request, client->request + used, client->length);
    if (!large) continue;
    client->owed = LARGE_BYTES;
    return pump(epoll, client);
  }
}

// Usage: load http HOST:PORT. Prints its port as {"event":"ready","port":N}; ends with stdin.
int run_http(int argc, char **argv) {
  int listener = open_listener(argc > 0 ? argv[0] : "127.0.0.1:0");
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct client accepting = {.fd = listener}, ending = {.fd = 0};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &accepting};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &ending;
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event);
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct client *client = events[i].data.ptr;
      if (client == &ending) {
        if (stdin_ended()) return 0;
      } else if (client == &accepting) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct client *accepted = malloc(sizeof *accepted);
        if (!accepted) fail("allocate");
        accepted->fd = fd;
        accepted->length = accepted->owed = 0;
        event = (struct epoll_event){.events = EPOLLIN, .data.ptr = accepted};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
      } else if (!serve(epoll, client)) {
        close(client->fd);
        free(client);
      }
    }
  }
}
