// Several saved adapters as one, by the rules of PEFT's add_weighted_adapter. Called by loraine adapter merge.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loraine/adapters/stored/write_low_rank.h"

namespace loraine {

struct CombinationRecipe {
  std::string type = "cat";       // PEFT's combination_type
  std::vector<double> weights;    // one for each adapter
  std::optional<double> density;  // of ties, dare_* and magnitude_prune, with and without _svd
  std::string majority_sign_method = "total";
  std::optional<int64_t> svd_rank;  // of svd and *_svd; none: the largest rank of the adapters
  uint64_t seed = 0;                // of the masks of dare_*
};

std::span<const char* const> combination_types();
bool draws_masks(const std::string& type);  // dare_*
bool takes_density(const std::string& type);
bool ends_in_svd(const std::string& type);

struct Combination {
  WrittenLowRank written;  // scale 1, one rank everywhere
  int64_t rank = 0;
  std::vector<std::string> notes;  // other bases, …
};
// usage for a recipe that does not fit the adapters, naming what; unsupported for adapters that are more than low-rank products. done is
// called after each module.
Combination combine(const std::vector<std::string>& folders, const CombinationRecipe& recipe,
                    const std::function<void(int64_t, int64_t)>& done = {});

// The seed of the masks of a module: the recipe's plus the CRC-32 of its path, so that they do not depend on which other modules there are.
uint64_t mask_seed(uint64_t seed, const std::string& path);

}  // namespace loraine
