// The values that the codes of ggml's I-quants number: eight, or four, neighbours at once, a byte each, the first in the lowest. Facts of
// the format: grid_hex and grid_map of the package gguf, ggml-common.h.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace loraine {

extern const std::array<uint64_t, 256> kIq2XxsGrid;
extern const std::array<uint64_t, 512> kIq2XsGrid;
extern const std::array<uint64_t, 1024> kIq2SGrid;
extern const std::array<uint64_t, 2048> kIq1Grid;  // of IQ1_S and IQ1_M; int8
extern const std::array<uint32_t, 256> kIq3XxsGrid;
extern const std::array<uint32_t, 512> kIq3SGrid;

}  // namespace loraine
