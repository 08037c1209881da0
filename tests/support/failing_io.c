/* Preloaded into the program by tests/e2e/crash_test.py: calls on regular files fail with a chosen error. Every write (pwrite and ftruncate
   too), fsync, rename, mmap and create (of a file or folder) is counted, and writes and creates together as `disk`. FAIL_CALL=kind:k:errno
   lets the k-th of a kind fail, FAIL_CALL=kind:k+:errno that one and all later ones; FAIL_COUNTS=FILE gets "kind count" lines at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kWrite, kFsync, kRename, kMmap, kCreate, kDisk, kKinds };
static const char* const names[kKinds] = {"write", "fsync", "rename", "mmap", "create", "disk"};
static long counts[kKinds], fail_at;
static int fail_kind = -1, fail_error, fail_on;

__attribute__((constructor)) static void read_wish(void) {
  const char* wish = getenv("FAIL_CALL");
  char kind[16];
  if (!wish) return;
  if (sscanf(wish, "%15[^:]:%ld+:%d", kind, &fail_at, &fail_error) == 3) fail_on = 1;
  else if (sscanf(wish, "%15[^:]:%ld:%d", kind, &fail_at, &fail_error) != 3) return;
  for (int i = 0; i < kKinds; ++i)
    if (!strcmp(kind, names[i])) fail_kind = i;
}

__attribute__((destructor)) static void tell(void) {
  const char* path = getenv("FAIL_COUNTS");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  for (int i = 0; i < kKinds; ++i) fprintf(file, "%s %ld\n", names[i], counts[i]);
  fclose(file);
}

static int is_due(int kind) {
  long now = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
  return kind == fail_kind && (now == fail_at || (fail_on && now > fail_at));
}

static int fails(int kind) {
  int due = is_due(kind);
  if (kind == kWrite || kind == kCreate) due |= is_due(kDisk);
  if (due) errno = fail_error;
  return due;
}

static int is_file(int fd) {
  struct stat status;
  int before = errno, yes = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  errno = before;
  return yes;
}

static int creates(const char* path, int flags) { return (flags & O_CREAT) && strncmp(path, "/dev/", 5) && strncmp(path, "/proc/", 6); }

#define REAL(name, type, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void* data, size_t bytes) {
  REAL("write", ssize_t, int, const void*, size_t);
  return is_file(fd) && fails(kWrite) ? -1 : real(fd, data, bytes);
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  REAL("pwrite", ssize_t, int, const void*, size_t, off_t);
  return is_file(fd) && fails(kWrite) ? -1 : real(fd, data, bytes, offset);
}

int ftruncate(int fd, off_t size) {
  REAL("ftruncate", int, int, off_t);
  return is_file(fd) && fails(kWrite) ? -1 : real(fd, size);
}

int fsync(int fd) {
  REAL("fsync", int, int);
  return is_file(fd) && fails(kFsync) ? -1 : real(fd);
}

int rename(const char* from, const char* to) {
  REAL("rename", int, const char*, const char*);
  return fails(kRename) ? -1 : real(from, to);
}

int mkdir(const char* path, mode_t mode) {
  REAL("mkdir", int, const char*, mode_t);
  return fails(kCreate) ? -1 : real(path, mode);
}

int open(const char* path, int flags, ...) {
  REAL("open", int, const char*, int, ...);
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return creates(path, flags) && fails(kCreate) ? -1 : real(path, flags, mode);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  REAL("mmap", void*, void*, size_t, int, int, int, off_t);
  return fd >= 0 && is_file(fd) && fails(kMmap) ? MAP_FAILED : real(address, bytes, protection, flags, fd, offset);
}
