// The visitors: load on a tunnel's public side, and what they see of it. Each mode prints one JSON line at its end; those
// that go on in the background print {"event":"running"} once they are under way, and end with stdin.
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define SAMPLES_MAX (4u << 20)
#define PIDS_MAX 32
#define SETUP_LIMIT_NS 15000000000ull

struct options {
  const char *mode, *name;
  struct sockaddr_in to, query;
  unsigned streams;
  unsigned names;  // visitors ask for n0.NAME, n1.NAME and so on in turn; 0 for NAME itself
  bool upload, background, stalled;
  uint64_t warmup_ns, window_ns, interval_ns, bytes;
  int pids[PIDS_MAX];
  int pid_count;
};

static void send_all(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
    if (sent < 0) fail("send");
    at += sent;
    length -= (size_t)sent;
  }
}

// ClientHello and order in one piece, as a TLS client sends its first flight.
static size_t first_flight(const struct options *options, char operation, uint8_t *out) {
  size_t hello = client_hello(options->name, out);
  struct order order = {.operation = operation, .bytes = options->bytes};
  memcpy(out + hello, &order, sizeof order);
  return hello + sizeof order;
}

// The same for one of many names.
static size_t flight_to(const struct options *options, unsigned name, uint8_t *out) {
  char text[128];
  snprintf(text, sizeof text, "n%u.%s", name, options->name);
  struct options named = *options;
  named.name = text;
  return first_flight(&named, OP_HELLO, out);
}

static int open_stream(const struct options *options, char operation, unsigned index) {
  uint8_t flight[1024];
  int fd = dial(&options->to, index);
  // Ends in a reset, which tunnels pass on at once: after a FIN alone some go on waiting for an answer.
  struct linger reset = {.l_onoff = 1};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  send_all(fd, flight, first_flight(options, operation, flight));
  return fd;
}

static void set_deadline(int fd, time_t seconds) {
  struct timeval limit = {.tv_sec = seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

static struct counters query_counters(int fd) {
  struct counters counters;
  char query = QUERY_BYTE;
  send_all(fd, &query, 1);
  if (recv(fd, &counters, sizeof counters, MSG_WAITALL) != (ssize_t)sizeof counters) fail("ask the endpoint");
  return counters;
}

static int open_query(const struct options *options) {
  int fd = dial(&options->query, 0);
  char query = QUERY_BYTE;
  send_all(fd, &query, 1);
  return fd;
}

static double own_cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

// Bulk in one direction over some streams.
static void run_bulk(const struct options *options) {
  static uint8_t bytes[CHUNK_BYTES];
  struct epoll_event events[EVENTS];
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  int query = open_query(options);
  uint64_t before = query_counters(query).received;
  uint64_t received = 0, lost = 0;
  for (unsigned i = 0; i < options->streams; i++) {
    int fd = open_stream(options, options->upload ? OP_UPLOAD : OP_DOWNLOAD, i);
    struct epoll_event event = {.events = options->upload ? EPOLLOUT : EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
  enum { SETTING_UP, WARMING_UP, MEASURING } phase = SETTING_UP;
  uint64_t started = now_ns(), next = started, window_start = 0, bytes_start = 0;
  double cpu_start[PIDS_MAX], own_start = 0;
  for (;;) {
    uint64_t now = now_ns();
    if (now >= next) {
      uint64_t total = options->upload ? query_counters(query).received - before : received;
      next = now + 20000000;
      if (phase == SETTING_UP && total >= 1) {
        phase = WARMING_UP;
        next = now + options->warmup_ns;
        if (options->background) {
          printf("{\"event\":\"running\"}\n");
          fflush(stdout);
        }
      } else if (phase == SETTING_UP && now - started > SETUP_LIMIT_NS) {
        errno = ETIMEDOUT;
        fail("get bytes through");
      } else if (phase == WARMING_UP) {
        phase = MEASURING;
        window_start = now_ns();
        bytes_start = total;
        own_start = own_cpu();
        for (int i = 0; i < options->pid_count; i++) cpu_start[i] = cpu_seconds(options->pids[i]);
        if (!options->background) next = now + options->window_ns;
      } else if (phase == MEASURING && (!options->background || now - started > options->window_ns || stdin_ended())) {
        double seconds = (double)(now_ns() - window_start) / 1e9;
        printf("{\"event\":\"done\",\"bytes\":%llu,\"seconds\":%.6f,\"lost\":%llu,\"ownCpu\":%.3f,\"cpu\":[",
               (unsigned long long)(total - bytes_start), seconds, (unsigned long long)lost, own_cpu() - own_start);
        for (int i = 0; i < options->pid_count; i++)
          printf("%s%.3f", i ? "," : "", cpu_seconds(options->pids[i]) - cpu_start[i]);
        printf("]}\n");
        return;
      }
    }
    int count = epoll_wait(epoll, events, EVENTS, 5);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      ssize_t moved = options->upload ? send(fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT)
                                      : recv(fd, bytes, sizeof bytes, MSG_TRUNC | MSG_DONTWAIT);
      if (moved > 0) received += (uint64_t)moved;
      else if (moved == 0 || errno != EAGAIN) {
        lost++;
        close(fd);
      }
    }
  }
}

static int by_value(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

// Prints percentiles of samples in units of 10 ns.
static void report_latency(uint32_t *samples, size_t count, double seconds, uint64_t failed) {
  qsort(samples, count, sizeof *samples, by_value);
  static const double points[] = {0.5, 0.9, 0.99, 0.999};
  static const char *names[] = {"p50", "p90", "p99", "p999"};
  printf("{\"event\":\"done\",\"count\":%zu,\"seconds\":%.6f,\"failed\":%llu", count, seconds, (unsigned long long)failed);
  for (int i = 0; i < 4 && count > 0; i++) {
    size_t at = (size_t)(points[i] * (double)count);
    printf(",\"%sUs\":%.2f", names[i], samples[at < count ? at : count - 1] / 100.0);
  }
  if (count > 0) printf(",\"maxUs\":%.2f", samples[count - 1] / 100.0);
  printf("}\n");
}

static uint32_t sample_since(uint64_t start) {
  uint64_t ticks = (now_ns() - start) / 10;
  return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

struct newcomer {
  int fd;
  unsigned name;
  bool connected;
  uint64_t started;
};

// Connections one after another, some at once: connect, hello, first byte back, goodbye, close.
static void run_visitors(const struct options *options) {
  uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
  struct newcomer *newcomers = calloc(options->streams, sizeof *newcomers);
  struct epoll_event events[EVENTS];
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  uint8_t flight[1024], goodbye[GOODBYE_BYTES] = {0x15, 3, 3, 0, GOODBYE_BYTES - 5};
  size_t flight_length = first_flight(options, OP_HELLO, flight), count = 0;
  uint64_t failed = 0;
  unsigned index = 0;
  uint64_t begin = now_ns(), window_start = begin + options->warmup_ns, end = window_start + options->window_ns;
  if (!samples || !newcomers) fail("allocate");
  for (unsigned i = 0; i < options->streams; i++) {
    newcomers[i].fd = -1;
    // Spread over the interval.
    newcomers[i].started = begin - options->interval_ns + options->interval_ns * i / options->streams;
  }
  if (options->background) {
    printf("{\"event\":\"running\"}\n");
    fflush(stdout);
  }
  uint64_t next_look = begin;
  for (;;) {
    uint64_t now = now_ns();
    bool idle = true;
    if (now >= next_look) {
      if (stdin_ended()) break;
      next_look = now + 10000000;
    }
    for (unsigned i = 0; i < options->streams && now < end; i++) {
      struct newcomer *newcomer = &newcomers[i];
      if (newcomer->fd >= 0 || now < newcomer->started + options->interval_ns) continue;
      newcomer->name = options->names ? index % options->names : 0;
      newcomer->fd = open_socket(index++, true);
      newcomer->connected = false;
      newcomer->started = now_ns();
      int done = connect(newcomer->fd, (const struct sockaddr *)&options->to, sizeof options->to);
      if (done < 0 && errno != EINPROGRESS) fail("connect");
      struct epoll_event event = {.events = EPOLLOUT, .data.ptr = newcomer};
      epoll_ctl(epoll, EPOLL_CTL_ADD, newcomer->fd, &event);
    }
    for (unsigned i = 0; i < options->streams; i++) idle = idle && newcomers[i].fd < 0;
    if (now >= end && (idle || now > end + 2000000000ull)) break;
    int ready = epoll_wait(epoll, events, EVENTS, options->interval_ns ? 1 : 10);
    for (int i = 0; i < ready; i++) {
      struct newcomer *newcomer = events[i].data.ptr;
      uint8_t byte;
      if (!newcomer->connected && !(events[i].events & (EPOLLERR | EPOLLHUP))) {
        newcomer->connected = true;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = newcomer};
        epoll_ctl(epoll, EPOLL_CTL_MOD, newcomer->fd, &event);
        if (options->names) flight_length = flight_to(options, newcomer->name, flight);
        if (send(newcomer->fd, flight, flight_length, MSG_NOSIGNAL) == (ssize_t)flight_length) continue;
      } else {
        ssize_t got = recv(newcomer->fd, &byte, 1, 0);
        if (got < 0 && errno == EAGAIN) continue;
        uint64_t arrived = now_ns();
        if (got == 1 && byte == FILLER) {
          if (arrived >= window_start && arrived < end && count < SAMPLES_MAX) samples[count++] = sample_since(newcomer->started);
          if (send(newcomer->fd, goodbye, sizeof goodbye, MSG_NOSIGNAL) < 0) failed++;
          close(newcomer->fd);
          newcomer->fd = -1;
          continue;
        }
      }
      failed++;
      close(newcomer->fd);
      newcomer->fd = -1;
    }
  }
  // Those still waiting failed, unless the end was asked for in the midst of things.
  uint64_t stopped = now_ns();
  for (unsigned i = 0; i < options->streams; i++) failed += newcomers[i].fd >= 0 && stopped >= end;
  if (stopped > end) stopped = end;
  report_latency(samples, count, stopped > window_start ? (double)(stopped - window_start) / 1e9 : 0, failed);
}

// 64 bytes there and back, one after another.
static void run_pingpong(const struct options *options) {
  uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
  uint8_t message[64] = {1};
  size_t count = 0;
  int fd = open_stream(options, OP_ECHO, 0);
  set_deadline(fd, 10);
  uint64_t window_start = now_ns() + options->warmup_ns, end = window_start + options->window_ns;
  for (;;) {
    uint64_t start = now_ns();
    if (start >= end || count == SAMPLES_MAX) break;
    send_all(fd, message, sizeof message);
    if (recv(fd, message, sizeof message, MSG_WAITALL) != (ssize_t)sizeof message) fail("get the echo");
    if (start >= window_start) samples[count++] = sample_since(start);
  }
  report_latency(samples, count, (double)options->window_ns / 1e9, 0);
}

// Visitors one after another, each of whom downloads so many bytes.
static void run_fetch(const struct options *options) {
  uint32_t *samples = malloc(SAMPLES_MAX * sizeof *samples);
  static uint8_t bytes[CHUNK_BYTES];
  size_t count = 0;
  uint64_t begin = now_ns(), end = begin + options->window_ns;
  struct timespec pause = {.tv_sec = (time_t)(options->interval_ns / 1000000000), .tv_nsec = (long)(options->interval_ns % 1000000000)};
  do {
    uint64_t start = now_ns(), received = 0;
    int fd = open_stream(options, OP_DOWNLOAD, (unsigned)count);
    set_deadline(fd, 10);
    while (received < options->bytes) {
      ssize_t got = recv(fd, bytes, sizeof bytes, MSG_TRUNC);
      if (got <= 0) fail("fetch");
      received += (uint64_t)got;
    }
    samples[count++] = sample_since(start);
    close(fd);
    nanosleep(&pause, NULL);
  } while (now_ns() < end && count < SAMPLES_MAX);
  report_latency(samples, count, (double)(now_ns() - begin) / 1e9, 0);
}

// Streams that do nothing, or that ask for bytes and never read them.
static void run_hold(const struct options *options) {
  uint8_t byte;
  for (unsigned i = 0; i < options->streams; i++) {
    int fd = open_stream(options, options->stalled ? OP_DOWNLOAD : OP_HELLO, i);
    set_deadline(fd, 10);
    if (recv(fd, &byte, 1, options->stalled ? MSG_PEEK : 0) != 1 || byte != FILLER) fail("open a stream");
  }
  printf("{\"event\":\"running\"}\n");
  fflush(stdout);
  uint64_t limit = now_ns() + options->window_ns;
  struct timespec pause = {.tv_nsec = 20000000};
  while (!stdin_ended() && now_ns() < limit) nanosleep(&pause, NULL);
}

static void run_connections(const struct options *options) {
  int query = open_query(options);
  printf("{\"event\":\"done\",\"connections\":%llu}\n", (unsigned long long)query_counters(query).connections);
}

static uint64_t parse_ms(const char *text) { return (uint64_t)(atof(text) * 1e6); }

static struct options parse(int argc, char **argv) {
  struct options options = {.mode = argv[0], .streams = 1, .name = "bench.test", .window_ns = 1000000000};
  for (int i = 1; i < argc; i++) {
    const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
    if (!strcmp(flag, "--upload")) options.upload = true;
    else if (!strcmp(flag, "--background")) options.background = true;
    else if (!strcmp(flag, "--stalled")) options.stalled = true;
    else {
      i++;
      if (!strcmp(flag, "--to")) options.to = parse_address(value);
      else if (!strcmp(flag, "--query")) options.query = parse_address(value);
      else if (!strcmp(flag, "--name")) options.name = value;
      else if (!strcmp(flag, "--streams")) options.streams = (unsigned)atoi(value);
      else if (!strcmp(flag, "--names")) options.names = (unsigned)atoi(value);
      else if (!strcmp(flag, "--warmup-ms")) options.warmup_ns = parse_ms(value);
      else if (!strcmp(flag, "--window-ms")) options.window_ns = parse_ms(value);
      else if (!strcmp(flag, "--interval-ms")) options.interval_ns = parse_ms(value);
      else if (!strcmp(flag, "--bytes")) options.bytes = strtoull(value, NULL, 10);
      else if (!strcmp(flag, "--pid") && options.pid_count < PIDS_MAX) options.pids[options.pid_count++] = atoi(value);
      else {
        errno = EINVAL;
        fail("parse the arguments");
      }
    }
  }
  return options;
}

int main(int argc, char **argv) {
  errno = EINVAL;
  if (argc < 2) fail("run: modes are endpoint, http, relay, bulk, visitors, pingpong, fetch, hold, connections");
  if (!strcmp(argv[1], "endpoint")) return run_endpoint(argc - 2, argv + 2);
  if (!strcmp(argv[1], "http")) return run_http(argc - 2, argv + 2);
  if (!strcmp(argv[1], "relay")) return run_relay(argc - 2, argv + 2);
  struct options options = parse(argc - 1, argv + 1);
  if (!strcmp(options.mode, "bulk")) run_bulk(&options);
  else if (!strcmp(options.mode, "visitors")) run_visitors(&options);
  else if (!strcmp(options.mode, "pingpong")) run_pingpong(&options);
  else if (!strcmp(options.mode, "fetch")) run_fetch(&options);
  else if (!strcmp(options.mode, "hold")) run_hold(&options);
  else if (!strcmp(options.mode, "connections")) run_connections(&options);
  else fail("run: no such mode");
  return 0;
}
