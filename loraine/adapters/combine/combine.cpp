// Module by module: A and B by themselves, laid end to end, or ΔW and its largest singular triplets.
#include "loraine/adapters/combine/combine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "loraine/adapters/combine/task_arithmetic.h"
#include "loraine/adapters/low_rank.h"
#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

constexpr const char* kCombinationTypes[] = {"cat",
                                             "linear",
                                             "svd",
                                             "ties",
                                             "dare_linear",
                                             "dare_ties",
                                             "magnitude_prune",
                                             "ties_svd",
                                             "dare_linear_svd",
                                             "dare_ties_svd",
                                             "magnitude_prune_svd"};

using Files = std::vector<std::unique_ptr<LowRankFile>>;

// A module in those of the adapters that have it, and with which weight.
struct SharedModule {
  std::vector<LowRankModule> parts;
  std::vector<double> weights;
};

[[noreturn]] void unfit(const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); }

MergeRule rule_of(std::string type) {
  if (type.ends_with("_svd")) type.resize(type.size() - 4);
  return type == "ties"              ? MergeRule::ties
         : type == "dare_linear"     ? MergeRule::dare_linear
         : type == "dare_ties"       ? MergeRule::dare_ties
         : type == "magnitude_prune" ? MergeRule::magnitude_prune
                                     : MergeRule::sum;
}

// The largest rank that the config gives a module, as PEFT counts it.
int64_t rank_of(const LowRankFile& file) {
  int64_t r = file.config().adalora ? file.config().adalora->init_r : file.config().r;
  for (const auto& [name, rank] : file.config().rank_pattern) r = std::max(r, rank);
  return r;
}

int64_t combined_rank(const Files& files, const CombinationRecipe& recipe) {
  int64_t sum = 0, largest = 0;
  for (const auto& file : files) sum += rank_of(*file), largest = std::max(largest, rank_of(*file));
  if (recipe.type == "cat") return sum;
  if (ends_in_svd(recipe.type)) return recipe.svd_rank.value_or(largest);
  for (const auto& file : files)
    if (rank_of(*file) != largest)
      unfit(fmt::format("combination_type {} adds A to A and B to B, and the ranks differ: {} has {}, another {}", recipe.type,
                        file->folder(), rank_of(*file), largest),
            "choose cat or one of the types that end in svd, or make the ranks alike with loraine adapter resize");
  return largest;
}

// PEFT joins lists of names; where one of the adapters chooses its modules in another way, the paths say it exactly.
std::vector<std::string> joined_targets(const Files& files) {
  std::set<std::string> names;
  for (const auto& file : files) {
    const LoraConfig& c = file->config();
    if (!c.target_regex.empty() || !c.exclude_regex.empty() || !c.exclude_modules.empty() || !c.layers_to_transform.empty() ||
        std::ranges::find(c.target_modules, kAllLinear) != c.target_modules.end())
      return {};
    names.insert(c.target_modules.begin(), c.target_modules.end());
  }
  return {names.begin(), names.end()};
}

SharedModule read_module(const Files& files, const std::vector<double>& weights, const std::string& path) {
  SharedModule out;
  for (size_t f = 0; f < files.size(); ++f) {
    const LowRankPlace* place = files[f]->find(path);
    if (!place) continue;
    out.parts.push_back(files[f]->read(*place));
    out.weights.push_back(weights[f]);
    const LowRankModule &first = out.parts.front(), &last = out.parts.back();
    if (first.in != last.in || first.out != last.out || first.embedding != last.embedding)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: {} is for a matrix of [{}, {}], and another adapter's for one of [{}, {}]", files[f]->folder(), path,
                              last.out, last.in, first.out, first.in),
                  "adapters of one base can be merged");
  }
  return out;
}

LowRankModule laid_out(const SharedModule& shared, int64_t r) {
  const LowRankModule& first = shared.parts.front();
  return {first.path,
          first.embedding,
          first.in,
          first.out,
          r,
          1,
          std::vector<float>(static_cast<size_t>(r * first.in)),
          std::vector<float>(static_cast<size_t>(first.out * r))};
}

// A's rows one below the other, with weight and scale; B's columns one beside the other.
LowRankModule concatenated(const SharedModule& shared, int64_t r) {
  LowRankModule out = laid_out(shared, r);
  int64_t first = 0;
  for (size_t p = 0; p < shared.parts.size(); ++p) {
    const LowRankModule& part = shared.parts[p];
    // as torch: first by the weight, then by the scale, each rounded to f32
    const auto weight = static_cast<float>(shared.weights[p]), scale = static_cast<float>(part.scale);
    for (int64_t i = 0; i < part.r * part.in; ++i)
      out.a[static_cast<size_t>(first * part.in + i)] = part.a[static_cast<size_t>(i)] * weight * scale;
    for (int64_t o = 0; o < part.out; ++o) std::copy_n(part.b.data() + o * part.r, part.r, out.b.data() + o * r + first);
    first += part.r;
  }
  return out;
}

LowRankModule by_factors(SharedModule& shared, int64_t r, const MergeOptions& options, std::mt19937& random) {
  std::vector<std::vector<float>> a, b;
  std::vector<float> weights_a, weights_b;
  for (size_t p = 0; p < shared.parts.size(); ++p) {
    LowRankModule& part = shared.parts[p];
    if (part.r != shared.parts.front().r)
      unfit(fmt::format("{}: the ranks differ, {} and {}", part.path, part.r, shared.parts.front().r),
            "choose cat or one of the types that end in svd");
    const double whole = shared.weights[p] * part.scale, root = std::sqrt(std::abs(whole));
    weights_a.push_back(static_cast<float>(whole >= 0 ? root : -root));  // the sign once, else it would cancel
    weights_b.push_back(static_cast<float>(root));
    a.push_back(std::move(part.a));
    b.push_back(std::move(part.b));
  }
  LowRankModule out = laid_out(shared, shared.parts.front().r);
  out.a = merged_tensor(a, weights_a, options, random);
  out.b = merged_tensor(b, weights_b, options, random);
  pad_rank(out, r);
  return out;
}

std::vector<float> delta_of(Context& ctx, LowRankModule& part) {
  std::vector<float> delta(static_cast<size_t>(part.out * part.in));
  matmul_nn(ctx, Tensor(delta.data(), Dtype::F32, {part.out, part.in}), Tensor(part.b.data(), Dtype::F32, {part.out, part.r}),
            Tensor(part.a.data(), Dtype::F32, {part.r, part.in}), static_cast<float>(part.scale), 0);
  return delta;
}

// B = U S, A = V of the largest triplets, as PEFT writes them.
LowRankModule from_triplets(const SharedModule& shared, const Factors& f, int64_t found, int64_t r) {
  LowRankModule out = laid_out(shared, r);
  for (int64_t k = 0; k < std::min(found, r); ++k) {
    std::copy_n(f.right.data() + k * out.in, out.in, out.a.data() + k * out.in);
    for (int64_t o = 0; o < out.out; ++o)
      out.b[static_cast<size_t>(o * r + k)] = f.left[static_cast<size_t>(o * found + k)] * f.values[static_cast<size_t>(k)];
  }
  return out;
}

LowRankModule by_svd(SharedModule& shared, int64_t r, const MergeOptions& options, std::mt19937& random) {
  Context ctx;
  const int64_t out = shared.parts.front().out, in = shared.parts.front().in;
  if (options.rule == MergeRule::sum) {  // the sum is a product of low rank itself
    int64_t ranks = 0;
    for (const LowRankModule& part : shared.parts) ranks += part.r;
    if (ranks == 0) return laid_out(shared, r);
    LowRankModule whole = concatenated(shared, ranks);
    const Factors f =
        singular_of_product(ctx, Tensor(whole.b.data(), Dtype::F32, {out, ranks}), Tensor(whole.a.data(), Dtype::F32, {ranks, in}));
    return from_triplets(shared, f, static_cast<int64_t>(f.values.size()), r);
  }
  std::vector<std::vector<float>> deltas;
  std::vector<float> weights;
  for (size_t p = 0; p < shared.parts.size(); ++p) {
    deltas.push_back(delta_of(ctx, shared.parts[p]));
    weights.push_back(static_cast<float>(shared.weights[p]));
  }
  std::vector<float> sum = merged_tensor(deltas, weights, options, random);
  const int64_t found = std::min({r, out, in});
  const Factors f = largest_singular(ctx, Tensor(sum.data(), Dtype::F32, {out, in}), found);
  return from_triplets(shared, f, found, r);
}

void check_recipe(const CombinationRecipe& recipe, size_t adapters) {
  if (std::ranges::find(kCombinationTypes, recipe.type) == std::end(kCombinationTypes))
    unfit(fmt::format("combination_type is {}", recipe.type), fmt::format("one of: {}", fmt::join(kCombinationTypes, ", ")));
  if (recipe.weights.size() != adapters)
    unfit(fmt::format("weights has {} value{} for {} adapters", recipe.weights.size(), recipe.weights.size() == 1 ? "" : "s", adapters),
          "give one for each, in their order: --weights 0.7,0.3");
  for (const double weight : recipe.weights)
    if (!std::isfinite(weight)) unfit("weights holds what is no finite number", "give one for each adapter: --weights 0.7,0.3");
  if (adapters > 1 && takes_density(recipe.type) != recipe.density.has_value())
    unfit(takes_density(recipe.type) ? fmt::format("combination_type {} needs density, the share of values that are kept", recipe.type)
                                     : fmt::format("density is given, and combination_type {} keeps all values", recipe.type),
          takes_density(recipe.type) ? "for example --density 0.5"
                                     : "leave it out, or choose ties, dare_linear, dare_ties, magnitude_prune or theirs with _svd");
  if (recipe.density && !(*recipe.density > 0 && *recipe.density <= 1))
    unfit(fmt::format("density is {}", *recipe.density), "a share above 0 and at most 1");
  if (recipe.svd_rank && !ends_in_svd(recipe.type))
    unfit(fmt::format("svd_rank is given, and combination_type {} has no choice of rank", recipe.type),
          "leave it out, or choose one that ends in svd");
  if (recipe.majority_sign_method != "total" && recipe.majority_sign_method != "frequency")
    unfit("majority_sign_method is " + recipe.majority_sign_method, "total or frequency");
}

}  // namespace

std::span<const char* const> combination_types() { return kCombinationTypes; }
bool draws_masks(const std::string& type) { return type.starts_with("dare_"); }
bool takes_density(const std::string& type) { return rule_of(type) != MergeRule::sum; }
bool ends_in_svd(const std::string& type) { return type.ends_with("svd"); }

uint64_t mask_seed(uint64_t seed, const std::string& path) {
  uint32_t crc = ~0u;
  for (const char c : path) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  return seed + static_cast<uint32_t>(~crc);
}

Combination combine(const std::vector<std::string>& folders, const CombinationRecipe& given,
                    const std::function<void(int64_t, int64_t)>& done) {
  CombinationRecipe recipe = given;
  check_recipe(recipe, folders.size());
  if (folders.empty()) unfit("no adapter is given", "loraine adapter merge ADAPTER ADAPTER… --output_dir DIR");
  if (folders.size() == 1) recipe.type = "linear", recipe.density.reset();  // as with PEFT: the adapter times its weight
  Files files;
  std::vector<std::string> paths;
  Combination out;
  for (const std::string& folder : folders) {
    files.push_back(std::make_unique<LowRankFile>(folder));
    refuse_beside(*files.back(), "merged");
    if (files.back()->config().adalora && !ends_in_svd(recipe.type) && recipe.type != "cat")
      unfit(fmt::format("{} is one of AdaLoRA, and combination_type {} adds A to A and B to B", folder, recipe.type), "choose cat or svd");
    for (const LowRankPlace& place : files.back()->modules()) paths.push_back(place.path);
    const std::string &first = files.front()->config().base_model_name_or_path, &base = files.back()->config().base_model_name_or_path;
    if (base != first)
      out.notes.push_back(fmt::format("{} was made for {}, and {} for {}: the sum is for the first", folders[0], first, folder, base));
  }
  std::ranges::sort(paths, before_by_number);
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  out.rank = combined_rank(files, recipe);
  if (out.rank < 1) unfit(fmt::format("svd_rank is {}", out.rank), "a rank of at least 1");
  const MergeOptions options{rule_of(recipe.type), recipe.density.value_or(1), recipe.majority_sign_method == "frequency"};
  for (const std::string& path : paths) {
    SharedModule shared = read_module(files, recipe.weights, path);
    std::mt19937 random(static_cast<uint32_t>(mask_seed(recipe.seed, path)));
    out.written.modules.push_back(recipe.type == "cat"       ? concatenated(shared, out.rank)
                                  : ends_in_svd(recipe.type) ? by_svd(shared, out.rank, options, random)
                                                             : by_factors(shared, out.rank, options, random));
    if (done) done(static_cast<int64_t>(out.written.modules.size()), static_cast<int64_t>(paths.size()));
  }
  out.written.targets = joined_targets(files);
  out.written.base = files.front()->config().base_model_name_or_path;
  return out;
}

}  // namespace loraine
