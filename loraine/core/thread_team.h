// The threads that compute for a thread, in place of the OpenMP runtime's: its loops end only when every thread of the pool has come, and
// on a busy machine a thread that was put off keeps the others waiting though it has nothing to do. Here a thread that does not come is not
// waited for; those that wait turn for a moment and then sleep. Called by parallel_for.
#pragma once

namespace loraine {

// Loops that this thread began and their items, for those who count what a step costs (tests/speed/step_costs.cpp).
struct LoopCounts {
  long loops = 0, items = 0;
};
extern constinit thread_local LoopCounts loop_counts;

// Starts the threads of this thread's team, of thread_count() threads with itself. Throws std::system_error when one cannot be started.
void start_team();

namespace detail {
void run_in_team(int threads, void (*work)(const void*), const void* what);
}

// Calls work() on this thread and, at the same time, on up to `threads` − 1 others of its team, of which some may come late or not at all:
// work takes its share until nothing is left. Returns when all calls that began have ended. Calls within work run on the caller alone. work
// must not throw.
template <class Work>
void run_in_team(int threads, const Work& work) {
  detail::run_in_team(
      threads, [](const void* what) { (*static_cast<const Work*>(what))(); }, &work);
}

}  // namespace loraine
