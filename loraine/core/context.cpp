// Thread count and start of the threads.
#include "loraine/core/context.h"

#include <omp.h>
#include <sys/mman.h>

#include <string>
#include <system_error>

#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/core/thread_team.h"

namespace loraine {

int thread_count() { return omp_get_max_threads(); }

void start_threads() {
  try {
    start_team();
  } catch (const std::system_error& error) {
    throw Error(ErrorKind::out_of_memory, std::to_string(thread_count()) + " threads cannot be started: " + error.code().message(),
                "raise the limits of address space and of processes (ulimit -v, ulimit -u), or set OMP_NUM_THREADS=1");
  }
  have_signal_stack();
  // oneDNN does not survive being refused the memory for the code that it makes.
  constexpr size_t kRoom = 16u << 20;
  void* room = mmap(nullptr, kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED)
    throw Error(ErrorKind::out_of_memory, "less than 16 MiB of address space are left after the start", "raise its limit (ulimit -v)");
  munmap(room, kRoom);
}

}  // namespace loraine
