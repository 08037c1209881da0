// Random numbers as torch's generator on the CPU gives them. Called by apollo.cpp.
#pragma once
#include <cstdint>
#include <span>

namespace loraine {

// torch.randn(n, generator seeded with `seed`), to the last bits of its logarithm and cosine.
void torch_normal(std::span<float> out, uint64_t seed);
// The last of torch.randint(0, 2⁶³ − 1, (15,), generator seeded with `seed`): the seed that apollo-torch takes next.
uint64_t next_torch_seed(uint64_t seed);

}  // namespace loraine
