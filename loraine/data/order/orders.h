// Orders of samples that depend on a seed, equal to numpy.random; torch's (core/torch_random), of which an epoch e of training takes
// seed + e. Called by data/dataset and train.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "loraine/core/torch_random.h"

namespace loraine {

// numpy.random.default_rng(seed).permutation(n)  (SeedSequence, PCG64).
std::vector<int64_t> numpy_permutation(int64_t n, uint64_t seed);

// LLaMA-Factory's num_samples after numpy.random.seed(seed): the first of numpy.random.permutation(n), then numpy.random.choice(n, rest).
// Sets that are drawn from one after another go on with the same generator.
class LegacySampler {
 public:
  explicit LegacySampler(uint32_t seed) : generator_(seed) {}
  std::vector<int64_t> draw(int64_t n, int64_t num_samples);

 private:
  std::mt19937 generator_;
};

// The seeds that successive calls of datasets' shuffle() take from numpy's global generator after numpy.random.seed(seed): the state's
// word at its place, then one random number is drawn. A shuffle is numpy_permutation(n, seed drawn).
class ShuffleSeeds {
 public:
  explicit ShuffleSeeds(uint32_t seed);
  uint32_t next();

 private:
  void twist();
  std::array<uint32_t, 624> state_;
  size_t place_ = 624;
};

struct Split {
  std::vector<int64_t> train, eval;
};
// val_size < 1: a share (rounded up); otherwise a count. Throws usage when nothing is left on one side.
Split split_rows(int64_t n, double val_size, uint64_t seed);

// How rows of several sets become one list. under: until the first set has ended; over: until all have, those that end start again; once:
// until all have, those that end are passed over.
enum class Mixing : uint8_t { concat, interleave_under, interleave_over, interleave_once };

// Rows of several sets laid in turn: pairs (set, row). probabilities empty: strict turns; otherwise drawn by default_rng(seed).choice, and
// their sum must be 1.
struct SetRow {
  int64_t set = 0, row = 0;
};
std::vector<SetRow> interleave_rows(const std::vector<int64_t>& sizes, const std::vector<double>& probabilities, Mixing mixing,
                                    uint64_t seed);

}  // namespace loraine
