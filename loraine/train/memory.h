// How much memory there is and how much is used, from /proc and the cgroup. Called by plan().
#pragma once
#include <cstddef>

namespace loraine {

size_t resident_size();  // bytes of this process in memory; 0 when unknown
// out_of_memory when `peak` bytes resident exceed the cgroup's limit or the machine's memory, or `more` bytes of address space exceed
// ulimit -v; names what would help.
void check_memory(size_t peak, size_t more);

}  // namespace loraine
