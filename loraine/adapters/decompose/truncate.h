// A matrix, or a product of low rank, cut to the largest singular triplets that a rank or a share of the energy asks for. Called by resize
// and extract.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "loraine/adapters/low_rank.h"
#include "loraine/adapters/stored/low_rank_file.h"

namespace loraine {

// One of them, or both: the rank is then the most that the energy may take.
struct RankChoice {
  std::optional<int64_t> rank;
  std::optional<double> energy;  // share of ‖ΔW‖²_F, from above 0 to 1
};
void check_choice(const RankChoice& choice);  // throws usage

// How many of the largest singular values are kept, of those found; all: ‖ΔW‖²_F. 0 for a matrix of zeros.
int64_t kept_rank(std::span<const float> values, double all, const RankChoice& choice);

struct KeptEnergy {
  std::string path;
  int64_t before = 0, after = 0;  // ranks; before: 0 of a whole matrix
  double norm = 0;                // ‖ΔW‖_F
  double kept = 1;                // share of ‖ΔW‖²_F; 1 for a matrix of zeros
};

// The first `r` triplets of f (which has `found`) as a module of scale 1, both factors with the roots of the singular values.
LowRankModule balanced(const std::string& path, bool embedding, int64_t out, int64_t in, const Factors& f, int64_t found, int64_t r);

}  // namespace loraine
