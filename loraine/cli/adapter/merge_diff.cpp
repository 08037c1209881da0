// loraine adapter merge and diff: several adapters at a time.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "loraine/adapters/combine/combine.h"
#include "loraine/adapters/compare/difference.h"
#include "loraine/cli/adapter/adapter.h"
#include "loraine/cli/adapter/words.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/train/records/plot.h"

namespace loraine {
namespace {

struct MergeSettings {
  std::string output_dir, weights, combination_type = "cat", majority_sign_method = "total", dtype = "float32";
  std::optional<double> density;
  std::optional<int64_t> svd_rank;
  int64_t seed = 42;
  bool overwrite_output_dir = false;
};
std::vector<Option> merge_options(MergeSettings& s) {
  const std::string group = "adapter merge";
  const auto types = combination_types();
  return {
      {"output_dir", group, &s.output_dir, "where the new adapter goes"},
      {"weights",
       group,
       &s.weights,
       "one number for each adapter, in their order; negative ones take away. Default: 1 each",
       {.comma_list = true}},
      {"combination_type",
       group,
       &s.combination_type,
       "PEFT's: how they become one (adapters.md)",
       {.choices = {types.begin(), types.end()}}},
      {"density",
       group,
       &s.density,
       "of ties, dare_* and magnitude_prune: the share of values that are kept",
       {.lowest = 0, .highest = 1, .above_lowest = true}},
      {"majority_sign_method",
       group,
       &s.majority_sign_method,
       "of ties and dare_ties: the sign of the sum, or the one that most have",
       {.choices = {"total", "frequency"}}},
      {"svd_rank",
       group,
       &s.svd_rank,
       "of svd and *_svd: the new rank; none: the largest of the adapters",
       {.lowest = 1, .highest = 65536}},
      {"seed", group, &s.seed, "of the masks of dare_*", {.lowest = 0, .highest = 4294967295.0}},
      {"dtype", group, &s.dtype, "type of the tensors", {.choices = {std::begin(kAdapterTypes), std::end(kAdapterTypes)}}},
      {"overwrite_output_dir", group, &s.overwrite_output_dir, "write over an adapter that is there"},
  };
}

struct DiffSettings {
  bool json = false;
  int64_t rank = 0;
  std::string plot;
};
std::vector<Option> diff_options(DiffSettings& s) {
  return {
      {"rank", "adapter diff", &s.rank, "φ of at most so many directions; 0: the smaller rank of the two", {.lowest = 0, .highest = 65536}},
      {"plot", "adapter diff", &s.plot,
       "a picture (.png or .svg) of the relative distance layer by layer, a curve for each kind of module"},
      {"json", "adapter diff", &s.json, "as JSON"}};
}

// A line that moves on while modules are worked through.
std::function<void(int64_t, int64_t)> shown_progress(Progress& progress) {
  return [&progress](int64_t step, int64_t total) {
    progress.update({.step = step, .total = total, .loss = {}, .learning_rate = {}, .tokens_per_second = {}, .memory_bytes = {}});
  };
}

void print_text(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

std::string merge_story(const std::vector<std::string>& names, const CombinationRecipe& recipe) {
  std::string text = fmt::format("Made of saved adapters by `loraine adapter merge`, combination_type `{}`", recipe.type);
  if (recipe.density) text += fmt::format(", density {}", *recipe.density);
  if (takes_density(recipe.type) && recipe.type.find("ties") != std::string::npos)
    text += ", majority_sign_method " + recipe.majority_sign_method;
  if (draws_masks(recipe.type)) text += fmt::format(", seed {}", recipe.seed);
  text += ".\n\n| adapter | weight |\n|---|---|\n";
  for (size_t i = 0; i < names.size(); ++i) text += fmt::format("| {} | {} |\n", names[i], recipe.weights[i]);
  return text;
}

std::string number_text(const std::optional<double>& x) { return x ? fmt::format("{:.4g}", *x) : "–"; }

Value difference_json(const DeltaDifference& d) {
  const auto or_null = [](const std::optional<double>& x) { return x ? Value(*x) : Value(); };
  Value json = {{"first_norm", or_null(d.first)},  {"second_norm", or_null(d.second)}, {"distance", d.distance},
                {"relative_distance", d.relative}, {"cosine", or_null(d.cosine)},      {"phi_in", or_null(d.phi_in)},
                {"phi_out", or_null(d.phi_out)}};
  if (!d.path.empty()) json["directions"] = d.k;
  return json;
}

// The number behind the first `layers` (or `h`, `blocks`) of a path, and what follows it.
bool layer_of(const std::string& path, int64_t& layer, std::string& kind) {
  for (size_t at = path.find('.'); at != std::string::npos; at = path.find('.', at + 1)) {
    const size_t end = path.find('.', at + 1);
    if (end == std::string::npos) return false;
    const std::string word = path.substr(at + 1, end - at - 1);
    if (word.empty() || word.size() > 6 || word.find_first_not_of("0123456789") != std::string::npos) continue;
    layer = std::stoll(word), kind = path.substr(end + 1);
    return true;
  }
  return false;
}

void draw_difference(const AdapterDifference& difference, const std::string& file, const std::string& title) {
  std::vector<NamedCurve> curves;
  for (const DeltaDifference& d : difference.modules) {
    int64_t layer = 0;
    std::string kind;
    if (!layer_of(d.path, layer, kind)) continue;
    auto at = std::ranges::find(curves, kind, &NamedCurve::name);
    if (at == curves.end()) at = curves.insert(curves.end(), {kind, {}});
    at->curve.steps.push_back(static_cast<double>(layer));
    at->curve.values.push_back(d.relative);
  }
  if (curves.empty()) throw Error(ErrorKind::usage, "plot: no module lies in a numbered layer", "leave plot out");
  plot_curves(file, curves, title, "relative distance");
}

}  // namespace

void describe_adapter_merge(const OptionVisitor& visit) {
  static MergeSettings settings;  // the options point into it
  for (const Option& option : merge_options(settings)) visit(option);
}
void describe_adapter_diff(const OptionVisitor& visit) {
  static DiffSettings settings;  // the options point into it
  for (const Option& option : diff_options(settings)) visit(option);
}

int run_adapter_merge(const std::vector<std::string>& args) {
  MergeSettings s;
  const auto places = read_adapter_words(args, merge_options(s));
  if (!places) return print_text(adapter_command_help("merge")), 0;
  if (places->empty())
    throw Error(ErrorKind::usage, "no adapter is given", "loraine adapter merge ADAPTER ADAPTER --weights 0.7,0.3 --output_dir DIR");
  check_free(s.output_dir, s.overwrite_output_dir);
  std::vector<std::string> folders;
  for (const std::string& place : *places) folders.push_back(adapter_at(place));
  CombinationRecipe recipe{s.combination_type, numbers_of(s.weights, "weights"), s.density, s.majority_sign_method,
                           s.svd_rank,         static_cast<uint64_t>(s.seed)};
  if (s.weights.empty()) recipe.weights.assign(folders.size(), 1.0);
  Progress progress("merging modules");
  Combination made = combine(folders, recipe, shown_progress(progress));
  progress.finish();
  for (const std::string& note : made.notes) print_stderr("warning: " + note + "\n");
  made.written.dtype = adapter_dtype(s.dtype);
  made.written.story = merge_story(*places, recipe);
  write_low_rank(made.written, s.output_dir, s.overwrite_output_dir);
  if (draws_masks(recipe.type))
    print_stderr(
        "note: the masks follow from the seed and each module's name; PEFT's own, drawn from the state that its generator is in, are "
        "others of the same "
        "distribution\n");
  print_stderr(fmt::format("wrote {}: {} modules of rank {}\n", s.output_dir, made.written.modules.size(), made.rank));
  return 0;
}

int run_adapter_diff(const std::vector<std::string>& args) {
  DiffSettings s;
  const auto places = read_adapter_words(args, diff_options(s));
  if (!places) return print_text(adapter_command_help("diff")), 0;
  if (places->size() != 2)
    throw Error(ErrorKind::usage, fmt::format("{} adapters are given, expected two", places->size()),
                "loraine adapter diff ADAPTER ADAPTER");
  Progress progress("comparing modules");
  const AdapterDifference found = compare_adapters(adapter_at((*places)[0]), adapter_at((*places)[1]), s.rank, shown_progress(progress));
  progress.finish();
  for (const std::string& note : found.notes) print_stderr("warning: " + note + "\n");
  if (!s.plot.empty()) {
    draw_difference(found, s.plot, (*places)[0] + " – " + (*places)[1]);
    print_stderr("wrote " + s.plot + "\n");
  }
  if (s.json) {
    Value modules = Value::object();
    for (const DeltaDifference& d : found.modules) modules[d.path] = difference_json(d);
    const Value whole = {{"first", (*places)[0]}, {"second", (*places)[1]}, {"total", difference_json(found.total)}, {"modules", modules}};
    print_text(whole.dump(2) + "\n");
    return 0;
  }
  std::vector<std::vector<std::string>> rows = {{"module", "‖ΔW₁‖", "‖ΔW₂‖", "distance", "relative", "cosine", "φ in", "φ out"}};
  const auto add = [&](const std::string& name, const DeltaDifference& d) {
    rows.push_back({name, number_text(d.first), number_text(d.second), number_text(d.distance), number_text(d.relative),
                    number_text(d.cosine), number_text(d.phi_in), number_text(d.phi_out)});
  };
  for (const DeltaDifference& d : found.modules) add(d.path, d);
  add("all", found.total);
  print_text(table_text("", rows));
  return 0;
}

}  // namespace loraine
