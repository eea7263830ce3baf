/*
 * Pid 1 of one sandbox. bubblewrap builds the outer wall; this program writes the submitted sources into /w, runs the
 * compiler once and then each test, every run in pid, mount and ipc namespaces of its own, with fresh /tmp, /dev/shm and
 * /proc, resource limits, no capabilities, no_new_privs and a seccomp filter that the host sends.
 *
 * Started with the number of control groups to join as its argument: descriptors 5, 6, ... are their open `tasks` or
 * `cgroup.procs`. A process that moves itself, alone in its thread group, waits for nobody (10 us); moved by another, the
 * kernel first waits for a grace period (10 ms, measured, a group).
 *
 * Frames on fd 3, both ways, or with the arguments "stdio UID" on stdin and stdout (container tools pass no other
 * descriptor): u32 type, u32 length, payload; little-endian (x86-64 and arm64 both are). In a container this process is the
 * host's root with few capabilities, and every run takes UID as its uid and gid.
 *   host -> 'S' seccomp filter | 'F' file | 'R' run | 'I' more stdin (streamed run) | 'E' end of stdin
 *   <- host: 'O' stdout chunk, 'P' stderr chunk (streamed or large output) | 'D' done
 * Expected outputs never come here: a program that took this process over could lie about time, not about correctness.
 * The layout of `struct request` and `struct reply` is repeated in protocol.ts.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONTROL 3
#define FIRST_GROUP 5
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif
#define PROGRAM_BYTES "size=134217728,nr_inodes=65536,mode=0755"
#define CHUNK 65536
#define FLAG_COMPILE 1u  /* /w writable and current, instead of read-only with links to it in /tmp */
#define FLAG_STREAM 2u   /* stdin comes in frames, output leaves at once */
#define FLAG_NO_PROC 4u  /* the host's container masks /proc: keep bubblewrap's */

enum kind { EXITED, SIGNALLED, TIMED_OUT, OUTPUT_FULL, BROKEN, EXEC_FAILED };

struct request {
  uint64_t wall_us, cpu_s, data_bytes, address_bytes, stack_bytes, file_bytes, open_files, processes;
  uint64_t stdout_cap, stderr_cap, disk_bytes;
  uint32_t disk_inodes, flags, argc, envc, strings_bytes, stdin_bytes;
};
struct reply {
  uint32_t kind, code;
  uint64_t wall_us, cpu_us, max_rss_kb;
  uint32_t stdout_bytes, stderr_bytes, message_bytes, truncated;
};
struct status {
  uint32_t kind, code;
  uint64_t cpu_us, max_rss_kb;
  char message[96];
};
struct stream {
  char *bytes;
  size_t size, room, total, cap;
};

static int replies = CONTROL; /* where our frames go */
static uid_t program_uid;     /* 0: a run keeps ours */
static struct sock_filter *filter;
static unsigned short filter_length;
static struct rlimit inherited[RLIM_NLIMITS];
static int socket_counts = -1; /* /proc/net/sockstat of the network that the tests share */
static int uses_network;       /* so that each further test gets a network of its own: 0.6 ms that most need not pay */

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void read_all(void *into, size_t size) {
  for (char *at = into; size > 0;) {
    ssize_t got = read(CONTROL, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) _exit(0); /* the host is gone: pid 1 ends, and everything in the sandbox with it */
    at += got;
    size -= (size_t)got;
  }
}

static void write_all(const void *from, size_t size) {
  for (const char *at = from; size > 0;) {
    ssize_t put = write(replies, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) _exit(0);
    at += put;
    size -= (size_t)put;
  }
}

static void *allocate(size_t size) {
  void *block = malloc(size ? size : 1);
  if (!block) _exit(70);
  return block;
}

static void die(int code, const char *what) {
  dprintf(2, "%s: %s\n", what, strerror(errno));
  _exit(code);
}

static void send_frame(uint32_t type, const void *payload, size_t size) {
  uint32_t header[2] = {type, (uint32_t)size};
  write_all(header, sizeof header);
  write_all(payload, size);
}

/* ---- inside the per-test namespaces ---- */

static void fail(int status_fd, enum kind kind, const char *what) {
  struct status s = {.kind = kind, .code = (uint32_t)errno};
  snprintf(s.message, sizeof s.message, "%s: %s", what, strerror(errno));
  (void)!write(status_fd, &s, sizeof s);
  _exit(127);
}

static void limit(int status_fd, int resource, uint64_t soft, uint64_t hard) {
  struct rlimit want = {soft, hard};
  if (want.rlim_max > inherited[resource].rlim_max) want.rlim_max = inherited[resource].rlim_max;
  if (want.rlim_cur > want.rlim_max) want.rlim_cur = want.rlim_max;
  if (setrlimit(resource, &want) < 0) fail(status_fd, BROKEN, "setrlimit");
}

/* The bounding set is empty already: the supervisor emptied its own. */
static void drop_privileges(int status_fd) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (program_uid && (setgroups(0, NULL) < 0 || setresgid(program_uid, program_uid, program_uid) < 0 ||
                      setresuid(program_uid, program_uid, program_uid) < 0))
    fail(status_fd, BROKEN, "setresuid");
  if (syscall(SYS_capset, &header, none) < 0) fail(status_fd, BROKEN, "capset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail(status_fd, BROKEN, "no_new_privs");
  struct sock_fprog program = {filter_length, filter};
  if (filter_length == 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) fail(status_fd, BROKEN, "seccomp");
}

static void exec_program(const struct request *r, char **argv, char **envp, const int stdio[3], int status_fd) {
  if (setsid() < 0) fail(status_fd, BROKEN, "setsid");
  for (int fd = 0; fd < 3; fd++)
    if (dup2(stdio[fd], fd) < 0) fail(status_fd, BROKEN, "dup2");
  (void)syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC); /* all are so already; an old kernel refuses */
  /* A process that may not be dumped does not own its /proc entry; nothing of the program runs yet. exec resets both. */
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) (void)!write(score, "1000", 4);
  if (score >= 0) close(score);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  /* The score could be lowered again, and pid 1 be reached through its files: nobody writes to /proc from here on. */
  if (mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 &&
      !(r->flags & FLAG_NO_PROC))
    fail(status_fd, BROKEN, "read-only /proc");
  signal(SIGPIPE, SIG_DFL);
  if (chdir(r->flags & FLAG_COMPILE ? "/w" : "/tmp") < 0) fail(status_fd, BROKEN, "chdir");
  limit(status_fd, RLIMIT_CPU, r->cpu_s, r->cpu_s + 1);
  limit(status_fd, RLIMIT_NPROC, r->processes, r->processes);
  limit(status_fd, RLIMIT_NOFILE, r->open_files, r->open_files);
  limit(status_fd, RLIMIT_FSIZE, r->file_bytes, r->file_bytes);
  limit(status_fd, RLIMIT_STACK, r->stack_bytes, r->stack_bytes);
  limit(status_fd, RLIMIT_DATA, r->data_bytes, r->data_bytes);
  limit(status_fd, RLIMIT_AS, r->address_bytes, r->address_bytes);
  environ = envp;
  /* `print({})` shows an address, and feedback shows it to the policy: the same each time, or no run could be repeated.
     Some containers refuse the call; then addresses differ, and nothing else. */
  (void)!personality(ADDR_NO_RANDOMIZE);
  drop_privileges(status_fd);
  execvp(argv[0], argv);
  fail(status_fd, EXEC_FAILED, argv[0]);
}

static void link_program_files(void) {
  DIR *folder = opendir("/w");
  if (!folder) return; /* closed by what the compiler ran: the program's own loss */
  for (struct dirent *entry; (entry = readdir(folder));) {
    char from[300], to[300];
    if (entry->d_name[0] == '.' && (!entry->d_name[1] || entry->d_name[1] == '.')) continue;
    snprintf(from, sizeof from, "/w/%s", entry->d_name);
    snprintf(to, sizeof to, "/tmp/%s", entry->d_name);
    (void)!symlink(from, to);
  }
  closedir(folder);
}

static void mount_fresh(const struct request *r, int status_fd) {
  char options[96];
  const unsigned long safe = MS_NOSUID | MS_NODEV;
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail(status_fd, BROKEN, "private mounts");
  snprintf(options, sizeof options, "mode=1777,size=%llu,nr_inodes=%u", (unsigned long long)r->disk_bytes, r->disk_inodes);
  if (mount("tmp", "/tmp", "tmpfs", safe, options) < 0) fail(status_fd, BROKEN, "mount /tmp");
  if (mount("shm", "/dev/shm", "tmpfs", safe, options) < 0) fail(status_fd, BROKEN, "mount /dev/shm");
  if (!(r->flags & FLAG_NO_PROC) && mount("proc", "/proc", "proc", safe | MS_NOEXEC, NULL) < 0)
    fail(status_fd, BROKEN, "mount /proc");
  if (r->flags & FLAG_COMPILE) return;
  if (mount(NULL, "/w", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL) < 0) fail(status_fd, BROKEN, "read-only /w");
  link_program_files();
}

static void raise_loopback(int status_fd) {
  struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0) fail(status_fd, BROKEN, "loopback");
  close(fd);
}

static void unmount_large(const char *place) {
  struct statfs used;
  if (statfs(place, &used) == 0 && (used.f_blocks - used.f_bfree) * (uint64_t)used.f_bsize > 1 << 20) umount2(place, 0);
}

/* Pid 1 of one test, so that the program is not: pid 1 ignores signals that it sends to itself. */
static void test_init(const struct request *r, char **argv, char **envp, const int stdio[3], int status_fd,
                      const int ours[4]) {
  struct status s = {0};
  struct rusage usage;
  int state = 0;
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  close(CONTROL), close(socket_counts);
  for (int i = 0; i < 4; i++) close(ours[i]); /* above all the pipe into the program, or it never sees an end */
  mount_fresh(r, status_fd);
  if (uses_network) raise_loopback(status_fd);
  pid_t program = fork();
  if (program < 0) fail(status_fd, BROKEN, "fork");
  if (program == 0) exec_program(r, argv, envp, stdio, status_fd);
  for (int fd = 0; fd < 3; fd++) close(stdio[fd]);
  for (pid_t got; (got = waitpid(-1, &state, __WALL)) != program;)
    if (got < 0 && errno != EINTR) fail(status_fd, BROKEN, "waitpid");
  /* The test ends with its main process. Survivors die here, so that their time is counted with the tree's. */
  if (waitpid(-1, NULL, WNOHANG | __WALL) >= 0) {
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR) continue;
  }
  /* Left to the kernel, a large /tmp is freed some time after the reply, and counts against the next test. */
  if (!(r->flags & FLAG_COMPILE)) unmount_large("/tmp"), unmount_large("/dev/shm");
  getrusage(RUSAGE_CHILDREN, &usage);
  s.kind = WIFSIGNALED(state) ? SIGNALLED : EXITED;
  s.code = (uint32_t)(WIFSIGNALED(state) ? WTERMSIG(state) : WEXITSTATUS(state));
  s.cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
             (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  s.max_rss_kb = (uint64_t)usage.ru_maxrss;
  (void)!write(status_fd, &s, sizeof s);
  _exit(0);
}

/* ---- the supervisor's own side ---- */

static void keep(struct stream *s, const char *bytes, size_t size) {
  size_t free_room = s->total < s->cap ? s->cap - s->total : 0;
  size_t kept = size < free_room ? size : free_room;
  s->total += size;
  if (s->size + kept > s->room) {
    s->room = (s->size + kept) * 2;
    s->bytes = realloc(s->bytes, s->room);
    if (!s->bytes) _exit(70);
  }
  memcpy(s->bytes + s->size, bytes, kept);
  s->size += kept;
}

static void flush(struct stream *s, uint32_t type) {
  if (s->size > 0) send_frame(type, s->bytes, s->size);
  s->size = 0;
}

/* Reads what is there without waiting: 1 data, 0 nothing now, -1 end. */
static int take(int fd, struct stream *s, uint32_t type, int at_once) {
  static char buffer[CHUNK];
  ssize_t got = read(fd, buffer, sizeof buffer);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  if (got == 0) return -1;
  keep(s, buffer, (size_t)got);
  if (at_once || s->size >= CHUNK) flush(s, type);
  return 1;
}

static void close_fd(struct pollfd *p) {
  if (p->fd >= 0) close(p->fd);
  p->fd = -1;
}

struct input {
  char *bytes;
  size_t size, at;
  int is_open;
};

/* A connection that an earlier test closed keeps its port for a minute: the next one would find it taken. */
static int left_connections(void) {
  char text[512];
  ssize_t size = socket_counts < 0 ? -1 : pread(socket_counts, text, sizeof text - 1, 0);
  if (size <= 0) return 0;
  text[size] = 0;
  const char *waiting = strstr(text, " tw ");
  return waiting && atoi(waiting + 4) > 0;
}

/* One 'I' or 'E' frame of a streamed run; a frame comes only after the earlier one has been written out. */
static void next_input(struct input *in) {
  uint32_t header[2];
  read_all(header, sizeof header);
  free(in->bytes);
  in->bytes = allocate(header[1]);
  read_all(in->bytes, header[1]);
  in->size = header[0] == 'I' ? header[1] : 0;
  in->at = 0;
  if (header[0] == 'E') in->is_open = 0;
}

static void supervise(const struct request *r, char **argv, char **envp, char *stdin_bytes) {
  int to[2], out[2], err[2], status_pipe[2];
  struct reply reply = {.kind = BROKEN};
  struct status s = {.kind = BROKEN};
  struct stream stdout_stream = {.cap = r->stdout_cap}, stderr_stream = {.cap = r->stderr_cap};
  const int streamed = (r->flags & FLAG_STREAM) != 0;
  struct input in = {stdin_bytes, r->stdin_bytes, 0, streamed};
  while (waitpid(-1, NULL, WNOHANG | __WALL) > 0) continue; /* earlier tests, reaped late */
  if (!uses_network) uses_network = left_connections();
  if (pipe2(to, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(status_pipe, O_CLOEXEC)) _exit(71);
  const int stdio[3] = {to[0], out[1], err[1]}, ours[4] = {to[1], out[0], err[0], status_pipe[0]};
  const uint64_t start = now_us(), deadline = start + r->wall_us;
  const int fresh = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | (uses_network ? CLONE_NEWNET : 0);
  const pid_t init = (pid_t)syscall(SYS_clone, SIGCHLD | fresh, 0, 0, 0, 0);
  if (init == 0) test_init(r, argv, envp, stdio, status_pipe[1], ours);
  if (init < 0) s.code = (uint32_t)errno, snprintf(s.message, sizeof s.message, "clone: %s", strerror(errno));
  close(to[0]), close(out[1]), close(err[1]), close(status_pipe[1]);
  fcntl(to[1], F_SETFL, O_NONBLOCK), fcntl(out[0], F_SETFL, O_NONBLOCK), fcntl(err[0], F_SETFL, O_NONBLOCK);
  struct pollfd p[5] = {{to[1], 0, 0}, {out[0], POLLIN, 0}, {err[0], POLLIN, 0}, {status_pipe[0], POLLIN, 0}, {CONTROL, 0, 0}};
  int running = init > 0, forced = 0;
  while (running) {
    const uint64_t now = now_us();
    if (now >= deadline) {
      s.kind = TIMED_OUT, forced = 1;
      break;
    }
    if (in.at == in.size && !in.is_open) close_fd(&p[0]);
    p[0].events = in.at < in.size ? POLLOUT : 0;
    p[4].events = in.is_open && in.at == in.size ? POLLIN : 0;
    if (poll(p, 5, (int)((deadline - now) / 1000) + 1) < 0) continue;
    if (p[4].revents & (POLLHUP | POLLERR)) _exit(0);
    if (p[4].revents & POLLIN) next_input(&in);
    if (p[0].revents & (POLLERR | POLLHUP)) close_fd(&p[0]), in.at = in.size; /* nobody reads: not the program's fault */
    else if (p[0].revents & POLLOUT) {
      ssize_t put = write(p[0].fd, in.bytes + in.at, in.size - in.at);
      if (put > 0) in.at += (size_t)put;
      else if (put < 0 && errno != EAGAIN) close_fd(&p[0]), in.at = in.size;
    }
    if (p[1].revents && take(p[1].fd, &stdout_stream, 'O', streamed) < 0) close_fd(&p[1]);
    if (p[2].revents && take(p[2].fd, &stderr_stream, 'P', streamed) < 0) close_fd(&p[2]);
    if (stdout_stream.total > stdout_stream.cap) {
      s.kind = OUTPUT_FULL, forced = 1;
      break;
    }
    if (p[3].revents) {
      if (read(p[3].fd, &s, sizeof s) != (ssize_t)sizeof s) s.kind = BROKEN, strcpy(s.message, "the test's init died"), forced = 1;
      running = 0;
    }
  }
  reply.wall_us = now_us() - start;
  /* All of them, not their init alone: it may have been made to run behind every process that spins. */
  if (init > 0) kill(forced ? -1 : init, SIGKILL);
  for (int rounds = 0; p[1].fd >= 0 && rounds < 4096 && stdout_stream.total <= stdout_stream.cap; rounds++)
    if (take(p[1].fd, &stdout_stream, 'O', streamed) <= 0) break;
  for (int rounds = 0; p[2].fd >= 0 && rounds < 64; rounds++)
    if (take(p[2].fd, &stderr_stream, 'P', streamed) <= 0) break;
  if (stdout_stream.total > stdout_stream.cap && s.kind <= SIGNALLED) s.kind = OUTPUT_FULL;
  for (int i = 0; i < 4; i++) close_fd(&p[i]);
  reply.kind = s.kind, reply.code = s.code, reply.cpu_us = s.cpu_us, reply.max_rss_kb = s.max_rss_kb;
  reply.stdout_bytes = (uint32_t)stdout_stream.size, reply.stderr_bytes = (uint32_t)stderr_stream.size;
  reply.message_bytes = (uint32_t)strnlen(s.message, sizeof s.message);
  reply.truncated = stderr_stream.total > stderr_stream.cap;
  uint32_t header[2] = {'D', (uint32_t)sizeof reply + reply.stdout_bytes + reply.stderr_bytes + reply.message_bytes};
  const size_t total = sizeof header + header[1];
  char *frame = allocate(total), *at = frame;
  at = mempcpy(at, header, sizeof header);
  at = mempcpy(at, &reply, sizeof reply);
  at = mempcpy(at, stdout_stream.bytes, reply.stdout_bytes);
  at = mempcpy(at, stderr_stream.bytes, reply.stderr_bytes);
  memcpy(at, s.message, reply.message_bytes);
  write_all(frame, total); /* reply first; the namespace is torn down and reaped later */
  if (init > 0 && forced) waitpid(init, NULL, __WALL); /* a killed tree may be large: it must not slow the next test */
  free(frame), free(stdout_stream.bytes), free(stderr_stream.bytes), free(in.bytes);
}

static char **split(char **at, const char *end, uint32_t count) {
  char **list = allocate((count + 1) * sizeof *list);
  for (uint32_t i = 0; i < count; i++) {
    if (*at >= end) _exit(72);
    list[i] = *at;
    *at += strlen(*at) + 1;
  }
  list[count] = NULL;
  return list;
}

static void handle_run(uint32_t size) {
  struct request r;
  if (size < sizeof r) _exit(72);
  read_all(&r, sizeof r);
  if (size != sizeof r + r.strings_bytes + (uint64_t)r.stdin_bytes || r.strings_bytes == 0) _exit(72);
  char *strings = allocate(r.strings_bytes), *stdin_bytes = allocate(r.stdin_bytes), *at = strings;
  read_all(strings, r.strings_bytes);
  strings[r.strings_bytes - 1] = 0;
  read_all(stdin_bytes, r.stdin_bytes);
  char **argv = split(&at, strings + r.strings_bytes, r.argc), **envp = split(&at, strings + r.strings_bytes, r.envc);
  supervise(&r, argv, envp, stdin_bytes);
  free(argv), free(envp), free(strings);
}

/* Payload: u32 length of the name, the name (no slash), the bytes. */
static void handle_file(uint32_t size) {
  char *payload = allocate(size), path[300];
  uint32_t name_bytes;
  read_all(payload, size);
  memcpy(&name_bytes, payload, sizeof name_bytes);
  if (size < 4 || name_bytes > 250 || name_bytes + 4 > size) _exit(72);
  snprintf(path, sizeof path, "/w/%.*s", (int)name_bytes, payload + 4);
  unlink(path); /* a compiler may have put anything there, a FIFO that nobody reads */
  int fd = strchr(path + 3, '/') ? -1 : open(path, O_CREAT | O_WRONLY | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) die(73, path);
  for (size_t at = 4 + name_bytes; at < size;) {
    ssize_t put = write(fd, payload + at, size - at);
    if (put <= 0) die(73, path);
    at += (size_t)put;
  }
  close(fd);
  free(payload);
}

/* What every process of the sandbox inherits, set once. Without a core limit of 1 a host whose core_pattern is a pipe
   starts its handler, as root, for each crash: the kernel ignores 0 there (core(5)). */
static void tighten(void) {
  const struct { int resource; rlim_t most; } fixed[] = {
      {RLIMIT_CORE, 1}, {RLIMIT_MEMLOCK, 0}, {RLIMIT_MSGQUEUE, 0}, {RLIMIT_RTPRIO, 0}, {RLIMIT_NICE, 0}, {RLIMIT_SIGPENDING, 1024}};
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
    struct rlimit now, want = {fixed[i].most, fixed[i].most};
    if (getrlimit(fixed[i].resource, &now) < 0 || now.rlim_max < want.rlim_max) want.rlim_cur = want.rlim_max = now.rlim_max;
    if (setrlimit(fixed[i].resource, &want) < 0) die(74, "setrlimit");
  }
  for (int resource = 0; resource < RLIM_NLIMITS; resource++) getrlimit(resource, &inherited[resource]);
  for (int cap = 0; cap <= 63 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++) continue;
  if (prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) != 0) die(74, "bounding set");
}

/* bubblewrap can bound neither the files in a tmpfs nor the terminals of its /dev/pts, of which the host has 4096. */
static void mount_own(void) {
  const unsigned long safe = MS_NOSUID | MS_NODEV;
  if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) die(74, "mount namespace");
  if (mount("w", "/w", "tmpfs", safe, PROGRAM_BYTES) < 0) die(74, "mount /w");
  if (program_uid && chmod("/w", 01777) < 0) die(74, "chmod /w");
  (void)!mount("pts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,mode=0620,ptmxmode=0666,max=16");
  if (chdir("/w") < 0) die(74, "chdir /w");
}

/* Our frames on descriptors of their own, so that stdin and stdout are free to be nobody's. */
static void use_stdio(const char *uid) {
  program_uid = (uid_t)strtoul(uid, NULL, 10);
  replies = CONTROL + 1;
  if (program_uid == 0 || dup2(0, CONTROL) < 0 || dup2(1, replies) < 0) _exit(74);
  fcntl(CONTROL, F_SETFL, 0), fcntl(replies, F_SETFL, 0); /* blocking, whatever the container tool made of them */
  int nothing = open("/dev/null", O_RDWR);
  if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(nothing, 1) < 0) _exit(74);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "nothing") == 0) return 0; /* a program that every image has, for the probe */
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* inherited over fork, reset by exec: nobody may trace us or read our /proc */
  const int groups = argc > 1 ? atoi(argv[1]) : 0;
  for (int fd = FIRST_GROUP; fd < FIRST_GROUP + groups; fd++)
    if (write(fd, "0", 1) != 1) die(74, "no cgroup");
  if (argc == 3 && strcmp(argv[1], "stdio") == 0) use_stdio(argv[2]);
  const int foreign = replies + 1; /* the groups, and whatever the host's processes passed down */
  if (syscall(SYS_close_range, (unsigned)foreign, ~0u, 0) < 0)
    for (int fd = foreign; fd < 4096; fd++) close(fd);
  fcntl(CONTROL, F_SETFD, FD_CLOEXEC), fcntl(replies, F_SETFD, FD_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int number = 1; number < 65; number++) signal(number, number == SIGPIPE ? SIG_IGN : SIG_DFL);
  umask(022);
  if (prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) == 1) /* a container may have no right to make a network */
    socket_counts = open("/proc/net/sockstat", O_RDONLY | O_CLOEXEC);
  tighten();
  mount_own();
  for (;;) {
    uint32_t header[2];
    read_all(header, sizeof header);
    if (header[0] == 'R') handle_run(header[1]);
    else if (header[0] == 'F') handle_file(header[1]);
    else if (header[0] == 'S') {
      filter = allocate(header[1]);
      read_all(filter, header[1]);
      filter_length = (unsigned short)(header[1] / sizeof *filter);
    } else if (header[0] == 'I' || header[0] == 'E') { /* stdin that came after its program ended */
      char *late = allocate(header[1]);
      read_all(late, header[1]);
      free(late);
    } else _exit(72);
  }
}
