// Races of emulated kernels: two threads touch a byte of shared or device memory, one of them writing, with no barrier in between. Found in
// any order of threads, since every access is looked at: kernels compiled with -fsanitize=thread call the functions of races.cpp instead of
// those of the compiler's own library.
#pragma once
#include <string>
#include <vector>

namespace loraine::emulate {

// Each pair of places in the code once: "sums: read after write of byte 4 of shared memory: thread 3 of block 0 …". Forgets them.
std::vector<std::string> take_races();
bool races_watched();  // whether any access of a kernel has come here

}  // namespace loraine::emulate
