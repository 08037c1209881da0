// Thread count and start of the OpenMP pool.
#include "loraine/core/context.h"

#include <omp.h>
#include <sys/mman.h>

#include <latch>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/signals.h"

namespace loraine {

int thread_count() { return omp_get_max_threads(); }

void start_threads() {
  const int count = thread_count() - 1;
  std::latch go(1);
  std::vector<std::thread> tried;  // all at once, as the pool will have them; their stacks are used again by it
  std::string failure;
  try {
    tried.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) tried.emplace_back([&go] { go.wait(); });
  } catch (const std::system_error& error) { failure = error.code().message(); }
  go.count_down();
  for (std::thread& thread : tried) thread.join();
  if (!failure.empty())
    throw Error(ErrorKind::out_of_memory,
                "only " + std::to_string(tried.size() + 1) + " of " + std::to_string(count + 1) + " threads can be started: " + failure,
                "raise the limits of address space and of processes (ulimit -v, ulimit -u), or set OMP_NUM_THREADS=1");
#pragma omp parallel
  have_signal_stack();
  // oneDNN does not survive being refused the memory for the code that it makes.
  constexpr size_t kRoom = 16u << 20;
  void* room = mmap(nullptr, kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED)
    throw Error(ErrorKind::out_of_memory, "less than 16 MiB of address space are left after the start", "raise its limit (ulimit -v)");
  munmap(room, kRoom);
}

}  // namespace loraine
